"""A fence is final: what it stands against never lands, whoever is faster is who is told."""

import itertools
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from spanctl.errors import ConflictError, KeyClosedError, OutcomeUnknownError, UnreachableError
from spanctl.ledger import fences
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import EntryKind, Provenance
from spanctl.spanner import fence, receipts
from spanctl.spanner.client import Database
from spanctl.spanner.run import Call, Run, TransactionOptions
from tests.faults import checks, raw
from tests.faults.proxy import black_hole, fail, hold, lose_reply

pytestmark = pytest.mark.emulator

INCREMENT = "UPDATE t SET v = v + 1 WHERE k = 1"
SHORT = TransactionOptions(deadline=2.0, rpc_timeout=0.3, resolve_timeout=20.0)
KEY = OperationKey("job", (), "step", 0)
ME = Provenance(initiator="ada@example.com", reason="a test")


def increment(txn) -> None:
    txn.execute_update(INCREMENT)
    txn.insert("events", ["id"], [[str(uuid.uuid4())]])


def of_a_body(peek) -> bool:
    """Commits of transactions that were begun, and so of no lease and no fence."""
    return peek.transaction != ""


def of_a_fence(peek) -> bool:
    return peek.writes == ("spanctl_receipts",) and not peek.transaction


@pytest.fixture
def database(proxy, ledger) -> Iterator[Database]:
    with Database(raw.target(proxy.address, ledger)) as made:
        _ = made.ledger
        yield made


@pytest.fixture
def operator(emulator_address, ledger) -> Iterator[Database]:
    """Somebody else, past the proxy."""
    with Database(raw.target(emulator_address, ledger)) as made:
        yield made


def test_a_held_commit_never_lands_behind_a_fence(
    proxy, emulator_address, ledger, database, operator
) -> None:
    """The commit is held back, the operation is resolved, the commit is let go: not applied."""
    run = Run(database, "job")
    (call,) = run.lease([KEY])
    rule = proxy.add("Commit", hold(), count=None, when=of_a_body)
    caught: list[Exception] = []

    def execute() -> None:
        try:
            run.execute(call, increment, options=SHORT)
        except (KeyClosedError, OutcomeUnknownError, UnreachableError) as error:
            caught.append(error)

    thread = threading.Thread(target=execute)
    thread.start()
    rule.wait()
    stands = fence.close(operator, KEY, provenance=ME)
    assert stands.is_closed
    rule.release()
    thread.join(90)
    assert [type(one) for one in caught] == [KeyClosedError]
    assert checks.truth(emulator_address, ledger, call.txn_id) == (0, 0, 0)
    with pytest.raises(KeyClosedError, match="is closed by the fence") as closed:
        Run(operator, "job").step("step", increment)
    assert f"spanctl txn reopen {call.txn_id}" in closed.value.hint


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_fence_against_commit_has_one_winner(  # noqa: PLR0913, PLR0917 - the race and its fixtures
    proxy, emulator_address, ledger, database, operator, delay
) -> None:
    """Whichever of the two is first, both sides tell the same, and so do the rows."""
    told: list[str] = []
    run = Run(database, "job")
    (call,) = run.lease([KEY])
    rule = proxy.add("Commit", hold(), when=of_a_body)

    def execute() -> None:
        try:
            run.execute(call, increment)
            told.append("COMMITTED")
        except KeyClosedError:
            told.append("NOT_COMMITTED")

    thread = threading.Thread(target=execute)
    thread.start()
    rule.wait()
    free = threading.Timer(delay, rule.release)
    free.start()
    stands = checks.within_reason(lambda: fence.close(operator, KEY, provenance=ME))
    free.join()
    thread.join(90)
    assert told == ["NOT_COMMITTED" if stands.is_closed else "COMMITTED"]
    applied = int(not stands.is_closed)
    assert checks.truth(emulator_address, ledger, call.txn_id) == (applied, applied, applied)


def test_two_resolvers_at_once_agree(emulator_address, ledger) -> None:
    """Both place a fence under the same ID: one is there, both tell of it."""
    barrier = threading.Barrier(2)
    found = []

    def resolve(name: str) -> None:
        with Database(raw.target(emulator_address, ledger)) as mine:
            _ = mine.ledger
            for ordinal in range(10):
                barrier.wait()
                key = OperationKey("job", (), "step", ordinal)
                found.append(fence.close(mine, key, provenance=Provenance(initiator=name)))

    threads = [threading.Thread(target=resolve, args=(name,)) for name in ("ada", "bob")]
    for one in threads:
        one.start()
    for one in threads:
        one.join(90)
    assert len(found) == 20
    by_id: dict[str, set[str | None]] = {}
    for one in found:
        assert one.is_closed
        by_id.setdefault(one.call.txn_id, set()).add(one.entry.provenance.initiator)
    assert [len(names) for names in by_id.values()] == [1] * 10


@pytest.mark.parametrize("code", ["INTERNAL", "UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED"])
@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not-applied"])
def test_a_fence_whose_reply_is_lost_is_found(proxy, database, code, applied) -> None:
    """Sent again, it meets itself; what is returned is what stands, with its author."""
    action = lose_reply(code) if applied else fail(code)
    rule = proxy.add("Commit", action, when=of_a_fence)
    stands = fence.place(database, Call(KEY), author=Author.EXECUTOR, provenance=ME)
    assert rule.hits == 1
    assert stands.kind is EntryKind.FENCED
    assert fences.author_of(stands) is Author.EXECUTOR
    assert stands == receipts.get(database, Call(KEY).txn_id)


