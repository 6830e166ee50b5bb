"""What the ledger says of flow runs, asked only where a run wrote through it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from spanctl.errors import SpanctlError
from spanctl.invocation import LEDGER_LABEL
from spanctl.ledger.report import Place, TransactionReport, merged
from spanctl_cli.context import AppContext
from spanctl_cli.output import Column, Kind, Listing
from spanctl_cli.output.model import Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spanctl.audit.owners import DeadRun
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun
    from spanctl.spanner.client import Database
    from spanctl_cli.live import View

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
    Column("database", extra=True),
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
    transactions: "Sequence[TransactionReport]" = field(default_factory=tuple)
    trouble: SpanctlError | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The transactions as rows of :data:`TRANSACTION_COLUMNS`."""
        return [
            {
                "txn_id": one.txn_id,
                "step": one.step,
                "outcome": one.told,
                "commit_timestamp": one.commit_timestamp,
                "rows": one.rows,
                "attempt": one.attempt,
                "replayed": one.replayed,
                "note": one.note,
                "task_run": one.task_run,
                "database": one.database,
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
    """Return what the ledgers say of a root flow run; trouble with them is told, not raised.

    A run puts the ledger's id among its labels before its first step may commit: without one there
    is nothing to ask for, and Google's client need not be loaded.
    """
    databases = databases_of(root)
    if not databases:
        return Told("untouched", "none: no step of this run has reached a ledger")
    try:
        from spanctl.audit.runtransactions import transactions_of
        from spanctl.resources import DatabaseName
        from spanctl.spanner.client import Database, Target

        target = Target.from_settings(app.settings())
        if str(target.database) not in databases:
            note = f"the run wrote to {', '.join(databases)}; look there with --context"
            return Told("elsewhere", note)
        found: dict[Place, TransactionReport] = {}
        for name in databases:
            one = Target.from_settings(app.settings(), DatabaseName.parse(name))
            with Database(one) as database:
                found |= {each.place: each for each in transactions_of(database, api, root)}
    except SpanctlError as error:
        return Told("unreachable", f"the ledger was not asked: {error.message}", (), error)
    transactions = list(found.values())
    return Told("present", _count(transactions), transactions)


def completed(  # noqa: PLR0913 - which run, and where it is shown
    app: AppContext,
    api: "PrefectApi",
    flow_run: str,
    seen: "Sequence[TransactionReport]",
    view: "View",
    *,
    labels: "Mapping[str, Any] | None" = None,
    root: "FlowRun | None" = None,
) -> Told:
    """Return a run's transactions by its ledgers; those that only they know are shown as well.

    Where a ledger can't be asked, what this process saw stands, and a warning says so. Where
    Prefect can't tell which databases the run wrote to, those that this process saw are asked.

    Args:
        app: The context.
        api: Prefect.
        flow_run: The root flow run's id.
        seen: What this process saw of its transactions.
        view: Where the others are shown.
        labels: What the run was asked for with; needed only where Prefect can't tell.
        root: The run as it ended, where Prefect has told that already.
    """
    found: list[TransactionReport] = []
    trouble = None
    if root is None:
        root, trouble = _root(app, api, flow_run, seen, labels or {})
    databases = databases_of(root)
    try:
        for name in databases:
            found += _in_ledger(app, root, name, seen)
    except SpanctlError as error:
        return unasked(app, seen, error)
    known = {one.place for one in seen}
    for one in found:
        if one.place not in known:
            view.transaction(one)
    transactions = merged(seen, found)
    coverage = "present" if databases else "untouched"
    return Told("unreachable" if trouble else coverage, _count(transactions), transactions, trouble)


def unasked(app: AppContext, seen: "Sequence[TransactionReport]", error: SpanctlError) -> Told:
    """Return what this process saw of a run's transactions, and warn that it is no more."""
    note = f"the ledger was not asked, this is what this process saw: {error.message}"
    app.warn(note)
    return Told("unreachable", note, seen, error)


def _root(
    app: AppContext,
    api: "PrefectApi",
    flow_run: str,
    seen: "Sequence[TransactionReport]",
    labels: "Mapping[str, Any]",
) -> "tuple[FlowRun, SpanctlError | None]":
    """Return a run as Prefect tells it, or else as this process knows it, and why it must."""
    try:
        return api.flow_run(flow_run), None
    except SpanctlError as error:
        from spanctl.orchestration.model import FlowRun

        app.warn(f"only the ledgers that this process saw were asked: {error.message}")
        ledgers = {f"{LEDGER_LABEL}.{one.database}": None for one in seen if one.database}
        known = {**labels, **ledgers}
        return FlowRun(id=flow_run, name="", flow_id="", parameters={}, labels=known), error


def _in_ledger(
    app: AppContext, root: "FlowRun", name: str, seen: "Sequence[TransactionReport]"
) -> "list[TransactionReport]":
    from spanctl.audit.runtransactions import in_ledger

    return in_ledger(reached(app, name), root, seen)


def reached(app: AppContext, name: str) -> "Database":
    """Return a database as this process reached it, or else as the context says."""
    from spanctl.resources import DatabaseName
    from spanctl.spanner.client import Target, shared, shared_targets

    known = (target for target in shared_targets() if str(target.database) == name)
    target = next(known, None)
    return shared(target or Target.from_settings(app.settings(), DatabaseName.parse(name)))


def opened(app: AppContext, root: "FlowRun") -> "list[TransactionReport]":
    """Return the transactions of a root flow run that are open in the ledger.

    Where a ledger can't be asked, a warning says so.
    """
    from spanctl.audit.runtransactions import open_elsewhere

    try:
        return [
            one for name in databases_of(root) for one in open_elsewhere(reached(app, name), root)
        ]
    except SpanctlError as error:
        app.warn(f"whether a transaction is open was not asked of the ledger: {error.message}")
        return []


def dead(app: AppContext, api: "PrefectApi", run: "FlowRun") -> "DeadRun | None":
    """Return how a flow run died, by the ledgers that it wrote to; None where none says so.

    One that has reached no ledger is judged by the process that it was given to.
    """
    from spanctl.audit import deaths

    if run.state is None or run.state.type.is_final:
        return None
    try:
        return deaths.of([reached(app, name) for name in databases_of(run)], api, run)
    except SpanctlError:
        return None  # whoever needs the ledger says so


def end_dead(
    app: AppContext, api: "PrefectApi", one: "DeadRun", cancelled: str | None = None
) -> "FlowRun":
    """End a dead flow run as Crashed, with nothing of it in limbo, and return it then.

    Args:
        app: The context.
        api: Prefect.
        one: The run, and how it died.
        cancelled: What to say of who cancelled it: then it ends as Cancelled.

    Raises:
        SpanctlError: A ledger could not be written, or Prefect did not answer.
    """
    from spanctl.audit import deaths

    databases = [reached(app, name) for name in databases_of(one.run)]
    ended = deaths.end(api, databases, one, cancelled=cancelled)
    app.note(f"flow run {one.run.id} was dead, and is ended as {ended.name}: {one.note}")
    return api.flow_run(one.run.id)


def _count(found: "Sequence[TransactionReport]") -> str:
    from spanctl.audit.runtransactions import counted

    words = {"COMMITTED": "committed", "NOT_COMMITTED": "not committed", "UNKNOWN": "open"}
    parts = [f"{count:,} {words[outcome]}" for outcome, count in counted(found).items() if count]
    return ", ".join(parts) or "none"
