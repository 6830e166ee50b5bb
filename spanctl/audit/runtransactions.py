"""What a flow run did in the ledger: each transaction with its outcome, the open ones included."""

import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from spanctl.audit import ending
from spanctl.audit.operations import is_of_run
from spanctl.audit.settling import Phase, survey
from spanctl.clock import monotonic
from spanctl.errors import SpanctlError
from spanctl.invocation import key_of
from spanctl.ledger.fences import closes
from spanctl.ledger.receipt import Outcome, Receipt
from spanctl.ledger.report import TransactionReport
from spanctl.orchestration.api import PrefectApi
from spanctl.processes import Process, is_own, look
from spanctl.spanner import limbo, receipts

if TYPE_CHECKING:
    from spanctl.audit.settling import Unsettled
    from spanctl.orchestration.model import FlowRun
    from spanctl.spanner.client import Database
    from spanctl.spanner.limbo import Leased, OpenLease

_TIMEOUT: Final = 10.0
_PATIENCE: Final = 3.0
"""Seconds in which another process of a run that has ended may still end its transaction."""
_POLL: Final = 0.2


def transactions_of(
    database: "Database", api: PrefectApi, root: "FlowRun"
) -> tuple[TransactionReport, ...]:
    """Return the transactions of a root flow run, oldest first, those that are open last.

    Between them stands what ended without a trace in the ledger, as the run told Prefect.

    Raises:
        SchemaVersionError: The database holds no ledger.
        SpanctlError: The database could not be read.
    """
    name = str(database.target.database)
    _ = database.ledger  # says what to do where there is none
    # What is open is read first: an operation that settles meanwhile then has its receipt below.
    opened = [one for one in survey(database, api).operations if is_of_run(one.operation, root.id)]
    entries = written(database, root)
    undone = [one for one in _undone(api, root) if one.database in {None, name}]
    met = {one.txn_id for one in undone}
    found = {one.txn_id: _settled(one, name, root) for one in entries if _concerns(root, one, met)}
    left = [_open(one, name) for one in opened if one.operation.txn_id not in found]
    known = {*found, *(one.txn_id for one in left)}
    undone = [one for one in undone if one.txn_id not in known]
    return (*found.values(), *undone, *left)


def written(database: "Database", root: "FlowRun") -> Sequence[Receipt]:
    """Return the receipts of a root flow run, and of earlier runs of its key, oldest first."""
    mine = receipts.of_run(database, root.id)
    key = key_of(root.labels)
    if key is None:
        return mine
    under = {one.txn_id: one for one in (*mine, *receipts.of_key(database, key))}
    return sorted(under.values(), key=lambda one: (one.commit_timestamp, one.txn_id))


def _settled(receipt: Receipt, name: str, root: "FlowRun") -> TransactionReport:
    return TransactionReport.of(receipt, name, replayed=receipt.provenance.root_run != root.id)


def _concerns(root: "FlowRun", entry: Receipt, met: Container[str]) -> bool:
    """Tell whether an entry under a run's key is of what the run did.

    What an operator closed under the key is not, unless it was this run's or it met the fence.
    """
    return not closes(entry) or entry.provenance.root_run == root.id or entry.txn_id in met


def in_ledger(
    database: "Database",
    root: "FlowRun",
    seen: Iterable[TransactionReport] = (),
    *,
    timeout: float = _TIMEOUT,
) -> list[TransactionReport]:
    """Return what a root flow run did in a ledger, as far as the caller hasn't seen it commit.

    Oldest first, those that are open in other processes last: what is open in its own the caller
    knows.

    Args:
        database: The database with the ledger.
        root: The root flow run.
        seen: What the caller has seen; what committed there is not read again.
        timeout: Seconds for one read.

    Raises:
        SpanctlError: The database could not be read.
    """
    name = str(database.target.database)
    outcomes = {one.txn_id: one.outcome for one in seen if one.database == name}
    known = {one for one, outcome in outcomes.items() if outcome is Outcome.COMMITTED}
    key = key_of(root.labels)
    # What is open is read first: an operation that settles meanwhile then has its receipt below.
    opened = open_elsewhere(database, root, timeout=timeout)
    listed = receipts.listed_of_run(database, root.id, key, timeout=timeout)
    entries = receipts.get_many(database, [one for one in listed if one not in known])
    concerned = [one for one in entries.values() if _concerns(root, one, outcomes)]
    reports = {one.txn_id: _settled(one, name, root) for one in concerned}
    ordered = [reports[one] for one in listed if one in reports]
    return [*ordered, *(one for one in opened if one.txn_id not in reports)]


def open_elsewhere(
    database: "Database", root: "FlowRun", *, timeout: float = _TIMEOUT
) -> list[TransactionReport]:
    """Return a root flow run's transactions that are open in other processes than this one.

    A process that still runs gets a moment to end them.

    Raises:
        SpanctlError: The database could not be read.
    """
    until = monotonic() + _PATIENCE
    while True:
        leases = [
            lease
            for lease in limbo.open_leases(database, timeout=timeout)
            if lease.root_run == root.id and not is_own(lease.host, lease.pid, lease.mark)
        ]
        opened = limbo.unsettled(database, leases) if leases else []
        goes_on = any(_is_running(lease) for one in opened for lease in one.leases)
        if not goes_on or monotonic() >= until:
            return [_left(one, str(database.target.database)) for one in opened]
        time.sleep(_POLL)


def _is_running(lease: "OpenLease") -> bool:
    return look(lease.host, lease.pid, lease.since, lease.mark) is Process.RUNNING


def _left(one: "Leased", database: str) -> TransactionReport:
    holder = one.leases[-1]
    return TransactionReport(
        txn_id=one.txn_id,
        database=database,
        step=one.key.called,
        outcome=Outcome.UNKNOWN,
        note=f"process {holder.pid} on {holder.host} had it",
    )


def _undone(api: PrefectApi, root: "FlowRun") -> list[TransactionReport]:
    try:
        reports = ending.told(api, root)
    except SpanctlError:
        return []  # all that the ledger knows is told
    undone = [one for one in reports if one.outcome is Outcome.NOT_COMMITTED]
    return [replace(one, note="rolled back, or refused", rows=None) for one in undone]


def _open(one: "Unsettled", database: str) -> TransactionReport:
    limbo = one.phase is Phase.LIMBO
    word = "in limbo" if limbo else "in flight"
    return TransactionReport(
        txn_id=one.operation.txn_id,
        database=database,
        step=one.operation.key.called,
        outcome=Outcome.UNKNOWN,
        note=f"{word}: {one.owned.note}",
        in_limbo=limbo,
    )


def counted(transactions: Sequence[TransactionReport]) -> Mapping[Outcome, int]:
    """Return how many transactions there are of each outcome."""
    return {outcome: sum(one.outcome is outcome for one in transactions) for outcome in Outcome}
