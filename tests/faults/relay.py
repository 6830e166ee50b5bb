"""A TCP relay whose connections can be cut, as a failing network cuts them."""

import contextlib
import socket
import struct
import threading
from typing import Self

_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Accept on a free loopback port and pass bytes to and from ``upstream`` until it is cut."""

    def __init__(self, upstream: tuple[str, int], port: int = 0) -> None:
        """Listen; a port that is taken is refused.

        Raises:
            OSError: The port is taken.
        """
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._refusing = False
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._refusing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=5)
        self.cut()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """Reset every connection at once; new ones are accepted as before."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def refuse(self, *, refusing: bool = True) -> None:
        """From now on reset what connects (or, with False, accept it again)."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            with contextlib.suppress(OSError):  # cut while it was being set up
                self._join(client)

    def _join(self, client: socket.socket) -> None:
        """Pass on what one client sends, and what it is answered."""
        server = socket.create_connection(self._upstream)
        with self._lock:
            self._sockets |= {client, server}
        for source, sink in ((client, server), (server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            with self._lock:
                known = one in self._sockets
                self._sockets.discard(one)
            if known:
                one.close()
