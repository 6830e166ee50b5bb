"""Whatever one fault does to a transaction, the report, the receipt and the rows tell the same."""

import itertools
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from spanctl.errors import (
    DeadlineError,
    KeyReusedError,
    NotPermittedError,
    OutcomeUnknownError,
    StatementError,
    UnreachableError,
)
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.ledger.receipt import EntryKind, Outcome
from spanctl.spanner import receipts
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run, TransactionOptions
from tests.faults import checks, raw
from tests.faults.proxy import FaultProxy, black_hole, cut, fail, hold, lose_reply

pytestmark = pytest.mark.emulator

CODES = (
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "UNKNOWN",
    "CANCELLED",
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "ABORTED",
)
POINTS = ("begin", "first statement", "later statement", "commit")
INCREMENT = "UPDATE t SET v = v + 1 WHERE k = 1"
SHORT = TransactionOptions(deadline=3.0, rpc_timeout=0.3, resolve_timeout=2.0)


class InsufficientFundsError(Exception):
    """What a body raises that checks before it writes."""


def increment(txn) -> int:
    """Count up by DML, and note each application as an event of its own."""
    ((value,),) = txn.execute_sql("SELECT v FROM t WHERE k = 1")
    txn.execute_update(INCREMENT)
    txn.insert("events", ["id"], [[str(uuid.uuid4())]])
    return value + 1


def mutate(txn) -> None:
    """Write without a statement: the transaction is begun by its own RPC."""
    txn.insert("events", ["id"], [[str(uuid.uuid4())]])


def spend(txn) -> None:
    """Refuse to run where it has run: its own check ends a replay before the commit."""
    ((value,),) = txn.execute_sql("SELECT v FROM t WHERE k = 1")
    if value:
        raise InsufficientFundsError
    increment(txn)


def insert_fixed(txn) -> None:
    """Insert the same row each time: a replay meets the user's own ALREADY_EXISTS."""
    txn.execute_update("INSERT INTO events (id) VALUES ('fixed')")
    txn.execute_update(INCREMENT)


def place(proxy: FaultProxy, point: str, action) -> None:
    """Hit the RPC of the next read-write transaction that the point names."""
    if point == "begin":
        proxy.add("BeginTransaction", action)
    elif point == "first statement":
        proxy.add("ExecuteStreamingSql", action, when=lambda peek: peek.begins)
    elif point == "later statement":
        proxy.add("ExecuteSql", action, when=lambda peek: peek.transaction != "")
    else:
        proxy.add("Commit", action, when=lambda peek: "spanctl_receipts" in peek.writes)


@pytest.fixture
def database(proxy: FaultProxy, ledger: str) -> Iterator[Database]:
    with Database(raw.target(proxy.address, ledger)) as made:
        _ = made.ledger
        yield made


def key(call: int | str = 0) -> OperationKey:
    return OperationKey("job", (), "step", call)


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not-applied"])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("code", CODES)
def test_one_fault_anywhere_changes_no_outcome(  # noqa: PLR0913, PLR0917 - the matrix and its fixtures
    proxy, emulator_address, ledger, database, code, point, applied
) -> None:
    """COMMITTED means once, an error means never; receipt and rows say the same as the report."""
    body = mutate if point == "begin" else increment
    run = Run(database, "job")
    (call,) = run.lease([key()])
    place(proxy, point, lose_reply(code) if applied else fail(code))
    reported = None
    try:
        reported = checks.within_reason(lambda: run.execute(call, body))
    except NotPermittedError:
        assert code == "UNAUTHENTICATED"
    value, events, receipt_rows = checks.truth(emulator_address, ledger, txn_id(key()))
    expected = 1 if reported else 0
    assert (events, receipt_rows) == (expected, expected)
    assert value == (expected if body is increment else 0)
    if reported:
        receipt = receipts.get(database, reported.txn_id)
        assert reported.outcome is Outcome.COMMITTED
        assert receipt.commit_timestamp == reported.commit_timestamp
        assert receipt.row_counts == reported.row_counts
        assert run.close()
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize("code", [code for code in CODES if code != "UNAUTHENTICATED"])
def test_nothing_short_of_a_refusal_ends_a_transaction(proxy, database, code) -> None:
    """A single passing failure of a statement is no reason to fail: the body is run again."""
    place(proxy, "first statement", fail(code))
    result = Run(database, "job").step("step", increment)
    assert result.result == 1
    assert result.attempts == 2


