"""What dead executors of a root have left, settled by the one that completes it.

Their leases may reach beyond what was ever begun. Once the root is complete, nothing of it is to be
run again, so what they hold without a receipt is fenced, by executor's fences: these close nothing.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OUTSIDE
from spanctl.ledger.receipt import Provenance
from spanctl.processes import is_own
from spanctl.spanner import executors, fence, leases, limbo, liveness
from spanctl.spanner.executors import Executor
from spanctl.spanner.limbo import OpenLease
from spanctl.spanner.operation import Call

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_BATCH: Final = 500
_LEASES: Final = 100
"""Leases that are closed in one commit, with the last of their fences."""
_REASON: Final = "left by a dead executor of a root that is complete"


def settle(database: "Database", root: str, root_run: str | None, *, by: str) -> list[Executor]:
    """Supersede the dead executors of a root, fence what they hold, and close their leases.

    Those of this process are no predecessors: what it has left open it tells as open.

    Executors that are alive, or of which that is not known, keep theirs. Outside of flows, keys
    without a job's name have no root of their own: nothing is settled there.

    Args:
        database: Where.
        root: First part of the root's operation keys.
        root_run: The root flow run's id; None where there is none.
        by: Who completes it: a flow run's id.

    Returns:
        Those of other flow runs of the root: their rows are kept until these runs are ended, too.

    Raises:
        SpanctlError: The database could not be read or written; leases stay open, which is
            harmless.
    """
    ended, others = settle_keeping(database, root, root_run, by=by)
    forget(database, ended)
    return others


def settle_keeping(
    database: "Database", root: str, root_run: str | None, *, by: str
) -> tuple[list[Executor], list[Executor]]:
    """Do the same, and keep all rows: while they are there, others find who died.

    Returns:
        Those of this flow run, to be forgotten once that has ended; and those of others.

    Raises:
        SpanctlError: As :func:`settle` raises.
    """
    if root == OUTSIDE:
        return [], []
    held = [one for one in limbo.open_leases(database) if _is_of(one, root, root_run)]
    judge = liveness.judge(database)
    dead = [one for one in held if not _is_mine(one) and judge.of_lease(one).verdict.is_dead]
    rows = [
        one
        for one in judge.executors.values()
        if one.root == root or (root_run is not None and one.root_run == root_run)
        if not _is_mine(one) and judge.of(one).verdict.is_dead
    ]
    if not dead and not rows:
        return [], []
    done = executors.supersede(database, rows, by=by)
    known = {one.executor_id for one in rows}
    dead = [one for one in dead if one.executor in done or one.executor not in known]
    settle_leases(database, dead, held)
    ended = [one for one in rows if one.executor_id in done]
    others = [one for one in ended if one.root_run not in {None, root_run}]
    return [one for one in ended if one not in others], others


def forget(database: "Database", dead: Iterable[Executor]) -> None:
    """Delete the rows of superseded executors that hold no lease any more.

    Raises:
        SpanctlError: The database could not be read or written.
    """
    holding = {one.executor for one in limbo.open_leases(database)}
    rows = [one.executor_id for one in dead if one.executor_id not in holding]
    for start in range(0, len(rows), _BATCH):
        leases.close(database, [], executors=rows[start : start + _BATCH])


def settle_leases(
    database: "Database", dead: Sequence[OpenLease], held: Iterable[OpenLease]
) -> None:
    """Fence what superseded executors hold without a receipt, and close their leases with it.

    What an executor that isn't among them holds as well is left to that one.

    Args:
        database: Where.
        dead: The leases of superseded executors.
        held: All open leases of the same root.

    Raises:
        SpanctlError: The database could not be read or written.
    """
    closing = {one.intent_id for one in dead}
    spared = {key for one in held if one.intent_id not in closing for key in one.keys}
    for start in range(0, len(dead), _LEASES):
        some = dead[start : start + _LEASES]
        left = {
            Call(one.key, one.epoch): Provenance(root_run=one.root_run, reason=_REASON)
            for one in limbo.unsettled(database, some)
            if one.key not in spared
        }
        ids = [one.intent_id for one in some]
        ending = leases.closing(ids)
        fence.place_all(database, left, author=Author.EXECUTOR, closing=ending)


def _is_mine(one: OpenLease | Executor) -> bool:
    """Tell whether it is of this process: what that has left open is open, and is told so."""
    return is_own(one.host, one.pid, one.mark)


def _is_of(lease: OpenLease, root: str, root_run: str | None) -> bool:
    if root_run is not None and lease.root_run == root_run:
        return True
    return any(key.root == root for key in lease.keys[:1])
