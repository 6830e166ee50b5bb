"""Servers that everybody on the machine reaches: neither a crowd nor a dawdler keeps others out.

Who has connected and has not asked yet waits, and so does who has not taken the answer: so many at
most, for so long at most. Beyond that, who has waited longest is shown out.
"""

import contextlib
import resource
import socket
import socketserver
import threading
from typing import Any, Final

from spanctl.clock import monotonic

_FILES: Final = 65_536


class Door(socketserver.ThreadingTCPServer):
    """A TCP server with a thread for each connection; its handlers call :meth:`asked`.

    Attributes:
        most: How many may wait.
        patience: Seconds for which one may wait.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # the base class's 5 turn away whoever comes in a crowd
    most = 200
    patience = 120.0

    def __init__(self, address: tuple[str, int], handler: Any) -> None:  # noqa: ANN401 - the base's
        """Bind the address; nothing is answered yet.

        Raises:
            OSError: It is taken.
        """
        self._waiting: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        super().__init__(address, handler)

    def waits(self, connection: socket.socket) -> None:
        """Begin to wait for what a connection asks, or for it to take the answer."""
        with self._guard:
            self._waiting.pop(connection, None)
            self._waiting[connection] = monotonic()
            while len(self._waiting) > self.most:
                self._show_out(next(iter(self._waiting)))

    def asked(self, connection: socket.socket) -> None:
        """Wait no longer: the whole request is there."""
        with self._guard:
            self._waiting.pop(connection, None)

    def _show_out(self, connection: socket.socket) -> None:
        del self._waiting[connection]
        # Its thread waits for it, and ends. The base's method: TLS has state that is that thread's.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base's
        """Begin to wait for it, in a thread of its own."""
        self.waits(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the base's
        """Forget a connection, and close it."""
        self.asked(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Show out who has waited too long; the base class calls it between connections."""
        with self._guard:
            late = monotonic() - self.patience
            for connection in [one for one, since in self._waiting.items() if since < late]:
                self._show_out(connection)


def open_wide() -> None:
    """Let this process hold as many connections as the system lets it: by default few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(most, _FILES)
    with contextlib.suppress(ValueError, OSError):  # a system may give fewer than it names
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