@pytest.mark.parametrize("body", [spend, insert_fixed], ids=["own-check", "own-already-exists"])
def test_the_receipt_wins_over_the_bodys_own_error(
    proxy, emulator_address, ledger, database, body
) -> None:
    """An executor whose predecessor committed gets the commit, not what its body trips over."""
    with Database(raw.target(emulator_address, ledger)) as earlier:
        first = Run(earlier, "job").step("step", body)
    later = Run(database, "job").step("step", body, expect_replay=False)
    assert later.replayed
    assert not first.replayed
    assert later.commit_timestamp == first.commit_timestamp
    assert checks.truth(emulator_address, ledger, first.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize("code", ["INTERNAL", "UNAUTHENTICATED", "ABORTED"])
@pytest.mark.parametrize("body", [spend, insert_fixed], ids=["own-check", "own-already-exists"])
def test_a_lost_reply_never_becomes_the_bodys_own_error(  # noqa: PLR0913, PLR0917 - as above
    proxy, emulator_address, ledger, database, body, code
) -> None:
    """The commit was applied and its reply lost: COMMITTED, whatever a second run would raise."""
    proxy.add("Commit", lose_reply(code), when=lambda peek: "spanctl_receipts" in peek.writes)
    result = Run(database, "job").step("step", body)
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


def test_a_body_that_fails_commits_nothing_and_says_why(
    proxy, emulator_address, ledger, database
) -> None:
    """Without a receipt the body's own error is the answer, and the locks are free at once."""

    def broken(txn) -> None:
        increment(txn)
        raise InsufficientFundsError

    with pytest.raises(InsufficientFundsError):
        Run(database, "job").step("step", broken)
    assert checks.truth(emulator_address, ledger, txn_id(key())) == (0, 0, 0)
    assert len(proxy.rpcs("Rollback")) == 1
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("UPDATE missing SET v = 1 WHERE k = 1", "INVALID_ARGUMENT"),
        ("INSERT INTO t (k, v) VALUES (1, 1)", "ALREADY_EXISTS"),
    ],
)
def test_a_refused_statement_is_rolled_back_and_named(proxy, database, sql, status) -> None:
    """The user's own error keeps its status, and a Rollback follows it."""
    with pytest.raises(StatementError) as caught:
        Run(database, "job").step("step", lambda txn: txn.execute_update(sql))
    assert caught.value.details["status"] == status
    checks.rollbacks_are_right(proxy)


def test_a_refused_mutation_is_rolled_back_and_named(
    proxy, emulator_address, ledger, database
) -> None:
    """A Commit that Spanner refuses on its first send is NOT_COMMITTED, and rolled back."""
    with pytest.raises(StatementError) as caught:
        Run(database, "job").step("step", lambda txn: txn.insert("t", ["k"], [[1]]))
    assert caught.value.details["status"] == "ALREADY_EXISTS"
    assert "1" not in str(caught.value)
    assert checks.truth(emulator_address, ledger, txn_id(key())) == (0, 0, 0)
    checks.rollbacks_are_right(proxy)


def test_aborted_runs_the_whole_body_again(proxy, emulator_address, ledger, database) -> None:
    """Three aborted commits: four runs of the body, one application."""
    proxy.add("Commit", fail("ABORTED"), count=3, when=lambda p: "spanctl_receipts" in p.writes)
    runs = itertools.count(1)

    def body(txn) -> int:
        increment(txn)
        return next(runs)

    result = Run(database, "job").step("step", body)
    assert (result.result, result.attempts) == (4, 4)
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)


