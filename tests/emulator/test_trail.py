"""The trail over a real ledger and a Prefect that answers as the test wants."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanctl.audit import parts
from spanctl.audit.model import Coverage, EventKind, Link, SourceName, Subject, outcome_of
from spanctl.audit.trail import HISTORIES, trail
from spanctl.errors import (
    AmbiguousIdError,
    NotFoundError,
    NotPermittedError,
    SchemaVersionError,
    SpanctlError,
    UnreachableError,
)
from spanctl.ledger.receipt import EntryKind, Outcome, Provenance, Receipt, Standing
from spanctl.orchestration.model import FlowRun, State, StateType, TaskRun
from spanctl.spanner import receipts, schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.faults import raw

pytestmark = pytest.mark.emulator

DDL = ("CREATE TABLE T (k INT64 NOT NULL, s STRING(MAX)) PRIMARY KEY (k)",)
RUN = str(uuid.uuid4())
TASK = str(uuid.uuid4())
EARLY = datetime(2020, 1, 1, tzinfo=UTC)
LATE = datetime(2100, 1, 1, tzinfo=UTC)


def state(kind: StateType, when: datetime) -> State:
    return State(kind, kind.value.title(), when)


class FakeApi:
    """A Prefect with one root run, one subflow run and some task runs; or one in trouble."""

    def __init__(self, tasks: int = 1) -> None:
        self.trouble: SpanctlError | None = None
        self.runs = {
            RUN: FlowRun(
                id=RUN,
                name="calm-otter",
                flow_id="flow",
                parameters={},
                labels={},
                state=state(StateType.COMPLETED, LATE),
            ),
            "child": FlowRun(
                id="child",
                name="little-otter",
                flow_id="flow",
                parameters={},
                labels={},
                parent_task_run_id="parent-task",
            ),
        }
        self.tasks = [
            TaskRun(
                id=TASK if number == 0 else f"task-{number}",
                name=f"step-{number}",
                flow_run_id=RUN,
                state=state(StateType.COMPLETED, LATE),
            )
            for number in range(tasks)
        ]

    def _check(self) -> None:
        if self.trouble:
            raise self.trouble

    def find_flow_run(self, text: str) -> FlowRun:
        self._check()
        for run in self.runs.values():
            if text in {run.id, run.name}:
                return run
        msg = f"there is no flow run {text!r}"
        raise NotFoundError(msg)

    flow_run = find_flow_run

    def root_of(self, run: FlowRun) -> FlowRun:
        return self.runs[RUN] if run.parent_task_run_id else run

    def subflow_runs(self, flow_run_id: str) -> list[FlowRun]:
        return [self.runs["child"]] if flow_run_id == RUN else []

    def flow_run_states(self, flow_run_id: str) -> list[State]:
        assert flow_run_id in self.runs
        return [state(StateType.RUNNING, EARLY), state(StateType.COMPLETED, LATE)]

    def flow_name(self, flow_id: str) -> str:
        return f"name of {flow_id}"

    def task_runs(self, flow_run_id: str) -> list[TaskRun]:
        return self.tasks if flow_run_id == RUN else []

    def task_run(self, task_run_id: str) -> TaskRun:
        for task in self.tasks:
            if task.id == task_run_id:
                return task
        msg = "no such task run"
        raise NotFoundError(msg)

    def task_run_states(self, task_run_id: str) -> list[State]:
        assert task_run_id
        return [state(StateType.RUNNING, EARLY + timedelta(seconds=1))]

    def task_run_histories(self, task_run_ids: Sequence[str]) -> list[list[State]]:
        return [self.task_run_states(one) for one in task_run_ids]


@pytest.fixture
def api() -> Any:
    return FakeApi()


@pytest.fixture(scope="module")
def name(emulator: str) -> Iterator[str]:
    made = raw.create_database(emulator, DDL)
    yield made
    raw.drop_database(emulator, made)


@pytest.fixture(scope="module")
def database(emulator: str, name: str) -> Iterator[Database]:
    with Database(raw.target(emulator, name)) as database:
        schema.install(database, ["T"])
        yield database


@pytest.fixture
def commit(database: Database) -> Callable[..., Receipt]:
    """Return a function that commits one row, as a flow would, and returns the receipt."""

    def commit(k: int = 1, **origin: Any) -> Receipt:
        provenance = Provenance(
            **{"root_run": RUN, "flow_run": RUN, "task_run": TASK, "task": "step-0", **origin}
        )
        with Run(database, str(uuid.uuid4()), provenance=provenance) as run:
            result = run.step("step", lambda txn: txn.insert_or_update("T", ("k", "s"), [(k, "x")]))
        receipt = receipts.get(database, result.txn_id)
        assert receipt is not None
        return receipt

    return commit


def test_transaction(database: Database, api: Any, commit: Callable[..., Receipt]) -> None:
    """A transaction's trail joins receipt, rows, run and task run, in order of time."""
    receipt = commit(7)
    found = trail(database, api, receipt.txn_id)
    assert (found.subject, found.receipt) == (Subject.TRANSACTION, receipt)
    assert found.changes is not None
    assert [row.keys for row in found.changes.rows] == [{"k": 7}]
    assert found.facts is not None
    assert (found.facts.run.name, found.facts.flow) == ("calm-otter", "name of flow")
    assert found.task_run is not None
    assert found.task_run.id == TASK
    assert [event.kind for event in found.timeline] == [
        EventKind.FLOW_RUN,
        EventKind.TASK_RUN,
        EventKind.COMMIT,
        EventKind.FLOW_RUN,
    ]
    told = {source.name: (source.coverage, source.link) for source in found.sources}
    assert told == {
        SourceName.LEDGER: (Coverage.PRESENT, Link.PROVEN),
        SourceName.IDENTITY: (Coverage.DISABLED, Link.CLAIMED),
        SourceName.CHANGE_STREAM: (Coverage.PRESENT, Link.PROVEN),
        SourceName.PREFECT: (Coverage.PRESENT, Link.CLAIMED),
        SourceName.CLOUD_AUDIT_LOGS: (Coverage.UNSUPPORTED, Link.ABSENT),
    }


