"""Following a flow run that runs elsewhere: its states, its log, its transactions."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from spanctl.clock import monotonic, now
from spanctl.errors import PendingError, UnreachableError
from spanctl.ledger.receipt import Receipt
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun, Log, StateType
from spanctl.spanner import receipts

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_POLL: Final = 0.4
_LATE: Final = timedelta(seconds=10)
"""How far back each look into the ledger overlaps the one before."""
_DRAIN: Final = 1.5
"""Seconds in which the last log lines of an ended run still arrive."""
_PATIENCE: Final = 60.0
_OVERDUE: Final = 10.0
"""Seconds that a worker usually needs at most to take a run that is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """Who is told of what.

    Attributes:
        state: Called with each new state's name.
        log: Called with each log line.
        receipt: Called with each receipt.
        note: Called with what the person should know: once, when nobody starts the run.
    """

    state: Callable[[str], None]
    log: Callable[[Log], None]
    receipt: Callable[[Receipt], None]
    note: Callable[[str], None]


@dataclass(slots=True)
class _Seen:
    since: datetime
    state: str = ""
    due: float | None = None
    noted: bool = False
    logs: int = 0
    receipts: set[str] = field(default_factory=set)


def follow(
    api: PrefectApi,
    database: "Database",
    flow_run: str,
    follower: Follower,
    *,
    timeout: float | None = None,
) -> FlowRun:
    """Tell the follower what happens until the run has ended; return it as it ended.

    An API that does not answer for a while is asked again: the run goes on without it.

    Args:
        api: Prefect.
        database: Where the run writes.
        flow_run: The root flow run's id.
        follower: Who is told.
        timeout: Seconds to wait; None for as long as it takes.

    Raises:
        PendingError: It had not ended when the time was over; it goes on.
        UnreachableError: Prefect did not answer for a minute; the run goes on.
    """
    deadline = monotonic() + timeout if timeout is not None else None
    run = api.flow_run(flow_run)
    seen = _Seen(since=run.created or now())
    answered = monotonic()
    while True:
        try:
            run = _look(api, database, flow_run, follower, seen)
            answered = monotonic()
            _note_overdue(run, follower, seen)
        except UnreachableError:
            if monotonic() - answered > _PATIENCE:
                raise
        if run.state is not None and run.state.type.is_final:
            time.sleep(_DRAIN)
            return _look(api, database, flow_run, follower, seen)
        if deadline is not None and monotonic() > deadline:
            msg = f"flow run {flow_run} is still {run.state.name if run.state else 'unknown'}"
            hint = f"it goes on; look again with: spanctl audit {flow_run}"
            raise PendingError(msg, hint=hint, flow_run=flow_run)
        time.sleep(_POLL)


def _note_overdue(run: FlowRun, follower: Follower, seen: _Seen) -> None:
    kind = run.state.type if run.state else StateType.SCHEDULED
    waits = kind in {StateType.SCHEDULED, StateType.PENDING}
    retries = run.state is not None and run.state.name == "AwaitingRetry"  # in its own process
    if not waits or retries or (run.expected_start is not None and run.expected_start > now()):
        seen.due = None
        return
    if seen.due is None:
        seen.due = monotonic()
    if not seen.noted and monotonic() - seen.due >= _OVERDUE:
        seen.noted = True
        pending = kind is StateType.PENDING
        what = "a worker took it, and hasn't started it" if pending else "no worker has taken it"
        where = f"work pool {run.work_pool}" if run.work_pool else "it is in no work pool"
        follower.note(f"{what} yet: {where}; see: spanctl local status")


def _look(
    api: PrefectApi, database: "Database", flow_run: str, follower: Follower, seen: _Seen
) -> FlowRun:
    run = api.flow_run(flow_run)
    for line in api.logs(flow_run, offset=seen.logs):
        seen.logs += 1
        follower.log(line)
    _receipts(database, flow_run, follower, seen)
    if run.state is not None and run.state.name != seen.state:
        seen.state = run.state.name
        follower.state(run.state.name)
    return run


def _receipts(database: "Database", flow_run: str, follower: Follower, seen: _Seen) -> None:
    found = receipts.listing(database, since=seen.since - _LATE, root_run=flow_run, limit=10_000)
    for receipt in reversed(found):
        if receipt.txn_id not in seen.receipts:
            seen.receipts.add(receipt.txn_id)
            seen.since = max(seen.since, receipt.commit_timestamp)
            follower.receipt(receipt)
