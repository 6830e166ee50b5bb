"""A forwarding HTTP proxy in front of a real server: it refuses, drops or keeps silent at will.

Usable in a test::

    with HttpProxy("http://127.0.0.1:4200/api") as proxy:
        proxy.answer(503)
"""

import contextlib
import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

_PATIENCE = 60.0
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_PART = 65536


class HttpProxy:
    """It passes everything on, until it is told otherwise.

    Attributes:
        url: The server's URL by way of it.
        refused: How many requests it did not pass on.
    """

    def __init__(self, url: str) -> None:
        """Stand in front of a server on this machine."""
        found = urlsplit(url)
        self._upstream = (found.hostname or "", found.port or 80)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}{found.path}"
        self.refused = 0
        self._trouble: int | str | None = None
        self._path, self._passing = "", 0
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, status: int, path: str = "", *, after: int = 0) -> None:
        """Answer every request with a status from now on.

        Args:
            status: The status.
            path: Only those whose path holds this.
            after: How many of them are passed on before.
        """
        self._path, self._passing, self._trouble = path, after, status

    def drop(self) -> None:
        """Close every connection without an answer."""
        self._path, self._trouble = "", "drop"

    def hang(self) -> None:
        """Answer nothing, and keep the connections."""
        self._over.clear()
        self._path, self._trouble = "", "hang"

    def heal(self) -> None:
        """Pass on again."""
        self._trouble = None
        self._over.set()

    def handle(self, one: BaseHTTPRequestHandler) -> None:
        """Deal with a request."""
        trouble = self._trouble if self._path in one.path else None
        if trouble is not None and self._passing:
            self._passing, trouble = self._passing - 1, None
        body = one.rfile.read(int(one.headers.get("Content-Length") or 0))
        if trouble is not None:
            self.refused += 1
        if trouble == "hang":
            self._over.wait(_PATIENCE)
        if trouble is None:
            self._pass_on(one, body)
        elif isinstance(trouble, int):
            _reply(one, trouble, [], b'{"detail": "out of order"}')
        else:
            one.close_connection = True

    def _pass_on(self, one: BaseHTTPRequestHandler, body: bytes) -> None:
        if one.headers.get("Upgrade"):
            self._relay(one)
            return
        connection = http.client.HTTPConnection(*self._upstream, timeout=_PATIENCE)
        try:
            connection.request(one.command, one.path, body, dict(one.headers))
            answer = connection.getresponse()
            _reply(one, answer.status, answer.getheaders(), answer.read())
        except OSError:
            one.close_connection = True
        finally:
            connection.close()

    def _relay(self, one: BaseHTTPRequestHandler) -> None:
        one.close_connection = True
        head = f"{one.requestline}\r\n{one.headers}".encode()
        with socket.create_connection(self._upstream, _PATIENCE) as other:
            other.sendall(head)
            ways = {one.connection: other, other: one.connection}
            while self._trouble is None:
                for source in select.select([*ways], [], [], 0.05)[0]:
                    part = source.recv(_PART)
                    if not part:
                        return
                    ways[source].sendall(part)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Keep quiet: who is talked to may go at any time."""


def _reply(
    one: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    with contextlib.suppress(OSError):
        one.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                one.send_header(name, value)
        one.send_header("Content-Length", str(len(body)))
        one.end_headers()
        one.wfile.write(body)


def _handler(proxy: HttpProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            proxy.handle(self)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class's names

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    return Handler
