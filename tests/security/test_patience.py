"""Strangers who dawdle at the stack's Prefect server are shown out, and hold up nobody."""

import asyncio
import contextlib
import http.client
import socket
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.importer import import_from_string
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from spanctl.credentials import hardening
from spanctl.credentials.secret import Secret
from spanctl.flows import opening
from spanctl.local import guard
from spanctl.local.guard import FirstWord, patient
from tests.security.stranger import PATIENCE

SECONDS: Final = 0.1
FOR_EVER: Final = 1e6
HEAD: Final = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
ASK: Final = b"GET /unread HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Answers at once, or after it was told to, or after it has read everything."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or wait for a login as Prefect's server does."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            said = await receive()
            while said["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": said["text"]})
                said = await receive()
            return
        if scope["path"] == "/read":
            while (await receive()).get("more_body"):
                pass
        if scope["path"] == "/slow":
            self.began.set()
            await asyncio.to_thread(self.may_end.wait, PATIENCE)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@contextlib.contextmanager
def serving(app: Any, kind: type[Any]) -> Iterator[int]:
    """Serve with a protocol, on a thread; yield the port."""
    config = uvicorn.Config(app, port=0, http=kind, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


def begun(port: int, said: bytes = b"") -> socket.socket:
    """Connect, and say something."""
    speaking = socket.create_connection(("127.0.0.1", port), PATIENCE)
    speaking.sendall(said)
    return speaking


def answered(speaking: socket.socket, rest: bytes) -> bytes:
    """Say the rest, and return the answer."""
    speaking.sendall(rest)
    with http.client.HTTPResponse(speaking) as response:
        response.begin()
        return response.read()


def is_shown_out(speaking: socket.socket, drip: bytes) -> bool:
    """Say a byte again and again, until the connection is ended."""
    speaking.settimeout(0.01)
    with contextlib.suppress(ConnectionError):
        for _ in range(int(PATIENCE / 0.01)):
            with contextlib.suppress(TimeoutError):
                if not speaking.recv(65_536):
                    return True
            speaking.sendall(drip)
        return False
    return True


DAWDLES: Final = {
    "nothing at all": (b"", b""),
    "a header that goes on and on": (HEAD % b"unread" + b"X-Long: ", b"x"),
    "a body that is read": (HEAD % b"read" + b"\r\n", b"x"),
    "a body that was answered": (HEAD % b"unread" + b"\r\n", b"x"),
}


@pytest.mark.parametrize(("said", "drip"), DAWDLES.values(), ids=DAWDLES.keys())
def test_a_dawdler_is_shown_out(said: bytes, drip: bytes) -> None:
    """Whatever it does between two bytes."""
    with (
        serving(App(), patient(H11Protocol, SECONDS)) as port,
        begun(port, said) as dawdler,
        begun(port) as other,
    ):
        assert answered(other, ASK) == b"done"
        assert is_shown_out(dawdler, drip)


def test_uvicorn_would_wait_for_ever() -> None:
    """Control: its own protocol still listens when the other has shown its dawdlers out."""
    with (
        serving(App(), H11Protocol) as naive,
        serving(App(), patient(H11Protocol, SECONDS)) as port,
        begun(naive) as silent,
        begun(naive, ASK[:-4]) as half,
        begun(port) as first,
    ):
        assert is_shown_out(first, b"")
        assert answered(silent, ASK) == b"done"
        assert answered(half, ASK[-4:]) == b"done"


def test_who_is_being_answered_stays() -> None:
    """However long the server takes itself."""
    app = App()
    with serving(app, patient(H11Protocol, SECONDS)) as port, begun(port) as asking:
        asking.sendall(ASK.replace(b"unread", b"slow"))
        assert app.began.wait(PATIENCE)
        for _ in range(3):
            with begun(port) as silent:
                assert is_shown_out(silent, b"")
        app.may_end.set()
        assert answered(asking, b"") == b"done"


def test_headers_have_an_end() -> None:
    """Of a head that never ends only a little is kept."""
    with (
        serving(App(), patient(H11Protocol, FOR_EVER)) as port,
        begun(port, ASK[:-2]) as speaking,
        contextlib.suppress(ConnectionError),
    ):
        for _ in range(10_000):
            speaking.sendall(b"X-More: %s\r\n" % (b"x" * 1000))
        pytest.fail("ten megabytes of headers were taken")


@pytest.mark.parametrize("seconds", [SECONDS, FOR_EVER])
def test_a_socket_on_which_nobody_logs_in_is_closed(seconds: float) -> None:
    """One that has spoken stays, for as long as it likes; the control waits for both."""
    with serving(FirstWord(App(), seconds), patient(H11Protocol, SECONDS)) as port:
        url = f"ws://127.0.0.1:{port}/"
        with connect(url, proxy=None) as speaking, connect(url, proxy=None) as silent:
            speaking.send("first")
            assert speaking.recv(PATIENCE) == "first"
            if seconds == SECONDS:
                with pytest.raises(ConnectionClosed):
                    silent.recv(PATIENCE)
            else:
                silent.send("late")
                assert silent.recv(PATIENCE) == "late"
            speaking.send("again")
            assert speaking.recv(PATIENCE) == "again"


def test_the_stack_s_server_is_made_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever uvicorn would choose by itself, and before all of Prefect's application."""
    server = SimpleNamespace(create_app=FastAPI)  # Prefect's own takes ten seconds to import
    monkeypatch.setitem(sys.modules, "prefect.server.api", SimpleNamespace(server=server))
    monkeypatch.setattr(hardening, "harden", lambda: None)
    monkeypatch.setattr(opening, "change", lambda _settings: None)
    monkeypatch.setattr(guard, "open_wide", lambda: None)
    monkeypatch.setattr(auto, "AutoHTTPProtocol", asyncio.Protocol)
    guard.close(Secret("spanctl:x"))
    chosen = import_from_string(HTTP_PROTOCOLS["auto"])
    assert issubclass(chosen, H11Protocol)
    assert chosen is not H11Protocol
    assert FirstWord in [one.cls for one in server.create_app().user_middleware]