@pytest.mark.parametrize("form", [str.upper, lambda text: text[:8], lambda text: f" {text} "])
def test_forms_of_an_id(
    database: Database, commit: Callable[..., Receipt], form: Callable[[str], str]
) -> None:
    """A txn ID is found in capitals, cut to 8 characters, and with blanks around it."""
    receipt = commit()
    assert trail(database, None, form(receipt.txn_id)).receipt == receipt


@pytest.mark.parametrize(
    ("trouble", "coverage"),
    [
        (UnreachableError("down"), Coverage.UNREACHABLE),
        (NotPermittedError("no"), Coverage.DENIED),
        (NotFoundError("gone"), Coverage.PRESENT),
    ],
)
def test_prefect_in_trouble(
    database: Database,
    api: Any,
    commit: Callable[..., Receipt],
    trouble: SpanctlError,
    coverage: Coverage,
) -> None:
    """Whatever Prefect answers, the ledger's part of the trail is whole, and the gap is named."""
    receipt = commit()
    api.trouble = trouble
    found = trail(database, api, receipt.txn_id)
    assert found.receipt == receipt
    assert found.changes is not None
    assert found.changes.complete
    source = found.source(SourceName.PREFECT)
    assert (source.coverage, source.link) == (coverage, Link.ABSENT)
    assert source.note


def test_no_prefect(database: Database, commit: Callable[..., Receipt]) -> None:
    """Without an API the source is disabled, and the note says how to set it."""
    source = trail(database, None, commit().txn_id).source(SourceName.PREFECT)
    assert source.coverage is Coverage.DISABLED
    assert "prefect_api_url" in source.note


def test_outside_of_prefect(database: Database, api: Any, commit: Callable[..., Receipt]) -> None:
    """A transaction of plain Python has no run to look for, and Prefect isn't asked for it."""
    receipt = commit(root_run=None, flow_run=None, task_run=None, task=None)
    api.trouble = AssertionError("asked")
    source = trail(database, api, receipt.txn_id).source(SourceName.PREFECT)
    assert (source.coverage, source.link) == (Coverage.PRESENT, Link.ABSENT)


def test_task_run_not_known(database: Database, api: Any, commit: Callable[..., Receipt]) -> None:
    """A task run that Prefect lost doesn't hide its flow run."""
    found = trail(database, api, commit(task_run="lost").txn_id)
    assert found.facts is not None
    assert found.task_run is None
    assert "task run" in found.source(SourceName.PREFECT).note


def test_run_by_id_and_name(api: Any, commit: Callable[..., Receipt], database: Database) -> None:
    """A run's trail holds its transactions, merged into the states of its runs and tasks."""
    receipt = commit()
    for text in (RUN, RUN.upper(), "calm-otter"):
        found = trail(database, api, text)
        assert (found.subject, found.id, found.receipt) == (Subject.RUN, RUN, None)
        assert receipt in found.transactions
        times = [event.timestamp for event in found.timeline]
        assert times == sorted(times)
        kinds = {event.kind for event in found.timeline}
        assert kinds == {EventKind.FLOW_RUN, EventKind.TASK_RUN, EventKind.COMMIT}
        assert {event.id for event in found.timeline} >= {RUN, "child", TASK, receipt.txn_id}


def test_subflow_run(database: Database, api: Any, commit: Callable[..., Receipt]) -> None:
    """A subflow run's trail holds its own transactions, not the whole root's."""
    commit()
    receipt = commit(flow_run="child")
    found = trail(database, api, "child")
    assert found.transactions == (receipt,)