def test_aborted_until_the_deadline_is_not_committed(
    proxy, emulator_address, ledger, database
) -> None:
    """Endless aborts end with the deadline, and with a definite answer."""
    proxy.add("Commit", fail("ABORTED"), count=None, when=lambda p: "spanctl_receipts" in p.writes)
    run = Run(database, "job")
    with pytest.raises(DeadlineError):
        checks.within_reason(lambda: run.step("step", increment, options=SHORT))
    assert checks.truth(emulator_address, ledger, txn_id(key())) == (0, 0, 0)


def test_aborted_until_the_deadline_while_another_committed_is_a_replay(
    proxy, emulator_address, ledger, database
) -> None:
    """Whatever ended the attempts, the receipt is what is reported."""
    with Database(raw.target(emulator_address, ledger)) as other:
        Run(other, "job").step("step", increment)
    proxy.add("ExecuteStreamingSql", fail("ABORTED"), count=None, when=lambda p: p.begins)
    run = Run(database, "job")
    result = checks.within_reason(
        lambda: run.step("step", increment, options=SHORT, expect_replay=False)
    )
    assert result.replayed
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)


@pytest.mark.parametrize("point", POINTS)
def test_a_black_hole_is_bounded(proxy, emulator_address, ledger, database, point) -> None:
    """A server that never answers one kind of RPC ends within the deadlines, truthfully."""
    body = mutate if point == "begin" else increment
    run = Run(database, "job")
    (call,) = run.lease([key()])
    if point == "commit":
        proxy.add("Commit", black_hole(), count=None)
    else:
        method = {"begin": "BeginTransaction", "later statement": "ExecuteSql"}
        proxy.add(method.get(point, "ExecuteStreamingSql"), black_hole(), count=None)
    expected = OutcomeUnknownError if point == "commit" else (UnreachableError, DeadlineError)
    with pytest.raises(expected) as caught:
        checks.within_reason(lambda: run.execute(call, body, options=SHORT))
    if point == "commit":
        assert caught.value.details["txn_id"] == call.txn_id
    assert checks.truth(emulator_address, ledger, call.txn_id) == (0, 0, 0)
    checks.rollbacks_are_right(proxy)


def test_a_commit_applied_in_a_black_hole_is_found_by_its_receipt(
    proxy, emulator_address, ledger, database
) -> None:
    """No Commit is ever answered, yet the ledger can be read: COMMITTED, with the body's value."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    proxy.add("Commit", black_hole(forward=True), count=None)
    result = checks.within_reason(lambda: run.execute(call, increment, options=SHORT))
    assert result.result == 1
    assert checks.truth(emulator_address, ledger, call.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize("forward", [True, False], ids=["applied", "not-applied"])
def test_a_cut_connection_during_commit_is_resolved(
    proxy, emulator_address, ledger, database, forward
) -> None:
    """The network breaks in the commit and comes back: applied once, reported COMMITTED."""
    proxy.add("Commit", cut(forward=forward), when=lambda p: "spanctl_receipts" in p.writes)
    result = Run(database, "job").step("step", increment)
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize("forward", [True, False], ids=["applied", "not-applied"])
def test_a_server_that_vanishes_in_the_commit_leaves_unknown_and_a_safe_rerun(
    proxy, emulator_address, ledger, database, forward
) -> None:
    """UNKNOWN while it can't be reached; the same call again, once it can, applies once."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    rule = proxy.add("Commit", black_hole(forward=forward))

    def vanish() -> None:
        rule.wait()
        proxy.refuse()

    watcher = threading.Thread(target=vanish)
    watcher.start()
    with pytest.raises(OutcomeUnknownError):
        checks.within_reason(lambda: run.execute(call, increment, options=SHORT))
    watcher.join()
    proxy.refuse(refusing=False)
    again = Run(database, "job").step("step", increment)
    assert again.replayed is forward
    assert checks.truth(emulator_address, ledger, call.txn_id) == (1, 1, 1)


