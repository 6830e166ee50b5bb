"""``trail``: everything that is known of one transaction or one run, and what is not."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from spanctl.audit.fencing import fencing
from spanctl.audit.identity import identity_of
from spanctl.audit.model import (
    Coverage,
    Event,
    EventKind,
    Link,
    Part,
    RunFacts,
    Source,
    SourceName,
    Subject,
    Trail,
    outcome_of,
)
from spanctl.audit.outside import outside
from spanctl.audit.parts import parts_of
from spanctl.audit.resolve import Named, resolve
from spanctl.errors import NotFoundError, NotPermittedError, UnreachableError
from spanctl.ledger.phases import noted, step_of
from spanctl.ledger.receipt import EntryKind, Receipt
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun, State, TaskRun
from spanctl.spanner.client import Database
from spanctl.spanner.committed import Changes, StreamState, for_transaction

T = TypeVar("T")

HISTORIES = 100
"""So many task runs have every state in the timeline, the rest only their last; so many subflow
runs are followed."""

_RECEIPT = Source(
    SourceName.LEDGER,
    Coverage.PRESENT,
    Link.PROVEN,
    "the receipt, written by the same commit",
)


def trail(database: Database, api: PrefectApi | None, text: str) -> Trail:
    """Join what the sources know of a transaction or a run.

    Args:
        database: The database with the ledger.
        api: Prefect's API; None when none is set.
        text: A txn ID, a unique prefix of 8 or more characters of one, a flow run's id or name, or
            an idempotency key.

    Raises:
        NotFoundError: Nothing is called that.
        AmbiguousIdError: Several things are.
        SchemaVersionError: The database holds no ledger.
        UnreachableError: The database could not be reached.
        NotPermittedError: The credentials don't allow reading the ledger.
    """
    _ = database.ledger  # says what to do where there is none
    named = resolve(database, api, text)
    if named.receipt is not None:
        return _of_transaction(database, api, named.receipt)
    return _of_run(database, api, named)


# -- a transaction


def _of_transaction(database: Database, api: PrefectApi | None, receipt: Receipt) -> Trail:
    with ThreadPoolExecutor(2, thread_name_prefix="spanctl-audit") as pool:
        asked = pool.submit(_told, api, receipt)
        verified = pool.submit(identity_of, receipt, database.target)
        changes, stream = _changes(database, receipt)
        told, identity = asked.result(), verified.result()
    pair = outside(database, [receipt]).get(receipt.txn_id)
    timeline = sorted([*told.events, _commit(receipt)], key=_when)
    return Trail(
        subject=Subject.TRANSACTION,
        id=receipt.txn_id,
        receipt=receipt,
        identity=identity,
        outside=pair,
        fencing=fencing(database, receipt),
        changes=changes,
        facts=told.facts,
        task_run=told.task_run,
        timeline=tuple(timeline),
        sources=(_RECEIPT, identity.source, stream, told.source, _audit_logs(database)),
    )


def _changes(database: Database, receipt: Receipt) -> tuple[Changes | None, Source]:
    changes, trouble = _attempt(lambda: for_transaction(database, receipt))
    if changes is None:
        coverage, note = trouble or (Coverage.UNREACHABLE, "")
        return None, Source(SourceName.CHANGE_STREAM, coverage, Link.ABSENT, note)
    return changes, _stream_source(receipt, changes)


def _stream_source(receipt: Receipt, changes: Changes) -> Source:
    name = SourceName.CHANGE_STREAM
    if changes.state is StreamState.EXPIRED:
        note = "the stream doesn't reach back to this commit: too old, or made later"
        return Source(name, Coverage.EXPIRED, Link.ABSENT, note)
    if changes.state is StreamState.ABSENT:
        note = "no change stream holds this receipt; run: spanctl init --table TABLE"
        return Source(name, Coverage.DISABLED, Link.ABSENT, note)
    note = f"complete, server transaction {changes.server_transaction_id}"
    if receipt.kind is EntryKind.FENCED:
        note = f"a fence changes no rows, server transaction {changes.server_transaction_id}"
    elif changes.gaps:
        note = f"not complete: {'; '.join(str(gap) for gap in changes.gaps)}"
        if options := " ".join(watching(changes)):
            note = f"{note}; for the next time run: spanctl init {options}"
    elif not changes.complete:
        note = "not complete: records of this transaction are missing from the stream"
    return Source(name, Coverage.PRESENT, Link.PROVEN, note)


def watching(changes: Changes) -> list[str]:
    """Return the options of ``spanctl init`` by which what is missing is there the next time."""
    tables = dict.fromkeys(gap.table for gap in changes.gaps if gap.table and gap.watchable)
    return [f"--table {table}" for table in tables]


@dataclass(frozen=True, slots=True)
class _Told:
    """What Prefect told."""

    source: Source
    facts: RunFacts | None = None
    task_run: TaskRun | None = None
    events: tuple[Event, ...] = ()


def _told(api: PrefectApi | None, receipt: Receipt) -> _Told:
    flow_run = receipt.provenance.flow_run
    if flow_run is None:
        note = "the receipt names no flow run: written outside of Prefect"
        coverage = Coverage.DISABLED if api is None else Coverage.PRESENT
        return _Told(Source(SourceName.PREFECT, coverage, Link.ABSENT, note))
    if api is None:
        return _Told(_no_prefect())
    told, trouble = _attempt(lambda: _ask(api, flow_run, receipt.provenance.task_run))
    if told is None:
        return _Told(_prefect_trouble(trouble, f"flow run {flow_run}"))
    return told


def _ask(api: PrefectApi, flow_run: str, task_run: str | None) -> _Told:
    run = api.flow_run(flow_run)
    events = [_flow_event(run, state) for state in api.flow_run_states(flow_run)]
    flow = api.flow_name(run.flow_id)
    note = "the run that the receipt names"
    task, _ = _attempt(lambda: api.task_run(task_run)) if task_run else (None, None)
    if task is not None:
        events += [_task_event(task, state) for state in api.task_run_states(task.id)]
    elif task_run:
        note = f"{note}; its task run is not known there"
    source = Source(SourceName.PREFECT, Coverage.PRESENT, Link.CLAIMED, note)
    return _Told(source, RunFacts(run=run, flow=flow), task, tuple(events))


# -- a run


def _of_run(database: Database, api: PrefectApi | None, named: Named) -> Trail:
    facts, events, prefect = _run_facts(api, named)
    commits = [_commit(receipt) for receipt in named.receipts]
    count = len(named.receipts)
    whose = "under this idempotency key" if named.keyed else "of this run"
    note = f"{count:,} receipt{'' if count == 1 else 's'} {whose}"
    if not count:
        note = "no receipt names this run; what an earlier run of its key did is under that run"
    ledger = Source(
        SourceName.LEDGER, Coverage.PRESENT, Link.PROVEN if count else Link.ABSENT, note
    )
    parts, stream = parts_of(database, named.receipts)
    return Trail(
        subject=Subject.RUN,
        id=named.id,
        facts=facts,
        parts=parts,
        timeline=tuple(sorted([*events, *commits], key=_when)),
        sources=(ledger, *_identities(parts), stream, prefect, _audit_logs(database)),
    )


def _identities(parts: Sequence[Part]) -> list[Source]:
    """Return how sure it is who is behind a run: as sure as the least of its transactions."""
    known = [part.identity for part in parts]
    doubtful = [one for one in known if one.contradicted]
    claimed = [one for one in known if one.source.link is not Link.PROVEN]
    return [one.source for one in (doubtful or claimed or known)[:1]]


def _run_facts(
    api: PrefectApi | None, named: Named
) -> tuple[RunFacts | None, tuple[Event, ...], Source]:
    if api is None:
        return None, (), _no_prefect()
    known = named.run
    if known is None and named.keyed:
        note = "the runs that wrote under this key are named by its receipts"
        return None, (), Source(SourceName.PREFECT, Coverage.PRESENT, Link.ABSENT, note)
    if known is None:
        known, trouble = _attempt(lambda: api.find_flow_run(named.id))
        if known is None:
            return None, (), _prefect_trouble(trouble, f"flow run {named.id}")
    told, trouble = _attempt(lambda: _whole_run(api, known))
    if told is None:
        return None, (), _prefect_trouble(trouble, f"flow run {named.id}")
    facts, events = told
    note = "the states of this run"
    if len(facts.task_runs) > HISTORIES:
        count = f"{len(facts.task_runs) - HISTORIES:,}"
        note = f"{note}; of {count} task runs only the last state was read"
    return facts, events, Source(SourceName.PREFECT, Coverage.PRESENT, Link.CLAIMED, note)


def _whole_run(api: PrefectApi, run: FlowRun) -> tuple[RunFacts, tuple[Event, ...]]:
    events: list[Event] = []
    tasks: list[TaskRun] = []
    waiting, seen = [run], {run.id}
    while waiting:
        one = waiting.pop()
        events += [_flow_event(one, state) for state in api.flow_run_states(one.id)]
        tasks += api.task_runs(one.id)
        for child in api.subflow_runs(one.id):
            if child.id not in seen and len(seen) < HISTORIES:
                seen.add(child.id)
                waiting.append(child)
    histories = api.task_run_histories([task.id for task in tasks[:HISTORIES]])
    for task, states in zip(tasks, histories, strict=False):
        events += [_task_event(task, state) for state in states]
    events += [_task_event(task, task.state) for task in tasks[HISTORIES:] if task.state]
    facts = RunFacts(run=run, flow=api.flow_name(run.flow_id), task_runs=tuple(tasks))
    return facts, tuple(events)


# -- what both share


def _attempt(ask: Callable[[], T]) -> tuple[T | None, tuple[Coverage, str] | None]:
    """Return what a source said, or why it said nothing."""
    try:
        return ask(), None
    except NotFoundError as error:
        return None, (Coverage.PRESENT, error.message)
    except NotPermittedError as error:
        return None, (Coverage.DENIED, error.message)
    except UnreachableError as error:
        return None, (Coverage.UNREACHABLE, error.message)


def _prefect_trouble(trouble: tuple[Coverage, str] | None, what: str) -> Source:
    coverage, note = trouble or (Coverage.UNREACHABLE, "")
    if coverage is Coverage.PRESENT:
        note = f"Prefect doesn't know {what}: deleted there, or kept by another server"
    return Source(SourceName.PREFECT, coverage, Link.ABSENT, note)


def _no_prefect() -> Source:
    note = "no Prefect API is set; run: spanctl context set prefect_api_url=URL"
    return Source(SourceName.PREFECT, Coverage.DISABLED, Link.ABSENT, note)


def _audit_logs(database: Database) -> Source:
    name = SourceName.CLOUD_AUDIT_LOGS
    if database.target.is_emulated:
        return Source(name, Coverage.UNSUPPORTED, Link.ABSENT, "the emulator keeps none")
    note = "not consulted"
    return Source(name, Coverage.DISABLED, Link.ABSENT, note)


def _when(event: Event) -> tuple[datetime, str]:
    return event.timestamp, event.id


def _commit(receipt: Receipt) -> Event:
    fence = receipt.kind is EntryKind.FENCED
    pair = noted(receipt)
    return Event(
        receipt.commit_timestamp,
        EventKind.FENCE if fence else EventKind.COMMIT,
        receipt.txn_id,
        step_of(receipt),
        pair.phase.value if pair else outcome_of(receipt).value,
        rows=None if fence or (pair and not receipt.rows) else receipt.rows,
    )


def _flow_event(run: FlowRun, state: State) -> Event:
    return Event(state.timestamp, EventKind.FLOW_RUN, run.id, run.name, state.name, state.message)


def _task_event(task: TaskRun, state: State) -> Event:
    return Event(state.timestamp, EventKind.TASK_RUN, task.id, task.name, state.name, state.message)


def totals(receipts: Iterable[Receipt]) -> tuple[int, int]:
    """Return how many receipts are commits, and how many are fences."""
    kept = list(receipts)
    commits = [receipt for receipt in kept if receipt.kind is EntryKind.COMMITTED]
    return len(commits), len(kept) - len(commits)
