"""Flow runs that died: found by their executors, and ended so that they can be run again."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from spanctl.audit.owners import DeadRun, Owners
from spanctl.errors import ConflictError, OutcomeUnknownError
from spanctl.invocation import key_of
from spanctl.ledger.keys import keyed_root
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.filerun import FileRun
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.spanner import executors, liveness, predecessors
from spanctl.spanner.client import Database
from spanctl.spanner.liveness import Judge

_TIMEOUT: Final = 5.0


def of(databases: Sequence[Database], api: PrefectApi, run: FlowRun) -> DeadRun | None:
    """Return how a flow run died; None where it has ended, is alive, or that isn't known.

    Args:
        databases: The databases that the run writes to; with none it is judged by the process that
            it was given to.
        api: Prefect.
        run: The run, as Prefect tells it.

    Raises:
        SpanctlError: A database could not be read.
    """
    if run.state is None or run.state.type.is_final:
        return None
    found: list[DeadRun] = []
    for judge in map(partial(_judge, run=run), databases) if databases else [Judge()]:
        owners = Owners(api, (), judge, runs={run.id: run})
        if owners.is_executed(run):
            return None
        found += owners.dead_runs()
    return found[0] if found else None


def is_executed(database: Database, api: PrefectApi, run: FlowRun) -> bool:
    """Tell whether somebody may execute a flow run, as far as a database knows.

    Raises:
        SpanctlError: The database could not be read.
    """
    return Owners(api, (), _judge(database, run=run), runs={run.id: run}).is_executed(run)


def _judge(database: Database, *, run: FlowRun) -> Judge:
    known = executors.read(database, timeout=_TIMEOUT)
    rows = [one for one in known if run.id in {one.root_run, one.flow_run}]
    return liveness.judge(database, rows)


def end(
    api: PrefectApi,
    databases: Iterable[Database],
    dead: DeadRun,
    *,
    by: str | None = None,
    cancelled: str | None = None,
) -> State:
    """End a dead flow run as Crashed, and return its state then; it can be run again at once.

    Before that its executors are superseded, what they had leased is fenced, and their leases are
    closed: should one of them wake up, it writes nothing new.

    Args:
        api: Prefect.
        databases: The databases that it wrote to.
        dead: The run, and how it died.
        by: Who ends it: an executor's id; the flow run's when left out.
        cancelled: What to say of who cancelled it: then it ends as Cancelled.

    Raises:
        NotFoundError: Prefect doesn't know it any more.
        SpanctlError: A database could not be written, or Prefect did not answer.
    """
    who = by or dead.run.id
    ended = [
        (one, predecessors.settle_keeping(one, dead.root, dead.run.id, by=who)[0])
        for one in databases
    ]
    state = close(api, dead, cancelled=cancelled)
    for database, rows in ended:  # only now: whoever dies before leaves what tells of the run
        predecessors.forget(database, rows)
    return state


def close(api: PrefectApi, dead: DeadRun, *, cancelled: str | None = None) -> State:
    """End a dead flow run in Prefect alone, with all that ran within it; return its state then.

    Its task runs and subflows end as Crashed: what they held of concurrency limits is free then.
    One that was being cancelled ends as Cancelled.

    Raises:
        NotFoundError: Prefect doesn't know it any more.
        ConflictError: Prefect's rules refuse it.
        UnreachableError: Prefect did not answer.
    """
    _crash_parts(api, dead.run.id, dead.note, {dead.run.id})
    was = dead.run.state
    cancels = cancelled is not None or (was is not None and was.type is StateType.CANCELLING)
    state = StateType.CANCELLED if cancels else StateType.CRASHED
    message = dead.note if cancelled is None else f"{cancelled}; {dead.note}"
    try:
        return api.set_state(dead.run.id, state, message=message)
    except ConflictError:
        now = api.flow_run(dead.run.id).state
        if now is None or not now.type.is_final:
            raise
        return now  # its worker, or somebody else, was faster


def _crash_parts(api: PrefectApi, run: str, note: str, seen: set[str]) -> None:
    for task in api.task_runs(run):
        if task.state is not None and not task.state.type.is_final:
            api.crash_task_run(task.id, note)
    for part in api.subflow_runs(run):
        # One of a deployment has a process of its own.
        if part.id in seen or part.deployment_id is not None:
            continue
        seen.add(part.id)
        _crash_parts(api, part.id, note, seen)
        if part.state is not None and not part.state.type.is_final:
            api.set_state(part.id, StateType.CRASHED, message=note)


def root_of(run: FlowRun) -> str:
    """Return the first part of a root flow run's operation keys."""
    key = key_of(run.labels)
    return run.id if key is None else keyed_root(key)


def error(dead: DeadRun) -> OutcomeUnknownError:
    """Return what to raise where somebody waits for the end of a dead run, which never comes."""
    msg = f"flow run {dead.run.id} is dead: {dead.note}"
    hint = f"end it: spanctl runs recover {dead.run.id}"
    if dead.run.deployment_id is not None:
        hint = f"{hint}; or run it again: spanctl runs retry {dead.run.id}"
    elif FileRun.from_labels(dead.run.labels) is not None:
        hint = f"{hint}; or go on with it: spanctl run --resume {dead.run.id}"
    return OutcomeUnknownError(msg, hint=hint, flow_run=dead.run.id)
