"""Whatever answers in place of Prefect or of Google: it holds no command, and fills no memory."""

import contextlib
import gzip
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

import pytest
import requests
from google.auth import exceptions

from spanctl.credentials import http
from spanctl.credentials.endpoints import Endpoints
from spanctl.errors import SpanctlError, UnreachableError
from spanctl.orchestration import connections
from spanctl.orchestration.fleet import server_time
from spanctl.orchestration.settings import ApiSettings
from spanctl.orchestration.transport import Transport

PATIENCE: Final = 60.0
SECONDS: Final = 0.3
MOST: Final = 1 << 20
HEAD: Final = b"HTTP/1.1 200 OK\r\n"
BODY: Final = b"{}"
Parts = Callable[[threading.Event], Iterator[bytes]]


def slowly(part: bytes, over: threading.Event) -> Iterator[bytes]:
    """Say something three times as long as anybody has to listen, in small pieces."""
    for _ in range(30):
        if over.wait(SECONDS / 10):
            return
        yield part


def body_in_bytes(over: threading.Event) -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 32\r\n\r\n"
    yield from slowly(b" ", over)
    yield BODY


def head_in_bytes(over: threading.Event) -> Iterator[bytes]:
    yield HEAD + b"X-Long: "
    yield from slowly(b"x", over)
    yield b"\r\nContent-Length: 2\r\n\r\n" + BODY


def head_after_heads(over: threading.Event) -> Iterator[bytes]:
    yield from slowly(b"HTTP/1.1 100 Continue\r\n\r\n", over)
    yield HEAD + b"Content-Length: 2\r\n\r\n" + BODY


def too_long(_over: threading.Event) -> Iterator[bytes]:
    yield HEAD + b"Connection: close\r\n\r\n" + BODY
    yield from (b" " * 1024 for _ in range(2 * MOST // 1024))


def too_long_in_chunks(_over: threading.Event) -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    yield from (b"400\r\n" + b" " * 1024 + b"\r\n" for _ in range(2 * MOST // 1024))
    yield b"0\r\n\r\n"


def without_a_bottom(_over: threading.Event) -> Iterator[bytes]:
    text = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    yield HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text


def cut(_over: threading.Event) -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 50\r\nConnection: close\r\n\r\n" + BODY


def gigantic_by_its_word(_over: threading.Event) -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 1%s\r\nConnection: close\r\n\r\n" % (b"0" * 15) + BODY


def packed(kind: bytes) -> Parts:
    """Return a bomb, small on the wire."""
    text = BODY + b" " * 2 * MOST
    by = {b"gzip": gzip.compress, b"deflate": zlib.compress}
    for one in kind.split(b", "):
        text = by.get(one, gzip.compress)(text)

    def answer(_over: threading.Event) -> Iterator[bytes]:
        yield HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (kind, len(text))
        yield text

    return answer


SLOW: Final = [body_in_bytes, head_in_bytes, head_after_heads]
LONG: Final = [too_long, too_long_in_chunks]
ODD: Final = [without_a_bottom, cut, gigantic_by_its_word]
PACKED: Final = [packed(kind) for kind in (b"gzip", b"deflate", b"gzip, gzip", b"br")]
ALL: Final = [*SLOW, *LONG, *ODD, *PACKED]


@contextlib.contextmanager
def answering(parts: Parts) -> Iterator[str]:
    """Answer every request so."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            for part in parts(over):
                connection.sendall(part)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listening.accept()[0]
                answers.append(threading.Thread(target=answer, args=(connection,)))
                answers[-1].start()

    answers: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            serving.join(PATIENCE)
            for one in answers:
                one.join(PATIENCE)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the bounds: what matters is that there are some."""
    monkeypatch.setattr(connections, "LARGEST", MOST)
    monkeypatch.setattr(http, "_LARGEST", MOST)
    monkeypatch.setattr(http, "TIMEOUT", SECONDS)


@pytest.mark.parametrize("parts", ALL)
def test_prefect_s_api_is_given_up(parts: Parts) -> None:
    """One line says so; none of its answer is in it."""
    with answering(parts) as url:
        api = Transport(ApiSettings(f"{url}/api"), timeout=SECONDS if parts in SLOW else PATIENCE)
        with contextlib.closing(api), pytest.raises(UnreachableError) as told:
            api.request("GET", "/health", repeatable=False)
    assert "\n" not in told.value.message
    assert ("more than" in told.value.message) is (parts in LONG)


@pytest.mark.parametrize("parts", ALL)
def test_an_identity_service_is_given_up(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """By our own calls, and by google-auth's through the same transport."""
    if parts not in SLOW:
        monkeypatch.setattr(http, "TIMEOUT", PATIENCE)
    with answering(parts) as url:
        asking = http.Http(Endpoints())
        with pytest.raises(UnreachableError) as told:
            http.call(asking, "GET", url, "asking")
        if parts is not cut:
            with pytest.raises(exceptions.TransportError):
                asking(url)
    assert "\n" not in told.value.message


@pytest.mark.parametrize("parts", SLOW[1:])
def test_a_server_s_clock_isn_t_waited_for(parts: Parts) -> None:
    """Its time is in the head of an answer."""
    with answering(parts) as url, pytest.raises(UnreachableError):
        server_time(ApiSettings(f"{url}/api"), timeout=SECONDS)


@pytest.mark.parametrize("parts", [*SLOW, *LONG, *PACKED[:3]])
def test_a_client_as_usual_takes_it_all(parts: Parts) -> None:
    """Control: a timeout for each byte, no bound, and whatever was packed in memory."""
    with answering(parts) as url:
        content = requests.get(url, timeout=PATIENCE / 10).content
    assert content.strip() == BODY
    assert len(content) >= (2 * MOST if parts not in SLOW else len(BODY))


def test_what_is_right_is_taken() -> None:
    """Control: in parts, in chunks, with a length and without, the same connection again."""
    date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")

    def right(_over: threading.Event) -> Iterator[bytes]:
        yield HEAD + f"Date: {date}\r\n".encode()
        yield b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"

    with answering(right) as url:
        assert http.call(http.Http(Endpoints()), "GET", url, "asking") == {}
        with contextlib.closing(Transport(ApiSettings(f"{url}/api"), timeout=PATIENCE)) as api:
            assert api.request("GET", "/health") == (200, {})
        assert server_time(ApiSettings(f"{url}/api"), timeout=PATIENCE) is not None


def test_nobody_is_sent_elsewhere() -> None:
    """A redirection takes neither a token nor an auth string along."""
    asked = threading.Event()

    def elsewhere(_over: threading.Event) -> Iterator[bytes]:
        asked.set()
        yield HEAD + b"Content-Length: 2\r\n\r\n" + BODY

    with answering(elsewhere) as there:

        def moved(_over: threading.Event) -> Iterator[bytes]:
            yield b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n"
            yield f"Location: {there}/\r\n\r\n".encode()

        with answering(moved) as url:
            with pytest.raises(SpanctlError):
                http.call(http.Http(Endpoints()), "GET", url, "asking")
            api = Transport(ApiSettings(f"{url}/api"), timeout=PATIENCE)
            with contextlib.closing(api), pytest.raises(SpanctlError):
                api.request("GET", "/health")
            assert not asked.is_set()
            requests.get(url, timeout=PATIENCE)
            assert asked.is_set(), "the control"