def test_rows_of_a_run(
    database: Database, commit: Callable[..., Receipt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's transactions come with their rows and with who asked; of very many, not all do."""
    key = f"import-{uuid.uuid4()}"
    made = [commit(k, root_run=key, initiator="ada") for k in (100, 101, 102)]
    found = trail(database, None, key)
    assert [part.receipt for part in found.parts] == made
    rows = [part.changes.rows[0].keys["k"] for part in found.parts if part.changes]
    assert rows == [100, 101, 102]
    assert {part.identity.initiator for part in found.parts} == {Standing.CLAIMED}
    assert found.source(SourceName.CHANGE_STREAM).note == "complete"
    assert found.source(SourceName.IDENTITY).link is Link.CLAIMED
    monkeypatch.setattr(parts, "SHOWN", 2)
    found = trail(database, None, key)
    assert [part.changes is not None for part in found.parts] == [True, True, False]
    assert "of the last 1 no rows are read" in found.source(SourceName.CHANGE_STREAM).note


def test_run_known_to_the_ledger_only(
    database: Database, api: Any, commit: Callable[..., Receipt]
) -> None:
    """A run that Prefect forgot, or never knew, still lists its transactions."""
    key = f"import-{uuid.uuid4()}"
    receipt = commit(root_run=key)
    for known in (api, None):
        found = trail(database, known, key)
        assert found.transactions == (receipt,)
        assert found.facts is None
    assert "doesn't know" in trail(database, api, key).source(SourceName.PREFECT).note


def test_run_while_prefect_is_down(
    database: Database, api: Any, commit: Callable[..., Receipt]
) -> None:
    """A run's transactions are listed while Prefect is down; what it doesn't know may be there."""
    receipt = commit()
    api.trouble = UnreachableError("Prefect did not answer")
    found = trail(database, api, RUN)
    assert receipt in found.transactions
    assert found.source(SourceName.PREFECT).coverage is Coverage.UNREACHABLE
    with pytest.raises(UnreachableError, match="can't be asked"):
        trail(database, api, str(uuid.uuid4()))


@pytest.mark.parametrize(
    "text", ["5f2c8a34-9d1e-4b7a-8c60-1f3e5d7b9a02", "00000000", "no-such-run", "abc", "", " ", "%"]
)
@pytest.mark.parametrize("with_prefect", [True, False])
def test_unknown(database: Database, api: Any, text: str, with_prefect: bool) -> None:
    """What nobody knows is not found, and the hint leads to the list."""
    with pytest.raises(NotFoundError) as caught:
        trail(database, api if with_prefect else None, text)
    assert "spanctl audit list" in caught.value.hint


def test_ambiguous_prefix(emulator: str, name: str, database: Database) -> None:
    """A prefix of several transactions is refused, and all of them are listed whole."""
    ids = [f"abcdef01-0000-5000-8000-00000000000{digit}" for digit in "123"]
    with raw.database(emulator, name) as google, google.batch() as batch:
        batch.insert(receipts.TABLE, receipts.COLUMNS, [_row(txn_id) for txn_id in ids])
    with pytest.raises(AmbiguousIdError) as caught:
        trail(database, None, "abcdef01")
    assert caught.value.details["candidates"] == ids
    assert all(txn_id in caught.value.hint for txn_id in ids)


def _row(txn_id: str, kind: EntryKind = EntryKind.COMMITTED) -> tuple[Any, ...]:
    receipt = Receipt(txn_id=txn_id, kind=kind, commit_timestamp=EARLY, operation_key="a/b#0")
    return receipts.row(replace(receipt, provenance=Provenance(root_run="fenced-run")))


def test_fence(emulator: str, name: str, database: Database) -> None:
    """A fence reads NOT_COMMITTED, as a transaction and in its run, and changes no row."""
    txn_id = str(uuid.uuid4())
    with raw.database(emulator, name) as google, google.batch() as batch:
        batch.insert(receipts.TABLE, receipts.COLUMNS, [_row(txn_id, EntryKind.FENCED)])
    found = trail(database, None, txn_id)
    assert found.receipt is not None
    assert outcome_of(found.receipt) is Outcome.NOT_COMMITTED
    assert found.changes is not None
    assert found.changes.rows == ()
    (event,) = [one for one in trail(database, None, "fenced-run").timeline if one.id == txn_id]
    assert (event.kind, event.state, event.rows) == (EventKind.FENCE, "NOT_COMMITTED", None)


def test_many_task_runs(database: Database, commit: Callable[..., Receipt]) -> None:
    """Of a run with many task runs the histories are bounded, and the note says so."""
    commit()
    api: Any = FakeApi(tasks=HISTORIES + 5)
    found = trail(database, api, RUN)
    seen = [event for event in found.timeline if event.kind is EventKind.TASK_RUN]
    assert len({event.id for event in seen}) == HISTORIES + 5
    assert "of 5 task runs only the last state" in found.source(SourceName.PREFECT).note


def test_no_ledger(emulator: str) -> None:
    """A database without a ledger says what to do."""
    empty = raw.create_database(emulator, [])
    with Database(raw.target(emulator, empty)) as database:
        with pytest.raises(SchemaVersionError) as caught:
            trail(database, None, "12345678")
        assert "spanctl init" in caught.value.hint
    raw.drop_database(emulator, empty)
