"""What a flow run did in the ledger: each transaction with its outcome, the open ones included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from spanctl.audit import ending
from spanctl.audit.model import outcome_of
from spanctl.audit.operations import is_of_run
from spanctl.audit.settling import Phase, survey
from spanctl.errors import SpanctlError
from spanctl.invocation import IDEMPOTENCY_KEY_LABEL
from spanctl.ledger.phases import AT_LEAST_ONCE, is_outside, step_of
from spanctl.ledger.receipt import Outcome, Receipt
from spanctl.orchestration.api import PrefectApi
from spanctl.spanner import receipts

if TYPE_CHECKING:
    from spanctl.audit.settling import Unsettled
    from spanctl.orchestration.model import FlowRun
    from spanctl.spanner.client import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTransaction:
    """One transaction of a flow run.

    Attributes:
        txn_id: Its id.
        step: The step's name.
        outcome: COMMITTED, NOT_COMMITTED for good, or UNKNOWN while it is open.
        committed: When it committed, or was fenced; None while it is open.
        rows: Rows that it changed; None while it is open.
        attempt: The orchestrator's attempt that wrote it.
        task_run: Id of the task run that wrote it.
        replayed: Whether an earlier run of the same idempotency key wrote it.
        note: Of an open one: whether its run sees to it, and how that is known.
        in_limbo: Whether it is open, and no run sees to it.
    """

    txn_id: str
    step: str
    outcome: Outcome
    committed: datetime | None = None
    rows: int | None = None
    attempt: int | None = None
    task_run: str | None = None
    replayed: bool = False
    note: str = ""
    in_limbo: bool = False

    @property
    def told(self) -> str:
        """The outcome as it is told: AT_LEAST_ONCE for an entry of DDL or partitioned DML."""
        return AT_LEAST_ONCE if is_outside(self.step) else self.outcome.value


def transactions_of(
    database: "Database", api: PrefectApi, root: "FlowRun"
) -> tuple[RunTransaction, ...]:
    """Return the transactions of a root flow run, oldest first, those that are open last.

    Between them stands what ended without a trace in the ledger, as the run told Prefect.

    Raises:
        SchemaVersionError: The database holds no ledger.
        SpanctlError: The database could not be read.
    """
    _ = database.ledger  # says what to do where there is none
    # What is open is read first: an operation that settles meanwhile then has its receipt below.
    opened = [one for one in survey(database, api).operations if is_of_run(one.operation, root.id)]
    found = {one.txn_id: _settled(one, root.id) for one in written(database, root)}
    left = [_open(one) for one in opened if one.operation.txn_id not in found]
    known = {*found, *(one.txn_id for one in left)}
    undone = [one for one in _undone(api, root) if one.txn_id not in known]
    return (*found.values(), *undone, *left)


def written(database: "Database", root: "FlowRun") -> Sequence[Receipt]:
    """Return the receipts of a root flow run, and of earlier runs of its key, oldest first."""
    mine = receipts.of_run(database, root.id)
    key = root.labels.get(IDEMPOTENCY_KEY_LABEL)
    if key is None:
        return mine
    under = {one.txn_id: one for one in (*mine, *receipts.of_key(database, str(key)))}
    return sorted(under.values(), key=lambda one: (one.commit_timestamp, one.txn_id))


def _settled(receipt: Receipt, root: str) -> RunTransaction:
    origin = receipt.provenance
    return RunTransaction(
        txn_id=receipt.txn_id,
        step=step_of(receipt),
        outcome=outcome_of(receipt),
        committed=receipt.commit_timestamp,
        rows=receipt.rows,
        attempt=origin.attempt,
        task_run=origin.task_run,
        replayed=origin.root_run != root,
    )


def _undone(api: PrefectApi, root: "FlowRun") -> list[RunTransaction]:
    try:
        rows = ending.told(api, root)
    except SpanctlError:
        return []  # all that the ledger knows is told
    return [
        RunTransaction(
            txn_id=str(row["txn_id"]),
            step=str(row.get("step") or ""),
            outcome=Outcome.NOT_COMMITTED,
            note="rolled back, or refused",
        )
        for row in rows
        if row.get("outcome") == Outcome.NOT_COMMITTED
    ]


def _open(one: "Unsettled") -> RunTransaction:
    limbo = one.phase is Phase.LIMBO
    word = "in limbo" if limbo else "in flight"
    return RunTransaction(
        txn_id=one.operation.txn_id,
        step=one.operation.step,
        outcome=Outcome.UNKNOWN,
        note=f"{word}: {one.owned.note}",
        in_limbo=limbo,
    )


def counted(transactions: Sequence[RunTransaction]) -> Mapping[Outcome, int]:
    """Return how many transactions there are of each outcome."""
    return {outcome: sum(one.outcome is outcome for one in transactions) for outcome in Outcome}
