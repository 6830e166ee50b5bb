"""Flow runs that died: found by their executors, and ended so that they can be run again."""

from collections.abc import Iterable
from typing import Final

from spanctl.audit.owners import DeadRun, Owners
from spanctl.errors import OutcomeUnknownError
from spanctl.invocation import IDEMPOTENCY_KEY_LABEL
from spanctl.ledger.keys import keyed_root
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.filerun import FileRun
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.spanner import executors, liveness, predecessors
from spanctl.spanner.client import Database
from spanctl.spanner.liveness import Judge

_TIMEOUT: Final = 5.0


def of(database: Database | None, api: PrefectApi, run: FlowRun) -> DeadRun | None:
    """Return how a root flow run died; None where it has ended, is alive, or that isn't known.

    Args:
        database: A database that the run writes to; None to go by the process that it was given to.
        api: Prefect.
        run: The run, as Prefect tells it.

    Raises:
        SpanctlError: The database could not be read.
    """
    if run.state is None or run.state.type.is_final:
        return None
    known = executors.read(database, timeout=_TIMEOUT) if database else []
    rows = [one for one in known if one.root_run == run.id]
    judge = liveness.judge(database, rows) if database else Judge()
    return next(iter(Owners(api, (), judge, runs={run.id: run}).dead_runs()), None)


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
    for database in databases:
        predecessors.settle(database, dead.root, dead.run.id, by=by or dead.run.id)
    return close(api, dead, cancelled=cancelled)


def close(api: PrefectApi, dead: DeadRun, *, cancelled: str | None = None) -> State:
    """End a dead flow run in Prefect alone, with all that ran within it; return its state then.

    Its task runs and subflows end as Crashed: what they held of concurrency limits is free then.

    Raises:
        NotFoundError: Prefect doesn't know it any more.
        UnreachableError: Prefect did not answer.
    """
    _crash_parts(api, dead.run.id, dead.note, {dead.run.id})
    state = StateType.CRASHED if cancelled is None else StateType.CANCELLED
    message = dead.note if cancelled is None else f"{cancelled}; {dead.note}"
    return api.set_state(dead.run.id, state, message=message)


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
    key = run.labels.get(IDEMPOTENCY_KEY_LABEL)
    return run.id if key is None else keyed_root(str(key))


def error(dead: DeadRun) -> OutcomeUnknownError:
    """Return what to raise where somebody waits for the end of a dead run, which never comes."""
    msg = f"flow run {dead.run.id} is dead: {dead.note}"
    hint = f"end it: spanctl runs recover {dead.run.id}"
    if dead.run.deployment_id is not None:
        hint = f"{hint}; or run it again: spanctl runs retry {dead.run.id}"
    elif FileRun.from_labels(dead.run.labels) is not None:
        hint = f"{hint}; or go on with it: spanctl run --resume {dead.run.id}"
    return OutcomeUnknownError(msg, hint=hint, flow_run=dead.run.id)
