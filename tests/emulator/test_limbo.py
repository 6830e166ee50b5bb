"""What is leased and has no receipt: found by its txn ID, and told as UNKNOWN."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from spanctl.audit.trail import trail
from spanctl.errors import NotFoundError, OutcomeUnknownError, UnreachableError
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OperationKey, step_of
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import fence, leases, limbo, receipts, schema, sessions
from spanctl.spanner.client import Call, Database
from spanctl.spanner.run import Run, TransactionOptions
from spanctl.spanner.transaction import Transaction
from tests.faults import raw

pytestmark = pytest.mark.emulator

DDL = ("CREATE TABLE T (k INT64 NOT NULL, s STRING(MAX)) PRIMARY KEY (k)",)


@pytest.fixture(scope="module")
def database(emulator: str) -> Iterator[Database]:
    made = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, made)) as database:
        schema.install(database, ["T"])
        yield database
    raw.drop_database(emulator, made)


@pytest.fixture
def run(database: Database) -> Run:
    """A run under a root flow run that was killed before it closed its leases."""
    flow_run = str(uuid.uuid4())
    return Run(database, flow_run, provenance=Provenance(root_run=flow_run))


def leased(run: Run, call: int | str) -> Call:
    (made,) = run.lease([OperationKey(run.root, ("part#0",), "book it", call)])
    return made


@pytest.mark.parametrize("call", [0, 5, "a/key = 1"])
@pytest.mark.parametrize("form", ["whole", "prefix", "bare", "capitals"])
def test_a_leased_operation_without_a_receipt(
    database: Database, run: Run, call: int | str, form: str
) -> None:
    """Its ID, or a prefix of it, is UNKNOWN and not 'not found'; run, step and next are named."""
    operation = leased(run, call)
    txn_id = operation.txn_id
    forms = {
        "whole": txn_id,
        "prefix": txn_id[:8],
        "bare": txn_id.replace("-", ""),
        "capitals": txn_id.upper(),
    }
    with pytest.raises(OutcomeUnknownError, match="it may still be in limbo") as caught:
        trail(database, None, forms[form])
    told = caught.value
    assert told.details["txn_id"] == txn_id
    assert told.details["step"] == step_of(operation.key)
    assert txn_id in told.message
    assert run.root in told.message
    assert "run the same operation again" in told.hint
    assert f"run: spanctl txn resolve {txn_id};" in told.hint


def test_a_fenced_operation_that_goes_on(database: Database, run: Run) -> None:
    """Behind an executor's fence, the next epoch's ID is in limbo; a closed one is settled."""
    call = leased(run, 0)
    fence.place(database, call, author=Author.EXECUTOR, provenance=run.provenance)
    second = replace(call, epoch=1)
    assert limbo.find(database, call.txn_id) == []
    assert [one.txn_id for one in limbo.find(database, second.txn_id)] == [second.txn_id]
    fence.close(database, call.key, provenance=run.provenance)
    assert limbo.find(database, second.txn_id) == []


def test_what_was_reopened_is_in_limbo_once_it_is_run(database: Database, run: Run) -> None:
    """Older leases hold nothing of it; whoever goes on with it leases it anew."""
    first, second = leased(run, 0), leased(run, 1)
    fence.close(database, first.key, provenance=run.provenance)
    fence.reopen(database, first.key, provenance=run.provenance)
    (entry,) = fence.standings(database, [first.key]).values()
    assert entry.reopened is not None
    third = replace(first, epoch=1)
    assert limbo.find(database, third.txn_id) == []
    assert [one.txn_id for one in limbo.find(database, second.txn_id)] == [second.txn_id]
    while_it_runs: list[limbo.Leased] = []

    def body(txn: Transaction) -> None:
        txn.insert("T", ("k", "s"), [(7, "x")])
        while_it_runs[:] = limbo.find(database, third.txn_id)

    result = run.execute(first, body)
    assert result.txn_id == third.txn_id
    ((lease,),) = [one.leases for one in while_it_runs]
    assert (lease.executor, lease.keys) == (run.executor, (first.key,))
    assert lease.since > entry.reopened
    run.ended(second)
    assert run.close()
    mine = {one.root_run for one in limbo.open_leases(database)}
    assert run.root not in mine


def test_all_that_was_reopened_goes_on_side_by_side(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that use up all sessions lease anew without waiting for one another."""
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 4)
    calls = run.lease([OperationKey(run.root, (), "wide", str(n)) for n in range(8)])
    for call in calls:
        fence.close(database, call.key, provenance=run.provenance)
        fence.reopen(database, call.key, provenance=run.provenance)
    gate = threading.Barrier(len(calls))

    def execute(call: Call) -> str:
        gate.wait(60)
        body = partial(insert, f"{run.root}-{call.key.call}")
        return run.execute(call, body, options=TransactionOptions(deadline=600)).txn_id

    with ThreadPoolExecutor(len(calls)) as pool:
        done = list(pool.map(execute, calls))
    assert done == [replace(call, epoch=1).txn_id for call in calls]


def insert(text: str, txn: Transaction) -> None:
    txn.insert("T", ("k", "s"), [(uuid.uuid4().int >> 70, text)])


def test_nothing_goes_on_reopened_without_its_lease(
    database: Database, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spanner does not acknowledge it: no body is run, and nothing is committed."""
    call = leased(run, "k")
    fence.close(database, call.key, provenance=run.provenance)
    fence.reopen(database, call.key, provenance=run.provenance)

    def refuse(*_: object) -> None:
        msg = "Spanner did not answer"
        raise UnreachableError(msg)

    monkeypatch.setattr(leases, "acknowledge", refuse)
    ran: list[Transaction] = []
    with pytest.raises(UnreachableError):
        run.execute(call, ran.append, expect_replay=True)
    assert ran[1:] == []
    assert receipts.get(database, replace(call, epoch=1).txn_id) is None


def test_two_executors_of_one_operation(database: Database, run: Run) -> None:
    """Leased by two of them it is listed once."""
    call = leased(run, 0)
    leased(Run(database, run.root, provenance=run.provenance), 0)
    assert [one.txn_id for one in limbo.find(database, call.txn_id)] == [call.txn_id]


def test_what_has_a_receipt_is_not_in_limbo(database: Database, run: Run) -> None:
    """Committed under a lease that is still open, its outcome is known."""
    call = leased(run, "k")
    run.execute(call, lambda txn: txn.insert("T", ("k", "s"), [(1, "x")]))
    assert limbo.find(database, call.txn_id) == []
    assert trail(database, None, call.txn_id).id == call.txn_id


def test_what_is_not_leased_or_closed_is_unknown_to_all(database: Database, run: Run) -> None:
    """An ID that nothing leases, and one whose lease was closed in order, is not found."""
    call = leased(run, 0)
    run.ended(call)
    assert run.close()
    for one in (call.txn_id, str(uuid.uuid4())):
        with pytest.raises(NotFoundError):
            trail(database, None, one)
