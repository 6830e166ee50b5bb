"""What the ledger says of flow runs, asked only where a run wrote through it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from spanctl.errors import SpanctlError
from spanctl.invocation import LEDGER_LABEL
from spanctl_cli.context import AppContext
from spanctl_cli.output import Column, Kind, Listing
from spanctl_cli.output.model import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanctl.audit.runtransactions import RunTransaction
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun

TRANSACTION_COLUMNS: Final = (
    Column("txn_id", title="transaction", kind=Kind.ID),
    Column("step"),
    Column("outcome", kind=Kind.STATE),
    Column("commit_timestamp", title="at", kind=Kind.TIME),
    Column("rows", kind=Kind.NUMBER),
    Column("attempt", kind=Kind.NUMBER),
    Column("replayed", kind=Kind.FLAG),
    Column("note"),
    Column("task_run", extra=True),
)


@dataclass(frozen=True, slots=True)
class Told:
    """What the ledger told of a run.

    Attributes:
        coverage: ``present``; ``untouched`` when no step of the run wrote through a ledger;
            ``elsewhere`` when it wrote to other databases only; ``unreachable`` when it could not
            be asked.
        note: The same, for people.
        transactions: The run's transactions.
        trouble: Why the ledger could not be asked.
    """

    coverage: str
    note: str
    transactions: "Sequence[RunTransaction]" = field(default_factory=tuple)
    trouble: SpanctlError | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The transactions as rows of :data:`TRANSACTION_COLUMNS`."""
        return [
            {
                "txn_id": one.txn_id,
                "step": one.step,
                "outcome": one.told,
                "commit_timestamp": one.committed,
                "rows": one.rows,
                "attempt": one.attempt,
                "replayed": one.replayed,
                "note": one.note,
                "task_run": one.task_run,
            }
            for one in self.transactions
        ]

    @property
    def section(self) -> Section:
        """The section that lists the transactions."""
        listing = Listing("runs.transactions", TRANSACTION_COLUMNS, self.rows)
        return Section("transactions", "Transactions", listing)


def databases_of(run: "FlowRun") -> list[str]:
    """Return the names of the databases in which a root flow run has written."""
    prefix = f"{LEDGER_LABEL}."
    return sorted(name.removeprefix(prefix) for name in run.labels if name.startswith(prefix))


def told(app: AppContext, api: "PrefectApi", root: "FlowRun") -> Told:
    """Return what the ledger says of a root flow run; trouble with it is told, not raised.

    A run puts the ledger's id among its labels before its first step may commit: without one there
    is nothing to ask for, and Google's client need not be loaded.
    """
    databases = databases_of(root)
    if not databases:
        return Told("untouched", "none: no step of this run has reached a ledger")
    try:
        from spanctl.audit.runtransactions import transactions_of
        from spanctl.spanner.client import Database, Target

        target = Target.from_settings(app.settings())
        if str(target.database) not in databases:
            note = f"the run wrote to {', '.join(databases)}; look there with --context"
            return Told("elsewhere", note)
        with Database(target) as database:
            found = transactions_of(database, api, root)
    except SpanctlError as error:
        return Told("unreachable", f"the ledger was not asked: {error.message}", (), error)
    return Told("present", _count(found), found)


def _count(found: "Sequence[RunTransaction]") -> str:
    from spanctl.audit.runtransactions import counted

    words = {"COMMITTED": "committed", "NOT_COMMITTED": "not committed", "UNKNOWN": "open"}
    parts = [f"{count:,} {words[outcome]}" for outcome, count in counted(found).items() if count]
    return ", ".join(parts) or "none"
