"""``python -m tests.bench.looping KIND ADDRESS DATABASE``: a program that does its work for ever.

For each line on stdin it does it once more, and prints as JSON what it holds then.
"""

import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from spanctl.errors import StatementError
from spanctl.spanner.client import Database, shared
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.fixtures.cli import child_environment


def held() -> dict[str, int]:
    """Return what this process holds: descriptors, sockets, threads, objects and memory in KiB."""
    gc.collect()
    descriptors = [
        str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()
    ]
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {
        "descriptors": len(descriptors),
        "sockets": sum(one.startswith("socket:") for one in descriptors),
        "threads": max(threading.active_count(), len([*Path("/proc/self/task").iterdir()])),
        "objects": len(gc.get_objects()),
        "memory": next(int(one.split()[1]) for one in status if one.startswith("VmRSS:")),
    }


def library(address: str, name: str) -> Callable[[int], object]:
    """Work with the database that the process shares, and with one that it opens and closes."""
    target = raw.target(address, name)

    def work(number: int) -> None:
        for database in (shared(target), Database(target)):
            with Run(database, f"loop-{os.getpid()}-{number}-{id(database)}") as run:
                run.step(
                    "add", lambda txn: txn.execute_update("UPDATE t SET v = v + 1 WHERE k = 1")
                )
                with contextlib.suppress(StatementError):
                    run.step("fail", lambda txn: txn.insert("t", ["k"], [[1]]))
            list(database.query("SELECT v FROM t"))
            if database is not shared(target):
                database.close()

    return work


def flow(address: str, name: str) -> Callable[[int], object]:
    """Run a flow in this process: a step, a task in a thread, a subflow."""
    from prefect import flow as prefect_flow
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from spanctl.flows import transaction, using

    target = raw.target(address, name)

    @transaction(name="add")
    def add(txn) -> None:
        txn.execute_update("UPDATE t SET v = v + 1 WHERE k = 1")

    @prefect_flow(name="part")
    def part() -> None:
        add()

    @prefect_flow(name="whole")
    def whole() -> None:
        add()
        add.submit().result()
        part()

    def work(_: int) -> None:
        at_once = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
        with at_once, using(database=target, initiator="ada@example.com"):
            whole()

    return work


KINDS = {"library": library, "flow": flow}


class Looping:
    """The program as a child of this one."""

    def __init__(self, kind: str, address: str, name: str) -> None:
        """Start it when the block is entered."""
        self._command = [sys.executable, "-m", "tests.bench.looping", kind, address, name]

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            self._command,
            env=child_environment({"PREFECT_LOGGING_LEVEL": "ERROR"}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Have it end, as programs do."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def round(self) -> dict[str, int]:
        """Have it do its work once; return what it holds then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        held: dict[str, int] = json.loads(self._process.stdout.readline())
        return held


def main() -> None:
    """Work as often as there are lines."""
    kind, address, name = sys.argv[1:]
    work = KINDS[kind](address, name)
    for number, _ in enumerate(sys.stdin):
        work(number)
        sys.stdout.write(json.dumps(held()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