def test_a_fence_behind_a_commit_tells_the_commit(database) -> None:
    """What had committed is what stands, also when the fence is placed blindly."""
    result = Run(database, "job").step("step", increment)
    stands = fence.place(database, Call(KEY), author=Author.OPERATOR, provenance=ME)
    assert (stands.txn_id, stands.kind) == (result.txn_id, EntryKind.COMMITTED)
    assert fence.close(database, KEY, provenance=ME).entry == stands
    with pytest.raises(ConflictError, match="is committed by"):
        fence.reopen(database, KEY, provenance=ME)


def test_the_deadline_of_an_open_commit_ends_in_a_no_that_is_final(
    proxy, emulator_address, ledger, database
) -> None:
    """No time to run the body again: the executor fences its own attempt, and says so."""
    run = Run(database, "job")
    (call,) = run.lease([KEY])
    rule = proxy.add("Commit", hold(), count=None, when=of_a_body)
    with pytest.raises(UnreachableError):
        checks.within_reason(lambda: run.execute(call, increment, options=SHORT))
    rule.release()
    assert checks.truth(emulator_address, ledger, call.txn_id) == (0, 0, 0)
    assert run.close()
    found = receipts.get(database, call.txn_id)
    assert fences.author_of(found) is Author.EXECUTOR
    proxy.clear()
    again = Run(database, "job").step("step", increment)
    assert not again.replayed
    assert again.txn_id == replace(call, epoch=1).txn_id
    assert checks.truth(emulator_address, ledger, again.txn_id) == (1, 1, 1)
    once_more = Run(database, "job").step("step", increment)
    assert (once_more.replayed, once_more.txn_id) == (True, again.txn_id)


def test_an_executor_that_meets_another_ones_fence_goes_on(
    emulator_address, ledger, database, operator
) -> None:
    """It expected nobody before it: its commit meets the fence, and its body is run once more."""
    runs = itertools.count(1)

    def body(txn) -> int:
        increment(txn)
        return next(runs)

    fence.place(operator, Call(KEY), author=Author.EXECUTOR, provenance=ME)
    result = Run(database, "job").step("step", body, expect_replay=False)
    assert (result.result, result.txn_id) == (2, Call(KEY, 1).txn_id)
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)


def test_the_commit_of_a_later_epoch_is_the_answer(
    emulator_address, ledger, database, operator
) -> None:
    """Fenced, gone on and committed by another: that is replayed, whatever the body stumbles on."""
    fence.place(operator, Call(KEY), author=Author.EXECUTOR, provenance=ME)
    committed = Run(operator, "job").step("step", increment)

    def broken(txn) -> None:
        txn.execute_update(INCREMENT)
        raise ZeroDivisionError

    later = Run(database, "job").step("step", broken, expect_replay=False)
    assert (later.replayed, later.txn_id) == (True, committed.txn_id)
    assert checks.truth(emulator_address, ledger, committed.txn_id) == (1, 1, 1)


def test_reopened_it_runs_once_and_is_recorded(emulator_address, ledger, database) -> None:
    """Closed, refused, reopened with a reason, run; closed once more in the later epoch."""
    closed = fence.close(database, KEY, provenance=ME)
    for expect in (True, False):
        with pytest.raises(KeyClosedError):
            Run(database, "job").step("step", increment, expect_replay=expect)
    assert checks.truth(emulator_address, ledger, closed.call.txn_id) == (0, 0, 0)
    fenced, entry = fence.reopen(database, KEY, provenance=replace(ME, reason="it was right"))
    assert (fenced.txn_id, fences.reopened_by(entry)) == (closed.call.txn_id, fenced.txn_id)
    assert entry.provenance.reason == "it was right"
    assert fence.standing(database, KEY).entry is None
    again = fence.close(database, KEY, provenance=ME)
    assert again.call.epoch == 1
    fence.reopen(database, KEY, provenance=ME)
    result = Run(database, "job").step("step", increment, expect_replay=False)
    assert result.txn_id == Call(KEY, 2).txn_id
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)
    with pytest.raises(ConflictError, match="is committed by"):
        fence.reopen(database, KEY, provenance=ME)


def test_reopening_what_is_open_is_refused(database) -> None:
    """Nothing closes it, or only an executor's own fence stood there: it may be run as it is."""
    with pytest.raises(ConflictError, match="is not closed"):
        fence.reopen(database, KEY, provenance=ME)
    fence.place(database, Call(KEY), author=Author.EXECUTOR, provenance=ME)
    with pytest.raises(ConflictError, match="is not closed"):
        fence.reopen(database, KEY, provenance=ME)


def test_unknown_only_while_nothing_can_be_asked(proxy, database) -> None:
    """No Commit is answered at all, that of the fence neither: UNKNOWN, and what to run then."""
    run = Run(database, "job")
    (call,) = run.lease([KEY])
    proxy.add("Commit", black_hole(), count=None)
    short = replace(SHORT, resolve_timeout=2.0)
    with pytest.raises(OutcomeUnknownError) as caught:
        checks.within_reason(lambda: run.execute(call, increment, options=short))
    assert caught.value.hint.endswith(f"spanctl txn resolve {call.txn_id}")


def test_the_happy_path_pays_nothing_for_fences(proxy, database) -> None:
    """Once leased, a fresh operation is its statement and its Commit, and no look-up."""
    run = Run(database, "job")
    calls = run.lease([KEY, replace(KEY, call=1)])
    run.execute(calls[0], increment)
    before = len(proxy.rpcs())
    run.execute(calls[1], increment)
    assert [one.method for one in proxy.rpcs()[before:]] == ["ExecuteSql", "Commit"]
