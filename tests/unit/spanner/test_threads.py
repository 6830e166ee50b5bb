"""What is made at the first use is made once, however many threads use it first."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from spanctl.errors import UnreachableError
from spanctl.orchestration.settings import ApiSettings
from spanctl.orchestration.transport import Transport
from spanctl.resources import DatabaseName
from spanctl.spanner import client
from spanctl.spanner.client import Database, Target
from spanctl.spanner.rpc import Rpc

THREADS = 8
NAME = DatabaseName("test-project", "test-instance", "test-db")
TARGET = Target(database=NAME, emulator_host="127.0.0.1:1")


class Slow:
    """Makes something new at each call, slowly enough for every thread to come by."""

    def __init__(self) -> None:
        self.made: list[object] = []

    def __call__(self, *_: object) -> object:
        time.sleep(0.05)
        self.made.append(object())
        return self.made[-1]


def at_once(ask: Callable[[], Any]) -> list[Any]:
    """Return what as many threads are given that ask at the same time."""
    barrier = threading.Barrier(THREADS)

    def one(_: int) -> Any:
        barrier.wait(10)
        return ask()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


@pytest.mark.parametrize(
    ("kind", "made"),
    [(Rpc, lambda: Rpc(TARGET)), (Transport, lambda: Transport(ApiSettings("http://127.0.0.1:1")))],
)
def test_one_connection(monkeypatch: pytest.MonkeyPatch, kind: Any, made: Any) -> None:
    """Threads that begin together share one channel: a second one would never be closed."""
    slow = Slow()
    monkeypatch.setattr(kind, "_connect", slow)
    found = made()
    assert at_once(lambda: found._client) == slow.made * THREADS  # noqa: SLF001 - behind every call


def test_one_reading_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's identity is read once, until it is to be read anew; a failure isn't kept."""
    slow = Slow()
    monkeypatch.setattr(client, "read_identity", slow)
    database = Database(TARGET)
    assert at_once(lambda: database.ledger) == slow.made * THREADS
    database.forget_ledger()
    assert database.ledger is not slow.made[0]

    def fails(_: object) -> None:
        raise UnreachableError(TARGET.host)

    database.forget_ledger()
    with monkeypatch.context() as patch:
        patch.setattr(client, "read_identity", fails)
        with pytest.raises(UnreachableError):
            _ = database.ledger
    assert database.ledger is slow.made[-1]
