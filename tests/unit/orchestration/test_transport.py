"""Requests against a server that misbehaves in every way it can."""

import base64
import json
import select
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from spanctl.errors import (
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
    UsageError,
)
from spanctl.orchestration import transport
from spanctl.orchestration.settings import ApiSettings
from spanctl.orchestration.transport import Transport
from tests.faults.emulator import free_port

OK = (200, b'{"fine": true}')
SECRET = "secret-word"  # noqa: S105 - what must not show


class Server:
    """Answers with what it is told, one answer a request, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | None] = [OK]
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                outer.requests.append((self.command, self.path, dict(self.headers), body))
                answers = outer.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if answer is None:  # the connection dies, as with a server that is killed
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the base class's names

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def http(server: Server) -> Iterator[Transport]:
    made = Transport(ApiSettings(server.url), timeout=5)
    yield made
    made.close()


@pytest.mark.parametrize("trouble", [(503, b""), (429, b"{}"), (502, b"<html>"), None])
def test_passing_trouble(
    server: Server, http: Transport, trouble: tuple[int, bytes] | None
) -> None:
    """A busy server, or one that hangs up, is asked again with the same request."""
    server.answers = [trouble, trouble, OK]
    assert http.request("POST", "/x", {"a": 1}) == (200, {"fine": True})
    assert [request[3] for request in server.requests] == [b'{"a":1}'] * 3


@pytest.mark.parametrize("trouble", [(503, b""), None])
def test_not_repeatable(server: Server, http: Transport, trouble: tuple[int, bytes] | None) -> None:
    """What may not be sent twice is sent once."""
    server.answers = [trouble, OK]
    with pytest.raises(UnreachableError):
        http.request("POST", "/x", {}, repeatable=False)
    assert len(server.requests) == 1


def test_trouble_that_stays(server: Server, http: Transport) -> None:
    """A server that stays busy is unreachable in the end, within the deadline."""
    server.answers = [(503, b"")]
    http.timeout = 0.5
    with pytest.raises(UnreachableError, match="answered 503"):
        http.request("GET", "/x")
    assert 1 < len(server.requests) < 10


def test_nobody_listens() -> None:
    """A refused connection is told at once, not at the end of a long deadline."""
    http = Transport(ApiSettings(f"http://127.0.0.1:{free_port()}/api"), timeout=3600)
    with pytest.raises(UnreachableError, match="did not answer"):
        http.request("GET", "/x")
    http.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, NotPermittedError),
        (403, NotPermittedError),
        (404, NotFoundError),
        (400, UsageError),
        (409, UsageError),
        (422, UsageError),
        (418, SpanctlError),
    ],
)
def test_refusals(server: Server, http: Transport, status: int, error: type[SpanctlError]) -> None:
    """A refusal is told by its kind, once, and never repeats what the server or the caller said."""
    server.answers = [(status, json.dumps({"detail": SECRET}).encode())]
    with pytest.raises(error) as caught:
        http.request("POST", "/x", {"parameters": {"p": SECRET}})
    assert len(server.requests) == 1
    assert caught.value.details == {"status": status}
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_something_else_answers(server: Server, http: Transport) -> None:
    """A web page in place of the API is an error that says so."""
    server.answers = [(200, b"<html>hello</html>")]
    with pytest.raises(UnreachableError) as caught:
        http.request("GET", "/x")
    assert "/api" in caught.value.hint


@pytest.mark.parametrize("url", ["http://", "http://[::1/api", "ftp://127.0.0.1/api", "nonsense"])
def test_no_url(url: str) -> None:
    """A URL that can't be one is the user's to mend, not a traceback."""
    http = Transport(ApiSettings(url), timeout=1)
    with pytest.raises((UsageError, UnreachableError)):
        http.request("GET", "/x")
    http.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"key": "k"}, "Bearer k"),
        ({"auth_string": "user:a:b"}, f"Basic {base64.b64encode(b'user:a:b').decode()}"),
        ({"key": "k", "auth_string": "u:p"}, f"Basic {base64.b64encode(b'u:p').decode()}"),
    ],
)
def test_credentials(server: Server, settings: dict[str, str], expected: str | None) -> None:
    """A key goes as a bearer token, an auth string as basic authentication, which wins."""
    http = Transport(ApiSettings(server.url, **settings))
    http.request("GET", "/x")
    http.close()
    assert server.requests[0][2].get("Authorization") == expected


def test_no_proxy_before_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment doesn't see what is meant for a local server."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    http = Transport(ApiSettings(server.url), timeout=2)
    assert http.request("GET", "/x")[0] == 200
    http.close()


def test_a_proxy_before_another_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment is asked for what is elsewhere, with its own credentials."""
    proxy = server.url.removeprefix("http://").removesuffix("/api")
    monkeypatch.setenv("HTTP_PROXY", f"http://ann:word@{proxy}")
    http = Transport(ApiSettings("http://prefect.test/api", key="k"), timeout=5)
    assert http.request("GET", "/x") == (200, {"fine": True})
    http.close()
    _, path, headers, _ = server.requests[0]
    assert path == "http://prefect.test/api/x"
    assert headers["Proxy-Authorization"] == "Basic YW5uOndvcmQ="
    assert headers["Authorization"] == "Bearer k"


