"""Whose a listener is: nothing is sent to another user who has taken a port."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from spanctl.peers import strangers_on
from tests.fixtures.cli import child_environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
LISTEN = """
import os, socket, sys
user = int(sys.argv[1])
os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
made = socket.create_server((sys.argv[2], 0), family=getattr(socket, sys.argv[3]))
print(made.getsockname()[1], flush=True)
while True:
    made.accept()[0].close()
"""
CONNECT = """
import asyncio, http.client, socket, sys
from spanctl.peers import trust_only_own

port = int(sys.argv[1])
if sys.argv[2] == "guarded":
    trust_only_own(f"http://localhost:{port}/api")
told = []

def tried(connect):
    try:
        connect()
    except OSError as error:
        return type(error).__name__
    return "connected"

host = sys.argv[3]
told.append(tried(lambda: socket.create_connection((host, port), 5).close()))
told.append(tried(lambda: http.client.HTTPConnection(host, port, timeout=5).connect()))
told.append(tried(lambda: asyncio.run(asyncio.open_connection(host, port))))
print(*told)
"""


@contextlib.contextmanager
def listener(user: int, host: str = "127.0.0.1") -> Iterator[int]:
    family = "AF_INET6" if ":" in host else "AF_INET"
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(user), host, family], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def connected(port: int, how: str, host: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, str(port), how, host],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])  # noqa: S104 - a stranger's
def test_a_stranger_is_not_spoken_to(host: str) -> None:
    """By no library, at no name of this machine; without the guard each of them connects."""
    there = "::1" if host == "::1" else "127.0.0.1"
    with listener(65534, host) as port:
        assert strangers_on(port)
        assert connected(port, "guarded", there) == ["ConnectionRefusedError"] * 3
        assert connected(port, "open", there) == ["connected"] * 3


def test_one_s_own_is() -> None:
    """And another port is nobody's business."""
    with listener(os.geteuid()) as port, listener(65534) as other:
        assert not strangers_on(port)
        assert connected(port, "guarded", "127.0.0.1") == ["connected"] * 3
        assert strangers_on(other)