def test_a_held_commit_that_lands_late_is_applied_once(
    proxy, emulator_address, ledger, database
) -> None:
    """The first Commit arrives after the second attempt began: one of the two is let in."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    rule = proxy.add("Commit", hold(), count=4)

    def let_go() -> None:
        rule.wait()
        while not proxy.rpcs("StreamingRead"):
            threading.Event().wait(0.01)
        rule.release(wait=False)

    watcher = threading.Thread(target=let_go)
    watcher.start()
    result = checks.within_reason(lambda: run.execute(call, increment, options=SHORT))
    watcher.join()
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)


def test_in_doubt_and_then_refused_is_made_final(proxy, emulator_address, ledger, database) -> None:
    """A held commit may still land, so what a second run raises is a "no" only behind a fence."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    rule = proxy.add("Commit", hold(), count=None, when=lambda peek: peek.transaction != "")
    runs = itertools.count()

    def body(txn) -> None:
        if next(runs):
            raise InsufficientFundsError
        increment(txn)

    with pytest.raises(InsufficientFundsError):
        checks.within_reason(lambda: run.execute(call, body, options=replace(SHORT, deadline=20)))
    rule.release()
    assert checks.truth(emulator_address, ledger, call.txn_id) == (0, 0, 0)
    assert receipts.get(database, call.txn_id).kind is EntryKind.FENCED
    assert run.close()


def test_the_same_key_with_other_arguments_is_refused(
    proxy, emulator_address, ledger, database
) -> None:
    """Neither run nor replayed: the difference is named, and nothing is written."""
    Run(database, "job").step("step", increment, key="a", arguments={"amount": 1})
    for expect in (True, False):
        with pytest.raises(KeyReusedError):
            Run(database, "job").step(
                "step", increment, key="a", arguments={"amount": 2}, expect_replay=expect
            )
    again = Run(database, "job").step("step", increment, key="a", arguments={"amount": 1})
    assert again.replayed
    assert checks.truth(emulator_address, ledger, again.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not-applied"])
@pytest.mark.parametrize("code", CODES)
def test_no_commit_without_an_acknowledged_lease(  # noqa: PLR0913, PLR0917 - as above
    proxy, emulator_address, ledger, database, code, applied
) -> None:
    """A lease whose reply is lost is sent again before anything commits, or the call fails."""
    action = lose_reply(code) if applied else fail(code)
    proxy.add("Commit", action, when=lambda peek: "spanctl_intents" in peek.writes)
    run = Run(database, "job")
    try:
        checks.within_reason(lambda: run.step("step", increment))
    except NotPermittedError:
        assert code == "UNAUTHENTICATED"
        assert checks.truth(emulator_address, ledger, txn_id(key())) == (0, 0, 0)
    else:
        assert checks.truth(emulator_address, ledger, txn_id(key())) == (1, 1, 1)
    tables = [one.peek.writes[0] for one in proxy.rpcs("Commit") if one.upstream == "OK"]
    if "events" in tables:
        assert "spanctl_intents" in tables[: tables.index("events")]


def test_an_unreachable_ledger_leases_nothing_and_commits_nothing(
    proxy, emulator_address, ledger, database
) -> None:
    """Without an acknowledged lease the body never runs."""
    proxy.add("Commit", fail("PERMISSION_DENIED"), count=None)
    ran = threading.Event()
    with pytest.raises(NotPermittedError):
        Run(database, "job").step("step", lambda _: ran.set())
    assert not ran.is_set()
    assert checks.truth(emulator_address, ledger, txn_id(key())) == (0, 0, 0)


def test_two_executors_of_one_key_apply_once(proxy, emulator_address, ledger) -> None:
    """Both run everything at the same time; one commits, the other gets its receipt."""
    barrier = threading.Barrier(2)
    results = []

    def execute() -> None:
        with Database(raw.target(proxy.address, ledger)) as mine:
            _ = mine.ledger
            barrier.wait()
            run = Run(mine, "job")
            results.extend(run.step("step", increment, expect_replay=False) for _ in range(10))

    threads = [threading.Thread(target=execute) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(90)
    assert len(results) == 20
    ids = {one.txn_id for one in results}
    assert len(ids) == 10
    for name in ids:
        replayed = sorted(one.replayed for one in results if one.txn_id == name)
        assert replayed == [False, True]
    value, events, _ = checks.truth(emulator_address, ledger, results[0].txn_id)
    assert (value, events) == (10, 10)
    checks.rollbacks_are_right(proxy)
