"""How a worker that runs in this process starts its flow runs, and how one ends in its own."""

import os
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect import flow_engine
from prefect.client.orchestration import get_client
from prefect.exceptions import Abort, PrefectException

from spanctl.errors import SpanctlError, SupersededError
from spanctl.flows import opening
from spanctl.invocation import DATABASE_LABEL, PROCESS_LABEL
from spanctl.processes import Hand, count_claims
from spanctl.settings import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect.client.schemas.objects import State


def start_with(module: str) -> None:
    """Have Prefect's process worker start each flow run as ``python -m MODULE``.

    Its own way goes through a second process, which imports Prefect as well. Where the deployment
    or the work pool names a command, that one is used, and gets what opens Prefect's API in its
    environment, as from any worker.
    """
    from prefect.utilities.processutils import command_to_string  # no flow run's process needs it
    from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

    class Configuration(ProcessJobConfiguration):
        def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Prefect's
            is_ours = self.command is None
            if is_ours:
                self.command = command_to_string([sys.executable, "-m", module])
            super().prepare_for_flow_run(*args, **kwargs)
            if not is_ours:  # nothing of ours runs there, which would read it itself
                self.env |= opening.environment()

    ProcessWorker.job_configuration = Configuration


def label_claimed() -> None:
    """Have this worker say on each flow run that it takes which process has it."""
    from prefect.workers.process import ProcessWorker

    theirs = ProcessWorker._propose_pending_state  # noqa: SLF001 - no other way in

    async def say(self: Any, flow_run: UUID, *, taking: bool) -> None:  # noqa: ANN401 - a worker
        with suppress(httpx.HTTPError, PrefectException):
            states = await self.client.read_flow_run_states(flow_run)
            labels = _labels("worker", claims(states) + taking)
            await self.client.update_flow_run_labels(flow_run, labels)

    async def propose(self: Any, flow_run: Any) -> bool:  # noqa: ANN401 - a worker, a flow run
        # Before it is Pending: should this worker die right then, nothing else tells who has it.
        await say(self, flow_run.id, taking=True)
        is_claimed: bool = await theirs(self, flow_run)
        if is_claimed:  # another worker may have said so in between
            await say(self, flow_run.id, taking=False)
        return is_claimed

    ProcessWorker._propose_pending_state = propose  # type: ignore[method-assign]  # noqa: SLF001


def report_once() -> None:
    """Have this worker report a process that died once, though Prefect's does twice.

    Its runner says at once that the run has crashed, and its worker again after the run's hooks. By
    then the run may have been set to run again, and would crash for the second time.
    """
    from prefect.workers.process import ProcessWorker

    theirs = ProcessWorker._propose_crashed_state  # noqa: SLF001 - no other way in

    async def report(self: Any, flow_run: Any, message: str, **given: Any) -> None:  # noqa: ANN401 - a worker, a flow run
        with suppress(httpx.HTTPError, PrefectException):
            states = await self.client.read_flow_run_states(flow_run.id)
            # The state in which this worker took it: what came since is of this attempt, or later.
            taken = [one.timestamp for one in states if one.id == flow_run.state_id]
            if any(one.is_crashed() and [one.timestamp] > taken > [] for one in states):
                return
        await theirs(self, flow_run, message, **given)

    ProcessWorker._propose_crashed_state = report  # type: ignore[assignment, method-assign]  # noqa: SLF001


def label_run() -> None:
    """Say on the flow run that Prefect's variables name that this process has it."""
    flow_run = os.environ.get("PREFECT__FLOW_RUN_ID")
    if flow_run is None:
        return
    # The engine itself says so where Prefect can't be reached.
    with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(flow_run))
        client.update_flow_run_labels(UUID(flow_run), _labels("engine", claims(states)))


def _labels(role: str, claim: int) -> dict[str, Any]:
    """Return the labels of a flow run that this process has: which it is, and its database."""
    labels = {PROCESS_LABEL: str(Hand.own(role, claim))}
    with suppress(SpanctlError):
        labels[DATABASE_LABEL] = str(resolve().database)
    return {**labels}


def claims(states: "Iterable[State[Any]]") -> int:
    """Return how often a process has taken a flow run that went through these states."""
    ordered = sorted(states, key=lambda one: one.timestamp)
    return count_claims(one.type.value == "PENDING" for one in ordered)


def leave_to_successor() -> None:
    """Have a flow run that counts as dead here end without a word to Prefect.

    It is run again elsewhere, as the same flow run, whose state is its successor's to tell.
    """
    for engine in (flow_engine.FlowRunEngine, flow_engine.AsyncFlowRunEngine):
        engine.handle_exception = _silenced(engine.handle_exception)  # type: ignore[method-assign]
        engine.handle_crash = _silenced(engine.handle_crash)  # type: ignore[method-assign]


def _silenced(theirs: Any) -> Any:  # noqa: ANN401 - a method of one of Prefect's engines
    def handle(self: Any, exc: BaseException, *args: Any, **given: Any) -> Any:  # noqa: ANN401
        if _is_superseded(exc):
            self.logger.error("%s", exc)
            self.short_circuit = True  # no state is proposed from here on
            raise Abort(str(exc)) from exc
        return theirs(self, exc, *args, **given)

    return handle


def _is_superseded(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, SupersededError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def end_at_once() -> None:
    """Have a flow run end in this process without its heartbeat's last second.

    Prefect waits for the thread that sends heartbeats, which sleeps a second at a time, before the
    run's last log lines are sent. The thread is a daemon, and sends nothing once the run has ended.
    """
    heartbeats = getattr(flow_engine, "_send_heartbeats", None)
    if heartbeats is not None:
        flow_engine._send_heartbeats = partial(heartbeats, join_on_exit=False)  # noqa: SLF001
