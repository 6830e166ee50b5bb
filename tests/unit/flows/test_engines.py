"""What is different about a worker of ours."""

import asyncio
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.states import AwaitingRetry, Crashed, Pending, Running, Scheduled
from prefect.workers.process import ProcessWorker

from spanctl.flows import engines

TAKEN = [Scheduled(), Pending(), Running()]
DEAD = [*TAKEN, Crashed()]


@pytest.fixture
def proposed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a worker says of runs that crashed."""
    said: list[str] = []

    async def propose(_: Any, __: Any, message: str, **___: Any) -> None:
        said.append(message)

    monkeypatch.setattr(ProcessWorker, "_propose_crashed_state", propose)
    engines.report_once()
    return said


def report(states: list[Any], taken: Any, error: Exception | None = None) -> None:
    async def read(_: uuid.UUID) -> list[Any]:
        if error is not None:
            raise error
        return states

    worker: Any = SimpleNamespace(client=SimpleNamespace(read_flow_run_states=read))
    run: Any = SimpleNamespace(id=uuid.uuid4(), state=None, state_id=taken.id)
    told = ProcessWorker._propose_crashed_state(worker, run, "exited with -9")  # noqa: SLF001
    asyncio.run(told)


def test_a_run_that_runs_again_does_not_crash_once_more(proposed: list[str]) -> None:
    """The second word on its first attempt comes when somebody has it run again."""
    report([*DEAD, AwaitingRetry(), Pending()], taken=TAKEN[0])
    report(DEAD, taken=TAKEN[0])
    assert proposed == []


def test_a_crash_that_nobody_told_is_told(proposed: list[str]) -> None:
    """That of a first attempt is none of the second's; and where Prefect is lost, it is tried."""
    report(TAKEN, taken=TAKEN[0])
    again = AwaitingRetry()
    report([*DEAD, again, Pending(), Running()], taken=again)
    report([], taken=TAKEN[0], error=httpx.ConnectError("lost"))
    assert len(proposed) == 3
