"""Attempts to run dead flow runs again: each is a row, inserted once, so that one recoverer has it.

The key is the flow run and the attempt's number. A recoverer that dies leaves a row without an end;
another one takes that attempt over, once it has superseded the dead one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spanctl.spanner import ddl, executors
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.keysets import KeyRange, KeySet, one
from spanctl.spanner.receipts import COMMIT_TIMESTAMP
from spanctl.spanner.transaction import Transaction

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

TABLE: Final = ddl.RECOVERIES
_COLUMNS: Final = (
    "root_run",
    "flow_run",
    "attempt",
    "executor",
    "begun_at",
    "ended_at",
    "outcome",
)
_TIMEOUT: Final = 30.0


class Ending(StrEnum):
    """What came of an attempt."""

    RERUN = "rerun"
    """The run was handed over to be run again."""
    LEFT = "left"
    """It was ended, and not run again: what it has started outside of transactions is open."""
    EXHAUSTED = "exhausted"
    """It was ended, and not run again: it has died too often."""
    VOID = "void"
    """It had gone on meanwhile: nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A row: one attempt to run a flow run again.

    Attributes:
        root_run: The root flow run's id.
        flow_run: The flow run's id.
        number: Which attempt it is, from 1.
        executor: The recoverer that has it.
        begun_at: When it was begun.
        ended_at: When it ended; None while it goes on, or its recoverer died.
        ending: What came of it; None likewise.
    """

    root_run: str
    flow_run: str
    number: int
    executor: str
    begun_at: datetime
    ended_at: datetime | None = None
    ending: Ending | None = None


def read(database: "Database", flow_run: str) -> list[Attempt]:
    """Return the attempts for a flow run, the first first; a ledger of before has none.

    Raises:
        SpanctlError: The database could not be read.
    """
    span = KeyRange(start_closed=[flow_run, flow_run], end_closed=[flow_run, flow_run])
    return _read(database, KeySet(ranges=[span]))


def unended(database: "Database") -> list[Attempt]:
    """Return the attempts that somebody has begun and not ended, of all flow runs.

    Raises:
        SpanctlError: The database could not be read.
    """
    return [one for one in _read(database, KeySet(all_=True)) if one.ended_at is None]


def _read(database: "Database", keys: KeySet) -> list[Attempt]:
    if database.ledger.schema_version < executors.SINCE:
        return []
    known = {one.value: one for one in Ending}
    found = [
        Attempt(
            root_run=root_run,
            flow_run=run,
            number=number,
            executor=executor,
            begun_at=begun,
            ended_at=ended,
            ending=known.get(outcome or ""),  # a newer version may write others
        )
        for root_run, run, number, executor, begun, ended, outcome in database.read(
            TABLE, _COLUMNS, keys, timeout=_TIMEOUT
        )
    ]
    return sorted(found, key=lambda attempt: (attempt.flow_run, attempt.number))


def begin(database: "Database", flow_run: str, number: int, executor: str) -> bool:
    """Begin an attempt; False where another recoverer has it.

    Raises:
        SupersededError: The recoverer itself counts as dead.
        SpanctlError: Spanner could not be reached or refused.
    """
    row = {
        "root_run": flow_run,
        "flow_run": flow_run,
        "attempt": number,
        "executor": executor,
        "begun_at": COMMIT_TIMESTAMP,
    }
    admit = executors.guard([executor])
    rows, doing = [mutation("insert", TABLE, row)], "a recovery was begun"
    if apply(database, rows, timeout=_TIMEOUT, doing=doing, admit=admit):
        return True
    # It may be there from an earlier send of the same.
    mine = database.read(TABLE, ["executor"], one(flow_run, flow_run, number), timeout=_TIMEOUT)
    return any(holder == executor for (holder,) in mine)


def take_over(database: "Database", attempt: Attempt, executor: str) -> bool:
    """Go on with the attempt of a recoverer that was superseded; False where another one does.

    Raises:
        SupersededError: The recoverer itself counts as dead.
        SpanctlError: Spanner could not be reached or refused.
    """
    row = {**_key(attempt), "executor": executor}
    admit = _held_by(attempt, {attempt.executor, executor}, executor)
    doing = "a recovery was taken over"
    try:
        rows = [mutation("update", TABLE, row)]
        apply(database, rows, timeout=_TIMEOUT, doing=doing, admit=admit)
    except _TakenError:
        return False
    return True


def end(database: "Database", attempt: Attempt, ending: Ending) -> None:
    """Note what came of an attempt.

    Raises:
        SpanctlError: Spanner could not be reached or refused.
    """
    row = {**_key(attempt), "ended_at": COMMIT_TIMESTAMP, "outcome": ending.value}
    rows, doing = [mutation("update", TABLE, row)], "the end of a recovery was written down"
    apply(database, rows, timeout=_TIMEOUT, doing=doing, settling=True)


def _key(attempt: Attempt) -> dict[str, str | int]:
    return {
        "root_run": attempt.root_run,
        "flow_run": attempt.flow_run,
        "attempt": attempt.number,
    }


class _TakenError(Exception):
    """Another recoverer has the attempt, or has ended it."""


def _held_by(attempt: Attempt, holders: set[str], executor: str) -> Callable[[Transaction], None]:
    guard = executors.guard([executor])

    def admit(transaction: Transaction) -> None:
        guard(transaction)
        key = one(attempt.root_run, attempt.flow_run, attempt.number)
        rows = list(transaction.look(TABLE, ("executor", "ended_at"), key))
        if not rows or rows[0][0] not in holders or rows[0][1] is not None:
            raise _TakenError

    return admit
