"""After a bad end: how long the next writer waits, and how long it takes until all is resolved."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.bench.measure import Figure, Sample
from tests.campaign import ground
from tests.campaign.ground import Truth
from tests.faults import raw
from tests.faults.emulator import Emulator
from tests.fixtures.cli import child_environment

_WAYS = {
    "raise": None,
    "SIGINT": signal.SIGINT,
    "SIGTERM": signal.SIGTERM,
}
_ENDS = 5
_DEATHS = 8
_GOAL = 1.0


def figures() -> Iterator[Figure]:
    """Yield the next writer's wait for each way to end, then resolving after SIGKILL."""
    with Emulator() as emulator, ground.ledger(emulator.address) as name:
        for way, number in _WAYS.items():
            waits = [_wait(emulator.address, name, way, number) for _ in range(_ENDS)]
            yield Figure(
                name=f"next writer's wait after {way} in a body",
                unit="s",
                ours=Sample(tuple(waits)),
                goal=_GOAL,
            )
    for flags, said in (((ground.OBLIGING,), "obliging"), ((), "usual")):
        with Emulator(*flags) as emulator, ground.ledger(emulator.address) as name:
            took = [_resolved(emulator.address, name) for _ in range(_DEATHS)]
        yield Figure(
            name=f"txn resolve --all after kill -9, {said} emulator",
            unit="s",
            ours=Sample(tuple(took)),
        )


def _open(address: str, name: str, way: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.bench.dying", address, name, way]
    child = subprocess.Popen(
        command,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    return child


def _wait(address: str, name: str, way: str, number: signal.Signals | None) -> float:
    """Return how long the next writer takes, from the bad end on."""
    with Database(raw.target(address, name)) as database:
        run = Run(database, f"next-{time.time_ns()}")
        run.step("warm", lambda txn: txn.insert_or_update("t", ("k", "v"), [(1, 0)]))
        child = _open(address, name, way)
        began = time.monotonic()
        if number is not None:
            child.send_signal(number)
        run.step("next", lambda txn: txn.execute_update("UPDATE t SET v = v + 1 WHERE k = 1"))
        took = time.monotonic() - began
        run.close()
    child.wait(60)
    return took


def _resolved(address: str, name: str) -> float:
    """Return how long it takes after SIGKILL until nothing is unresolved."""
    with Truth(address, name) as truth:
        child = _open(address, name, "wait")
        child.kill()
        child.wait(60)
        began = time.monotonic()
        _, left = ground.resolve(truth)
        took = time.monotonic() - began
    assert not left
    return took
