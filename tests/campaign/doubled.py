"""A flow run's executor, as a child of a zygote: it writes, and comes to grief as it is told."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock
from uuid import UUID

from prefect import flow, flow_engine, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.results import ResultStore
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from spanctl.errors import KeyReusedError
from spanctl.flows import transaction
from tests.campaign import ground
from tests.campaign.model import Side
from tests.campaign.zygote import Say
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT

WRITTEN: Final = "written"
REFUSED: Final = "refused"
_PATIENCE: Final = 240.0


class LostError(Exception):
    """What a flow fails with after its step has written."""


@transaction(name=ground.STEP)
def ours(txn, k: int) -> None:
    """Count up, as a step."""
    ground.count_up(txn, k)


@task(name=ground.STEP)
def naive(k: int) -> None:
    """Count up, as a plain task."""
    address = os.environ["SPANNER_EMULATOR_HOST"]
    with raw.database(address, os.environ["SPANCTL_DATABASE"], checked=False) as google:
        google.run_in_transaction(ground.count_up_naively, k=k)


def wait(path: Path) -> None:
    """Wait until a file is there.

    Raises:
        TimeoutError: It did not come.
    """
    until = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(path.name)
        time.sleep(0.01)


def _meet(plan: Mapping[str, Any]) -> None:
    """Say that the flow's body is running, and wait for whom the plan names."""
    if "arrives" in plan:
        told = Path(plan["arrives"])
        whole = told.with_suffix(".new")
        whole.write_text(str(os.getpid()))
        whole.rename(told)
    for other in plan.get("awaits", ()):
        wait(Path(other))


def _broken(*_: Any, **__: Any) -> None:
    msg = "no space left on the device"
    raise OSError(msg)


def execute(  # noqa: PLR0913 - as its zygote is told
    say: Say,
    *,
    flow_run: str,
    address: str,
    name: str,
    side: str,
    k: int,
    plan: Mapping[str, Any],
) -> None:
    """Execute a flow run of one write.

    Args:
        say: Tells the parent.
        flow_run: Its id.
        address: Where Spanner is.
        name: The database.
        side: Whose step it is.
        k: The row.
        plan: ``task_retries``, ``flow_retries``; ``fails`` once after the write; ``store_breaks``
            with the first result; ``arrives`` and ``awaits``, files; ``other``, another row under
            the same key; ``heartbeat``, seconds between two of them.
    """
    os.environ.update(
        SPANCTL_PROJECT=PROJECT,
        SPANCTL_INSTANCE=INSTANCE,
        SPANCTL_DATABASE=name,
        SPANNER_EMULATOR_HOST=address,
    )
    count_up = ours if side == Side.OURS else naive
    step = count_up.with_options(
        retries=plan.get("task_retries", 0), persist_result=bool(plan.get("store_breaks"))
    )
    failures = iter([LostError()] if plan.get("fails") else [])

    @flow(name="settle", retries=plan.get("flow_retries", 0))
    def settle() -> None:
        _meet(plan)
        if "other" in plan:
            _refused(say, k, plan["other"])
            return
        step(k)
        say(WRITTEN)
        for failure in failures:
            raise failure

    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(flow_run))
    with contextlib.ExitStack() as around:
        around.enter_context(_heartbeat(plan.get("heartbeat")))
        if plan.get("store_breaks"):
            patch = mock.patch.object(ResultStore, "persist_result_record", _broken)
            around.enter_context(patch)
        run_flow(settle, flow_run=found, return_type="state")


@contextlib.contextmanager
def _heartbeat(seconds: int | None) -> Iterator[None]:
    """Have the engine send one so often, as no setting allows; or none: its end takes a second."""
    if seconds is None:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield
        return
    with (
        mock.patch.object(flow_engine, "MINIMUM_HEARTBEAT_INTERVAL", seconds),
        mock.patch.object(flow_engine.BaseFlowRunEngine, "heartbeat_seconds", seconds),
    ):
        yield


def _refused(say: Say, k: int, other: int) -> None:
    ours(k, key="0")
    say(WRITTEN)
    try:
        ours(other, key="0")
    except KeyReusedError:
        say(REFUSED)
