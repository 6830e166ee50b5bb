"""Connections to one HTTP server, kept open and shared by threads; the standard library's client.

httpx takes longer to import than a short command takes altogether.
"""

import contextlib
import http.client
import os
import select
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import SplitResult, unquote, urlsplit

from spanctl import answers
from spanctl.clock import monotonic
from spanctl.errors import UsageError
from spanctl.proxies import is_loopback

if TYPE_CHECKING:
    import ssl

LARGEST: Final = 32 * 1024 * 1024
"""Bytes of an answer; a page of 200 runs has a few hundred thousand."""

_IDLE: Final = 8
_SHORTEST: Final = 0.05


class NotConnectedError(Exception):
    """The server was not reached: nothing was sent."""


class LostError(Exception):
    """No whole answer came; the request may have arrived."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    content: bytes


class Connections:
    """Connections to the server of a URL; thread-safe."""

    def __init__(
        self, url: str, headers: Mapping[str, str], trust: "ssl.SSLContext | None"
    ) -> None:
        """Remember where the server is; nothing is sent yet.

        Args:
            url: The URL that paths are put behind.
            headers: Sent with each request.
            trust: How the server is verified; needed for ``https``.

        Raises:
            UsageError: It is no such URL, or the proxy of the environment is none that can be used.
        """
        self._url = url
        self._headers = dict(headers)
        self._trust = trust
        self._server = _split(url, "of a Prefect API", "write it as http://HOST:PORT/api")
        self._proxy = _proxy(self._server)
        if self._proxy is not None and self._server.scheme == "http":
            self._headers |= _authorization(self._proxy)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def send(self, method: str, path: str, body: bytes | None, deadline: float) -> Answer:
        """Send a request once and return the answer.

        A server that has not answered by the deadline, a time of the monotonic clock, is given up.

        Raises:
            NotConnectedError: The server was not reached.
            LostError: It was, and no whole answer came in time.
            TooLongError: The answer has more bytes than ``LARGEST``.
        """
        connection = self._taken() or self._connected(deadline)
        try:
            answer = _asked(connection, method, self._target(path), body, self._headers, deadline)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise LostError from error
        except BaseException:
            connection.close()
            raise
        self._put_back(connection)
        return answer

    def add(self, headers: Mapping[str, str]) -> None:
        """Send these headers as well from now on."""
        self._headers = {**self._headers, **headers}

    def _target(self, path: str) -> str:
        if self._proxy is not None and self._server.scheme == "http":
            return f"{self._url}{path}"
        return f"{self._server.path}{path}"

    def _taken(self) -> http.client.HTTPConnection | None:
        """Return a connection that is open still, if one is."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            # What can be read before anything was asked is the server's goodbye.
            if connection.sock and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()

    def _put_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if connection.sock and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _connected(self, deadline: float) -> http.client.HTTPConnection:
        connection = self._made(max(_SHORTEST, deadline - monotonic()))
        try:
            connection.connect()
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            connection.close()
            raise NotConnectedError from error
        return connection

    def _made(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._server.hostname or "", self._server.port
        reached = (self._proxy.hostname or "", self._proxy.port or 80) if self._proxy else None
        if self._server.scheme == "http":
            where = reached or (host, port)
            return http.client.HTTPConnection(*where, timeout=timeout)
        secure = http.client.HTTPSConnection(
            *(reached or (host, port)), timeout=timeout, context=self._trust
        )
        if self._proxy is not None:
            secure.set_tunnel(host, port or 443, _authorization(self._proxy))
        return secure

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _asked(  # noqa: PLR0913, PLR0917 - a request, told in full
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: bytes | None,
    headers: Mapping[str, str],
    deadline: float,
) -> Answer:
    kind = {"Content-Type": "application/json"} if body is not None else {}
    connection.sock.settimeout(max(_SHORTEST, deadline - monotonic()))
    connection.request(method, target, body=body, headers={**headers, **kind})
    until = max(deadline, monotonic() + _SHORTEST)
    bounded = partial(answers.Answer, deadline=until, most=LARGEST)
    connection.response_class = cast("type[http.client.HTTPResponse]", bounded)
    with connection.getresponse() as response:
        return Answer(response.status, answers.whole(response))


def _split(url: str, what: str, hint: str) -> SplitResult:
    try:
        found = urlsplit(url)
        usable = found.scheme in {"http", "https"} and found.hostname and found.port != 0
    except ValueError:
        usable = False
    if not usable:
        msg = f"{url!r} is no URL {what}"
        raise UsageError(msg, hint=hint)
    return found


def _proxy(server: SplitResult) -> SplitResult | None:
    """Return the proxy that the environment names for a server, by the usual variables."""
    host = server.hostname or ""
    # A proxy of the environment must not get between us and this machine.
    if is_loopback(host) or not _names_a_proxy():
        return None
    import urllib.request

    if urllib.request.proxy_bypass(host):
        return None
    known = urllib.request.getproxies()
    text = known.get(server.scheme) or known.get("all")
    if not text:
        return None
    hint = "set HTTPS_PROXY as http://HOST:PORT, or name the server in NO_PROXY"
    with contextlib.suppress(ValueError):
        found = urlsplit(text if "://" in text else f"http://{text}")
        if found.scheme == "http" and found.hostname and found.port != 0:
            return found
    msg = "the proxy that the environment names can't be used for Prefect's API"
    raise UsageError(msg, hint=hint)


def _names_a_proxy() -> bool:
    return any(name.lower().endswith("_proxy") for name in os.environ)


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": basic(pair)}


def basic(pair: str) -> str:
    """Return the header that authenticates by ``user:password``."""
    import base64

    return f"Basic {base64.b64encode(pair.encode()).decode()}"