def test_no_proxy_that_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of another kind is refused without its credentials; NO_PROXY goes around it."""
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://ann:{SECRET}@127.0.0.1:1")
    http = Transport(ApiSettings("https://prefect.test/api"), timeout=1)
    with pytest.raises(UsageError) as caught:
        http.request("GET", "/x")
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_a_connection_is_used_again_until_the_server_ends_it() -> None:
    """Requests share a connection; one that the server ended meanwhile is made anew, unnoticed."""
    seen: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = len(seen) == 2  # without saying so

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    http = Transport(ApiSettings(f"http://127.0.0.1:{made.server_port}/api"), timeout=5)
    try:
        for _ in range(3):
            assert http.request("GET", "/x", repeatable=False) == (200, {})
            if len(seen) == 2:
                connection = http._client._idle[0]  # noqa: SLF001 - to wait for the goodbye
                assert select.select([connection.sock], [], [], 10)[0]
    finally:
        http.close()
        made.shutdown()
        made.server_close()
        thread.join()
    assert seen[0] == seen[1] != seen[2]


def test_closing_what_was_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making and closing a transport connects to nothing and builds no client."""
    monkeypatch.setattr(transport.Transport, "_trust", lambda _: pytest.fail("a client was built"))
    Transport(ApiSettings("http://127.0.0.1:1/api")).close()


def test_a_guard_against_forged_requests_gets_its_token(server: Server, http: Transport) -> None:
    """It is fetched once, sent from then on, and fetched again when it is no longer taken."""
    asks = (403, b'{"detail": "Missing CSRF token."}')
    other = (403, b'{"detail": "Invalid CSRF token or client identifier."}')
    first, second = (200, b'{"token": "one"}'), (200, b'{"token": "two"}')
    server.answers = [asks, first, OK, OK, other, second, OK]
    for _ in range(3):
        assert http.request("POST", "/flows/", {"a": 1}) == (200, {"fine": True})
    told = [
        (method, path.partition("?")[0], headers.get("Prefect-Csrf-Token"))
        for method, path, headers, _ in server.requests
    ]
    posted = ("POST", "/api/flows/")
    assert told == [
        (*posted, None),
        ("GET", "/api/csrf-token", None),
        (*posted, "one"),
        (*posted, "one"),
        (*posted, "one"),
        ("GET", "/api/csrf-token", "one"),
        (*posted, "two"),
    ]
    sent = server.requests[2]
    assert sent[3] == b'{"a":1}'
    assert sent[2]["Prefect-Csrf-Client"] == server.requests[1][1].partition("client=")[2]


@pytest.mark.parametrize(
    "token", [(422, b"{}"), (200, b"nothing"), (200, b"[]"), (200, b"{}"), None]
)
def test_a_token_that_is_not_had_ends_it(
    server: Server, http: Transport, token: tuple[int, bytes] | None
) -> None:
    """The refusal is told, after one try."""
    asks = (403, b'{"detail": "Missing CSRF token."}')
    server.answers = [asks, token, asks]
    with pytest.raises(NotPermittedError):
        http.request("POST", "/flows/", {})
    assert len(server.requests) == 2


def test_a_refusal_of_another_kind_asks_for_no_token(server: Server, http: Transport) -> None:
    """What is not permitted is told at once."""
    server.answers = [(403, b'{"detail": "no"}')]
    with pytest.raises(NotPermittedError):
        http.request("POST", "/flows/", {})
    assert len(server.requests) == 1


@pytest.mark.parametrize("word", ["user:word", "word", "user:wo:rd", "user:wörd", ":"])
def test_an_auth_string_is_sent_as_it_is(server: Server, word: str) -> None:
    """Prefect's server compares the whole of it, with or without a colon."""
    http = Transport(ApiSettings(server.url, auth_string=word))
    http.request("GET", "/health")
    http.close()
    kind, _, sent = server.requests[0][2]["Authorization"].partition(" ")
    assert (kind, base64.b64decode(sent).decode()) == ("Basic", word)
