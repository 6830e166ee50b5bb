"""Flow runs that died: found by their executors, and ended so that they can be run again."""

from collections.abc import Iterable
from typing import Final

from spanctl.audit.owners import DeadRun, Owners
from spanctl.errors import OutcomeUnknownError
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.spanner import executors, liveness, predecessors
from spanctl.spanner.client import Database

_TIMEOUT: Final = 5.0


def of(database: Database, api: PrefectApi, run: FlowRun) -> DeadRun | None:
    """Return how a root flow run died; None where it has ended, is alive, or that isn't known.

    Raises:
        SpanctlError: The database could not be read.
    """
    if run.state is None or run.state.type.is_final:
        return None
    known = executors.read(database, timeout=_TIMEOUT)
    rows = [one for one in known if one.root_run == run.id]
    if not rows:
        return None
    owners = Owners(api, (), liveness.judge(database, rows), runs={run.id: run})
    return next(iter(owners.dead_runs()), None)


def end(api: PrefectApi, databases: Iterable[Database], dead: DeadRun) -> State:
    """End a dead flow run as Crashed, and return its state then; it can be run again at once.

    Before that its executors are superseded, what they had leased is fenced, and their leases are
    closed: should one of them wake up, it writes nothing new.

    Raises:
        NotFoundError: Prefect doesn't know it any more.
        SpanctlError: A database could not be written, or Prefect did not answer.
    """
    for database in databases:
        predecessors.settle(
            database, dead.executor.root or dead.run.id, dead.run.id, by=dead.run.id
        )
    return crash(api, dead)


def crash(api: PrefectApi, dead: DeadRun) -> State:
    """End a flow run as Crashed in Prefect alone, and return its state then.

    Raises:
        NotFoundError: Prefect doesn't know it any more.
        UnreachableError: Prefect did not answer.
    """
    return api.set_state(dead.run.id, StateType.CRASHED, message=dead.note)


def error(dead: DeadRun) -> OutcomeUnknownError:
    """Return what to raise where somebody waits for the end of a dead run, which never comes."""
    msg = f"flow run {dead.run.id} is dead: {dead.note}"
    hint = f"end it: spanctl txn resolve --flow-run {dead.run.id}"
    if dead.run.deployment_id is not None:
        hint = f"{hint}; or run it again: spanctl runs retry {dead.run.id}"
    return OutcomeUnknownError(msg, hint=hint, flow_run=dead.run.id)
