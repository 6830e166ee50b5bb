"""Flows that wait at a point to be killed, by their campaign: each run of them is some steps.

A run that comes to its point tells of it by a file, once for each death that is due, and waits. Who
executes it after that death finds the file and goes past.
"""

import ctypes
import os
import resource
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from prefect import flow, pause_flow_run
from prefect.runtime import flow_run

from spanctl.flows import transaction
from tests.campaign import failpoints, ground

DEADLINE: Final = 6.0
"""Seconds for a step. An emulator keeps heartbeats back so long, and the bound grows by it."""
RELEASED: Final = "released"
_PATIENCE: Final = 180.0
_LOCKED: Final = threading.Lock()
_waits_in_body: list[Mapping[str, Any]] = []


class LostError(Exception):
    """What a flow fails with, so that Prefect has it run again."""


def arrived(folder: Path, run: str) -> list[Path]:
    """Return the files by which a run has told that it came to its point."""
    return sorted(folder.glob(f"{run}.*"))


def arrive(plan: Mapping[str, Any]) -> bool:
    """Tell that this run has come to its point; False where all its deaths are behind it."""
    folder, run = Path(plan["folder"]), str(flow_run.get_id())
    before = len(arrived(folder, run))
    if before >= plan["deaths"]:
        return False
    whole = folder / f"-{run}"
    whole.write_text(f"{os.getpid()} {plan['first']}")
    whole.rename(folder / f"{run}.{before}")
    return True


def wait(plan: Mapping[str, Any]) -> None:
    """Come to the point, and wait there to be killed, or released."""
    if not arrive(plan):
        return
    if plan["point"] == "memory":
        exhaust_memory()
    until = time.monotonic() + plan.get("waits", _PATIENCE)
    while time.monotonic() < until and not (Path(plan["folder"]) / RELEASED).exists():
        time.sleep(0.05)


def exhaust_memory() -> None:
    """Take more memory than there is; what fails to get it aborts, as native code does."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), now + (64 << 20)))
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    while malloc(ctypes.c_size_t(1 << 20)):
        pass
    os.abort()


@transaction(name=ground.STEP, deadline=DEADLINE)
def count_up(txn, k: int) -> None:
    """Count a row up, and leave an event."""
    for plan in _waits_in_body:
        if plan["point"] == "body":
            wait(plan)
    ground.count_up(txn, k)
    for plan in _waits_in_body:
        if plan["point"] == "late in a body":
            wait(plan)


def _work(plan: Mapping[str, Any]) -> None:
    """Count rows up, one step each; the point is the second one."""
    point = plan["point"]
    if point.endswith(" commit"):
        folder, run = Path(plan["folder"]), str(flow_run.get_id())
        if len(arrived(folder, run)) < plan["deaths"]:
            failpoints.arm(point, lambda _: arrive(plan))
    for number in range(plan["steps"]):
        if number == 1:
            _come_to(point, plan)
        count_up(plan["first"] + number)
        _waits_in_body.clear()


def _come_to(point: str, plan: Mapping[str, Any]) -> None:
    if point in {"between steps", "memory"}:
        wait(plan)
    elif point in {"body", "late in a body"}:
        _waits_in_body.append(plan)
    elif point == "paused":
        arrive(plan)
        pause_flow_run(key="approval", timeout=_PATIENCE, poll_interval=1)
    elif point == "retry" and arrive(plan):
        raise LostError


@flow
def pay(plan: dict[str, Any]) -> None:
    """Count up."""
    _work(plan)


@flow(retries=2, retry_delay_seconds=40)
def pay_again(plan: dict[str, Any]) -> None:
    """Count up, and fail once before."""
    _work(plan)
