"""Following a flow run that runs elsewhere: its states, its log, its transactions."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from spanctl.audit import deaths
from spanctl.clock import monotonic, now
from spanctl.errors import PendingError, SpanctlError, UnreachableError
from spanctl.ledger.receipt import Receipt
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun, Log, StateType
from spanctl.spanner import receipts

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_POLL: Final = 0.3
_LATE: Final = timedelta(seconds=10)
"""How far back each look into the ledger overlaps the one before."""
_UNTOLD: Final = 5.0
"""Seconds after which a database that was silent is asked again."""
_RECEIPTS: Final = 10_000
"""So many receipts at most are told at a look."""
_DRAIN: Final = 1.5
"""Seconds in which the last log lines of an ended run still arrive."""
_DRAIN_OWED: Final = 30.0
"""Seconds that they may take when the engine has logged its first line and ended the run itself:
then it also logs a last one, and watching is over as soon as that has come."""
_DRAIN_POLL: Final = 0.1
_PATIENCE: Final = 60.0
_LOOK: Final = 5.0
"""Seconds after which it is looked at again whether the run's executor is alive."""
_OVERDUE: Final = 10.0
"""Seconds that a worker usually needs at most to take a run that is due."""
_WAITS: Final = {
    StateType.SCHEDULED: "no worker has taken it",
    StateType.PENDING: "a worker took it, and hasn't started it",
}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What earlier attempts of a flow run have left, which is no news of the next one.

    Attributes:
        logs: The ids of their log lines.
        receipts: The txn IDs of the newest of their receipts.
        last: The commit timestamp of the very newest; None when there is none.
    """

    logs: frozenset[str] = frozenset()
    receipts: frozenset[str] = frozenset()
    last: datetime | None = None


def past(api: PrefectApi, database: "Database | None", run: FlowRun) -> Past:
    """Return what a flow run has told so far: ask before it is run again.

    Args:
        api: Prefect.
        database: Where the run writes; None when its transactions are not to be told.
        run: The root flow run.

    Raises:
        UnreachableError: Prefect or the database did not answer.
    """
    logs = frozenset(line.id for line in api.logs(run.id))
    if database is None:
        return Past(logs=logs)
    since = (run.created or now()) - _LATE
    found = receipts.listing(database, since=since, root_run=run.id, limit=_RECEIPTS)
    last = found[0].commit_timestamp if found else None
    return Past(logs=logs, receipts=frozenset(one.txn_id for one in found), last=last)


class Following:
    """One flow run that is followed: each look tells what is new."""

    def __init__(
        self,
        api: PrefectApi,
        database: "Database | None",
        run: FlowRun,
        follower: Follower,
        *,
        after: Past | None = None,
    ) -> None:
        """Begin with a flow run as Prefect told it.

        Args:
            api: Prefect.
            database: Where the run writes; None when its transactions are not to be told.
            run: The root flow run.
            follower: Who is told.
            after: What is told no more; None to tell all.
        """
        after = after or Past()
        self.run = run
        self._api = api
        self._database = database
        self._follower = follower
        self._since = after.last or run.created or now()
        self._state = ""
        self._due: float | None = None
        self._noted = False
        self._logs: set[str] = {*after.logs}
        self._owed = False
        self._last_line = False
        self._receipts: set[str] = {*after.receipts}
        self._answered = self._looked = monotonic()
        self._was_dead = False
        self._untold_until = 0.0
        self._ended: float | None = None
        self._age = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the run has ended and all was told of it."""
        if self._ended is None or self.run.state is None:
            return False
        if self._last_line:
            return True
        owed = self._owed and self.run.state.type.is_of_engine
        longest = max(_DRAIN, _DRAIN_OWED - self._age) if owed else _DRAIN
        return monotonic() - self._ended >= longest

    @property
    def has_ended(self) -> bool:
        """Whether the run has ended, though something may still be told of it."""
        return self._ended is not None

    def look(self) -> None:
        """Ask once, and tell what is new; a server that is silent for a while is asked again.

        Raises:
            OutcomeUnknownError: The run's executor is dead.
            UnreachableError: Prefect did not answer for a minute; the run goes on.
        """
        try:
            self._look()
        except UnreachableError:
            if monotonic() - self._answered > _PATIENCE:
                raise
            return
        self._answered = monotonic()
        if self._ended is None and self.run.state is not None and self.run.state.type.is_final:
            self._ended = monotonic()
            self._age = (now() - self.run.state.timestamp).total_seconds()
        self._note_overdue()
        self._refuse_dead()

    def _refuse_dead(self) -> None:
        """Stop waiting where the run's executor is dead: its end would never come."""
        if self._ended is not None or self._database is None or monotonic() < self._looked:
            return
        self._looked = monotonic() + _LOOK
        try:
            dead = deaths.of([self._database], self._api, self.run)
        except SpanctlError:
            return  # it is looked at again
        if dead is not None and self._was_dead:
            raise deaths.error(dead)
        self._was_dead = dead is not None  # its worker may be about to end it

    def _look(self) -> None:
        self.run = run = self._api.flow_run(self.run.id)
        for line in self._new_lines():
            self._logs.add(line.id)
            if line.begins:  # a last line before it was an earlier attempt's
                self._owed, self._last_line = True, False
            self._last_line |= line.ends(run.state)
            self._follower.log(line)
        if self._database is not None and (run.start_time is not None or run.run_count):
            self._tell_receipts(self._database)
        if run.state is not None and run.state.name != self._state:
            self._state = run.state.name
            self._follower.state(run.state.name)

    def _new_lines(self) -> list[Log]:
        """Return the lines that were not told yet, also those from before some that were."""
        lines = list(self._api.logs(self.run.id, offset=len(self._logs)))
        if any(line.id in self._logs for line in lines):  # others have come in before them
            lines = [line for line in self._api.logs(self.run.id) if line.id not in self._logs]
        return lines

    def _tell_receipts(self, database: "Database") -> None:
        if monotonic() < self._untold_until:
            return
        try:
            found = receipts.listing(
                database, since=self._since - _LATE, root_run=self.run.id, limit=_RECEIPTS
            )
        except UnreachableError as error:  # the run is Prefect's to tell of, and goes on
            if not self._untold_until:
                self._follower.note(f"its transactions are not told for now: {error.message}")
            self._untold_until = monotonic() + _UNTOLD
            return
        for receipt in reversed(found):
            if receipt.txn_id not in self._receipts:
                self._receipts.add(receipt.txn_id)
                self._since = max(self._since, receipt.commit_timestamp)
                self._follower.receipt(receipt)

    def _note_overdue(self) -> None:
        run = self.run
        what = _waits(run)
        if what is None:
            self._due = None
            return
        if self._due is None:
            self._due = monotonic()
        if not self._noted and monotonic() - self._due >= _OVERDUE:
            self._noted = True
            where = f"work pool {run.work_pool}" if run.work_pool else "it is in no work pool"
            self._follower.note(f"{what} yet: {where}; see: spanctl local status")


