"""The outcome of one transaction, as lists, pages, events and artifacts show it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from spanctl.clock import rfc3339
from spanctl.ledger.phases import AT_LEAST_ONCE, noted, step_of
from spanctl.ledger.receipt import EntryKind, Outcome, Receipt, TransactionResult

Place = tuple[str | None, str]
"""Database and txn ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionReport:
    """One transaction and its outcome.

    Attributes:
        txn_id: Its ID: under one key it is the same in every database.
        database: The full name of the database; None where that isn't known (of a row that an
            older version wrote), or where it doesn't matter.
        step: The step's name, and which call of it, as :attr:`OperationKey.called` says it.
        outcome: COMMITTED, NOT_COMMITTED, or UNKNOWN while it is open.
        at_least_once: Whether it is an entry of DDL or partitioned DML: the entry committed, which
            says nothing of what it stands for.
        commit_timestamp: When it committed, or was fenced; None while that isn't known.
        rows: Rows changed; None when it did not commit.
        replayed: Whether an earlier attempt, or an earlier run of the same key, had committed it;
            False of what is not committed.
        error: Code of the :class:`~spanctl.errors.SpanctlError` that ended the step's last call.
        attempt: The orchestrator's attempt that wrote it.
        task_run: Id of the task run that wrote it.
        note: Of an open one: whether its run sees to it, and how that is known.
        in_limbo: Whether it is open, and no run sees to it.
    """

    txn_id: str
    database: str | None
    step: str
    outcome: Outcome
    at_least_once: bool = False
    commit_timestamp: datetime | None = None
    rows: int | None = None
    replayed: bool = False
    error: str | None = None
    attempt: int | None = None
    task_run: str | None = None
    note: str = ""
    in_limbo: bool = False

    @classmethod
    def of(cls, receipt: Receipt, database: str | None, *, replayed: bool = False) -> Self:
        """Return what a receipt, or a fence, in a database proves."""
        committed = receipt.kind is EntryKind.COMMITTED
        return cls(
            txn_id=receipt.txn_id,
            database=database,
            step=step_of(receipt),
            outcome=Outcome.COMMITTED if committed else Outcome.NOT_COMMITTED,
            at_least_once=noted(receipt) is not None,
            commit_timestamp=receipt.commit_timestamp,
            rows=receipt.rows,
            replayed=replayed and committed,
            attempt=receipt.provenance.attempt,
            task_run=receipt.provenance.task_run,
        )

    @classmethod
    def of_result(
        cls,
        step: str,
        result: TransactionResult,
        database: str | None,
        *,
        at_least_once: bool = False,
    ) -> Self:
        """Return what a caller was told of a transaction that committed in a database."""
        return cls(
            txn_id=result.txn_id,
            database=database,
            step=step,
            outcome=result.outcome,
            at_least_once=at_least_once,
            commit_timestamp=result.commit_timestamp,
            rows=sum(result.row_counts),
            replayed=result.replayed,
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row that :meth:`to_row` made, also one of an older version."""
        return cls(
            txn_id=str(row["txn_id"]),
            database=row.get("database"),
            step=str(row.get("step") or ""),
            outcome=Outcome(row.get("outcome") or Outcome.UNKNOWN),
            at_least_once=bool(row.get("at_least_once")),
            commit_timestamp=_moment(row.get("commit_timestamp")),
            rows=row.get("rows"),
            replayed=bool(row.get("replayed")),
            error=row.get("error"),
        )

    def to_row(self) -> dict[str, Any]:
        """Return the row of an artifact's table."""
        return {
            "step": self.step,
            "txn_id": self.txn_id,
            "database": self.database,
            "outcome": self.outcome.value,
            "commit_timestamp": rfc3339(self.commit_timestamp) if self.commit_timestamp else "",
            "rows": self.rows,
            "replayed": self.replayed,
            "error": self.error,
            "at_least_once": self.at_least_once,
        }

    @property
    def place(self) -> Place:
        """What tells it from every other transaction: where it is, and its ID there."""
        return self.database, self.txn_id

    @property
    def told(self) -> str:
        """The outcome as it is shown: AT_LEAST_ONCE for an entry of DDL or partitioned DML."""
        return AT_LEAST_ONCE if self.at_least_once else self.outcome.value

    @property
    def line(self) -> str:
        """One line of text, with the ID whole."""
        if self.at_least_once:
            return f"{self.step} {self.txn_id} at least once"
        facts = [self.step]
        if self.rows is not None:
            facts.append(f"{self.rows:,} row{'' if self.rows == 1 else 's'}")
        if self.replayed:
            facts.append("replayed")
        return f"{self.outcome} {self.txn_id} {' · '.join(facts)}"


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def merged(
    seen: Iterable[TransactionReport], ledger: Iterable[TransactionReport]
) -> list[TransactionReport]:
    """Return what was seen of a run's transactions, put right and completed by the ledger.

    The ledger decides about the outcome. What only the caller knows (whether its own call was a
    replay, and with which error it ended) stays.
    """
    found = {one.place: one for one in ledger}
    listed = []
    for one in seen:
        entry = found.pop(_place_in(found, one), None)
        if entry is None or entry.outcome is one.outcome or entry.outcome is Outcome.UNKNOWN:
            listed.append(one if entry is None else replace(one, step=entry.step))
        else:
            replayed = one.replayed and entry.outcome is Outcome.COMMITTED
            listed.append(replace(entry, replayed=replayed, error=one.error))
    return [*found.values(), *listed]


def _place_in(found: Iterable[Place], one: TransactionReport) -> Place:
    """Return where a transaction is, that of an older version's row by its ID, if only one fits."""
    if one.database is not None:
        return one.place
    fitting = [place for place in found if place[1] == one.txn_id]
    return fitting[0] if len(fitting) == 1 else one.place
