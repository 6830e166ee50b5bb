"""Strangers who connect and dawdle, alone or in a crowd, keep nobody out of the HTTP doors."""

import contextlib
import http.client
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from spanctl.clock import now
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.loopback import TokenEndpoint
from spanctl.credentials.secret import Secret
from spanctl.doors import Door, open_wide
from spanctl.local.standins.authority import Authority
from spanctl.local.standins.certificates import Certificates
from spanctl.local.standins.files import Places
from spanctl.local.standins.https import Server

PATIENCE: Final = 60.0
FOR_EVER: Final = 1e9
MOST: Final = 3
CROWD: Final = 4 * MOST
ENOUGH: Final = b"Content-Length: 0\r\n\r\n"


class Opened(NamedTuple):
    """A door that is open."""

    port: int
    trust: ssl.SSLContext | None

    @property
    def start(self) -> bytes:
        """Return how a request begins."""
        return f"POST /token HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n".encode()

    def connect(self) -> socket.socket:
        """Connect, and say nothing."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def begin(self, silent: socket.socket) -> socket.socket:
        """Speak TLS where the door does."""
        return self.trust.wrap_socket(silent, server_hostname="127.0.0.1") if self.trust else silent

    def answered(self, silent: socket.socket, rest: bytes) -> int:
        """Say the rest on a connection, and return the status."""
        silent.sendall(rest)
        with http.client.HTTPResponse(silent) as response:
            response.begin()
            response.read()
            return response.status

    def asked(self) -> int:
        """Ask as everybody does."""
        with self.connect() as plain, self.begin(plain) as speaking:
            return self.answered(speaking, self.start + ENOUGH)


class Nothing:
    """Answers every request alike."""

    def answer(self, *_: object) -> tuple[HTTPStatus, dict[str, Any]]:
        """Refuse it."""
        return HTTPStatus.BAD_REQUEST, {}


@contextlib.contextmanager
def front(folder: Path) -> Iterator[Opened]:
    """Open the IAM stand-in's door."""
    places = Places(folder / "identity")
    places.create()
    Authority(places).ensure()
    served = Server(Nothing(), 0, Certificates(places).context)  # type: ignore[arg-type]
    try:
        yield Opened(served.port, ssl.create_default_context(cafile=str(places.bundle)))
    finally:
        served.stop()


@contextlib.contextmanager
def lender(_folder: Path) -> Iterator[Opened]:
    """Open the lender's door."""
    lent = AccessToken(token=Secret("t"), expiry=now() + timedelta(hours=1))
    with TokenEndpoint(Secret("subject"), lambda: lent) as endpoint:
        yield Opened(int(endpoint.url.rpartition(":")[2].partition("/")[0]), None)


Opening = Callable[[Path], contextlib.AbstractContextManager[Opened]]
doors = pytest.mark.parametrize("opening", [front, lender])


def is_shown_out(connection: socket.socket) -> bool:
    """Wait for the end of a connection; a test that fails waits for long."""
    try:
        return not connection.recv(1)
    except ConnectionError:
        return True


def set_door(patch: pytest.MonkeyPatch, *, most: float, patience: float) -> None:
    for kind in (Door, *Door.__subclasses__()):
        patch.setattr(kind, "most", most)
        patch.setattr(kind, "patience", patience)


@doors
def test_a_crowd_makes_room(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those who say nothing the first ones are shown out, and whoever asks is answered."""
    set_door(monkeypatch, most=MOST, patience=FOR_EVER)
    with opening(tmp_path) as door, contextlib.ExitStack() as crowd:
        held = [crowd.enter_context(door.connect()) for _ in range(CROWD)]
        assert all(is_shown_out(one) for one in held[:-MOST])
        assert door.asked() == HTTPStatus.BAD_REQUEST


@doors
def test_a_crowd_would_be_let_in(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without a limit each of them holds a thread and a file for as long as it likes."""
    set_door(monkeypatch, most=FOR_EVER, patience=FOR_EVER)
    with opening(tmp_path) as door, contextlib.ExitStack() as crowd:
        before = {*threading.enumerate()}
        held = [crowd.enter_context(door.connect()) for _ in range(CROWD)]
        assert door.asked() == HTTPStatus.BAD_REQUEST  # the crowd came before
        assert len({*threading.enumerate()} - before) >= CROWD
        with door.begin(held[0]) as first:
            assert door.answered(first, door.start + ENOUGH) == HTTPStatus.BAD_REQUEST


DAWDLES: Final = {
    "nothing at all": b"",
    "a header that goes on and on": b"X-Long: ",
    "a body that never comes": b"Content-Length: 65000\r\n\r\n",
}


@doors
@pytest.mark.parametrize("said", DAWDLES.values(), ids=DAWDLES.keys())
def test_a_dawdler_is_shown_out(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    """However often it says another byte."""
    set_door(monkeypatch, most=FOR_EVER, patience=0.1)
    with opening(tmp_path) as door, door.connect() as plain:
        speaking = door.begin(plain) if said else plain
        with speaking, contextlib.suppress(ConnectionError):
            speaking.settimeout(0.01)
            speaking.sendall(said and door.start + said)
            for _ in range(int(PATIENCE / 0.01)):
                with contextlib.suppress(TimeoutError):
                    assert not speaking.recv(1)
                    break
                if said:
                    speaking.sendall(b"x")
            else:
                pytest.fail("it was never shown out")
        set_door(monkeypatch, most=FOR_EVER, patience=FOR_EVER)
        assert door.asked() == HTTPStatus.BAD_REQUEST


@doors
def test_a_dawdler_would_be_heard(
    opening: Opening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: with all the time there is, a request that comes in bytes is answered."""
    set_door(monkeypatch, most=FOR_EVER, patience=FOR_EVER)
    with opening(tmp_path) as door, door.connect() as plain, door.begin(plain) as speaking:
        for byte in door.start:
            speaking.sendall(bytes([byte]))
        assert door.asked() == HTTPStatus.BAD_REQUEST
        assert door.answered(speaking, ENOUGH) == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("length", ["9" * 5000, str(1 << 40), "-1", "0x10", "1e9"])
def test_what_is_announced_is_not_believed(
    tmp_path: Path, length: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Gigabytes, and what is no number, are refused before anything of them is read."""
    with front(tmp_path) as door, door.connect() as plain, door.begin(plain) as speaking:
        announced = f"Content-Length: {length}\r\n\r\n".encode()
        assert (
            door.answered(speaking, door.start + announced) == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        )
        assert is_shown_out(speaking)
    assert not caplog.records


def test_there_is_room_for_many() -> None:
    """A process that serves takes as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
        open_wide()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(hard, 65_536) or soft < 1024
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