def _waits(run: FlowRun) -> str | None:
    """Return what a run that is due waits for; None when it isn't due, or has started."""
    kind = run.state.type if run.state else StateType.SCHEDULED
    retries = run.state is not None and run.state.name == "AwaitingRetry"  # in its own process
    if retries or (run.expected_start is not None and run.expected_start > now()):
        return None
    return _WAITS.get(kind)


def follow_all(followings: Sequence[Following], *, timeout: float | None = None) -> None:
    """Look at flow runs in turn, until all have ended or the time is over.

    Args:
        followings: The runs.
        timeout: Seconds to wait; None for as long as it takes.

    Raises:
        UnreachableError: Prefect did not answer for a minute; the runs go on.
    """
    deadline = monotonic() + timeout if timeout is not None else None
    while True:
        for one in followings:
            if not one.is_over:
                one.look()
        left = [one for one in followings if not one.is_over]
        if not left:
            return
        over = _DRAIN if _draining(left) else 0.0
        if deadline is not None and monotonic() > deadline + over:
            return
        time.sleep(_DRAIN_POLL if _draining(left) else _POLL)


def _draining(left: Sequence[Following]) -> bool:
    return all(one.has_ended for one in left)


def follow(  # noqa: PLR0913 - who is asked, who is told, and how long
    api: PrefectApi,
    database: "Database | None",
    flow_run: str,
    follower: Follower,
    *,
    timeout: float | None = None,
    after: Past | None = None,
) -> FlowRun:
    """Tell the follower what happens until the run has ended; return it as it ended.

    An API that does not answer for a while is asked again: the run goes on without it.

    Args:
        api: Prefect.
        database: Where the run writes; None when its transactions are not to be told.
        flow_run: The root flow run's id.
        follower: Who is told.
        timeout: Seconds to wait; None for as long as it takes.
        after: What is told no more; None to tell all.

    Raises:
        PendingError: It had not ended when the time was over; it goes on.
        UnreachableError: Prefect did not answer for a minute; the run goes on.
    """
    one = Following(api, database, api.flow_run(flow_run), follower, after=after)
    follow_all([one], timeout=timeout)
    if not one.has_ended:
        raise pending(one.run)
    return one.run


def pending(run: FlowRun) -> PendingError:
    """Return what to raise of a run that had not ended when the time was over."""
    msg = f"flow run {run.id} is still {run.state.name if run.state else 'unknown'}"
    hint = f"it goes on; look again with: spanctl runs watch {run.id}"
    if (what := _waits(run)) is not None:
        msg = f"{msg}: {what}"
        hint = f"see: spanctl local status; {hint}"
    return PendingError(msg, hint=hint, flow_run=run.id)
