"""Ports are free when they are called free."""

import socket
from collections.abc import Iterator

import pytest

from spanctl.local import ports


@pytest.fixture(params=["plain", "reuseport", "any address"])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        if request.param == "reuseport":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("0.0.0.0" if request.param == "any address" else "127.0.0.1", 0))  # noqa: S104
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_not_free(taken: int) -> None:
    """Also one whose listener would share it, and one that listens on every address."""
    assert not ports.is_free(taken)


def test_choose_keeps_the_preferred_port_only_while_it_is_free(taken: int) -> None:
    """A remembered port is had again, unless somebody took it meanwhile."""
    free = ports.choose()
    assert ports.choose(free) == free
    assert ports.choose(taken) != taken
    assert ports.choose(free, frozenset({free})) != free


def test_listeners_counts_those_that_share_a_port() -> None:
    """Two sockets on one port are seen as two."""
    port = ports.choose()
    assert ports.listeners(port) == 0
    with socket.socket() as one, socket.socket() as two:
        for count, listener in enumerate((one, two), start=1):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen()
            assert ports.listeners(port) == count
