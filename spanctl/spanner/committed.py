"""What committed transactions changed: the stream's records joined to their receipts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spanctl.errors import StatementError
from spanctl.ledger.receipt import Receipt
from spanctl.spanner import completeness, receipts, watches
from spanctl.spanner.changes import DataChange, RowChange, changes
from spanctl.spanner.completeness import Evidence, Gap
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.exact import exact
from spanctl.spanner.watching import Schema, schema_at

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_TOO_OLD: Final = "OUT_OF_RANGE"
_NEAR: Final = timedelta(seconds=5)


class StreamState(StrEnum):
    """Whether the change stream could answer."""

    PRESENT = "present"
    ABSENT = "absent"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is known of the rows that one transaction changed.

    Attributes:
        state: Whether the stream could answer: ABSENT when there is no stream, or none that
            watches the receipts; EXPIRED when it doesn't reach back to the commit.
        server_transaction_id: The id that joins the records; None unless PRESENT.
        rows: The user's rows that changed, in the order of the stream; never the receipt's own.
        unchanged: So many rows were written as they had been, which is no change.
        counted: Whether there are as many records as the transaction is said to have.
        gaps: What else is missing, or may be.
    """

    state: StreamState
    server_transaction_id: str | None = None
    rows: tuple[RowChange, ...] = ()
    unchanged: int = 0
    counted: bool = False
    gaps: tuple[Gap, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it is proven that these are all rows that the transaction changed."""
        return self.state is StreamState.PRESENT and self.counted and not self.gaps

    @property
    def unwatched(self) -> tuple[str, ...]:
        """The tables that are not shown, or not for certain."""
        return tuple(dict.fromkeys(gap.table for gap in self.gaps if gap.table))


def for_transaction(database: "Database", receipt: Receipt) -> Changes:
    """Return what a committed transaction changed, joined through its receipt's own row.

    Raises:
        SpanctlError: The database could not be read.
    """
    return for_transactions(database, [receipt])[receipt.txn_id]


def for_transactions(database: "Database", entries: Sequence[Receipt]) -> dict[str, Changes]:
    """Return the same for several, by txn ID; the stream is read once for those close in time.

    Raises:
        SpanctlError: The database could not be read.
    """
    now = schema_at(database)
    if now.watched is None:
        return {one.txn_id: Changes(state=StreamState.ABSENT) for one in entries}
    history = watches.history(database)
    found: dict[str, Changes] = {}
    for window in _windows(entries):
        records, expired = _read(database, window)
        found |= {one.txn_id: Changes(state=StreamState.EXPIRED) for one in expired}
        for receipt in window[len(expired) :]:
            ours = _joined(records, receipt)
            if not ours:
                found[receipt.txn_id] = Changes(state=StreamState.ABSENT)
                continue
            then = _past(database, receipt.commit_timestamp)
            evidence = Evidence(then=then, now=now, history=history)
            found[receipt.txn_id] = _changes(database, receipt, ours, evidence)
    return found


def _windows(entries: Sequence[Receipt]) -> list[list[Receipt]]:
    """Return receipts in order of time, in groups: what others wrote in between is read, too."""
    windows: list[list[Receipt]] = []
    for one in sorted(entries, key=lambda entry: entry.commit_timestamp):
        if windows and one.commit_timestamp - windows[-1][-1].commit_timestamp <= _NEAR:
            windows[-1].append(one)
        else:
            windows.append([one])
    return windows


def _read(
    database: "Database", window: Sequence[Receipt]
) -> tuple[list[DataChange], Sequence[Receipt]]:
    """Return the records of a window, and those of its receipts that are older than the stream."""
    last = window[-1].commit_timestamp
    for number, first in enumerate(window):
        moments = {one.commit_timestamp for one in window[number:]}
        try:
            records = changes(database, first.commit_timestamp, last)
            return [one for one in records if one.commit_timestamp in moments], window[:number]
        except StatementError as error:
            if error.details.get("status") != _TOO_OLD:
                raise
    return [], window


def _joined(records: Sequence[DataChange], receipt: Receipt) -> list[DataChange]:
    """Return the records of a receipt's transaction: the receipt itself is one of its rows."""
    for one in records:
        if one.table == receipts.TABLE and any(
            row.keys.get("txn_id") == receipt.txn_id for row in one.rows
        ):
            server = one.server_transaction_id
            return [other for other in records if other.server_transaction_id == server]
    return []


def _past(database: "Database", moment: datetime) -> Schema | None:
    try:
        return schema_at(database, moment)
    except StatementError:  # longer ago than the database keeps its versions
        return None


def _changes(
    database: "Database", receipt: Receipt, records: Sequence[DataChange], evidence: Evidence
) -> Changes:
    ordered = sorted(records, key=lambda one: one.record_sequence)
    found = exact(
        database,
        [row for one in ordered if not is_ledger(one.table) for row in one.rows],
        receipt.commit_timestamp,
        evidence.then.keys if evidence.then else {},
        replacing=completeness.may_replace(receipt),
    )
    return Changes(
        state=StreamState.PRESENT,
        server_transaction_id=ordered[0].server_transaction_id,
        rows=found.rows,
        unchanged=found.unchanged,
        counted=len(ordered) == ordered[0].records_in_transaction,
        gaps=completeness.gaps(database, receipt, evidence, found),
    )
