"""What bodies and servers do that isn't a lost reply: swallow, interrupt, go on, forget."""

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud.spanner_v1.keyset import KeySet

from spanctl import interrupts
from spanctl.errors import (
    ConflictError,
    NotPermittedError,
    OutcomeUnknownError,
    StatementError,
    UsageError,
)
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.ledger.receipt import Outcome, Provenance
from spanctl.spanner import applying, attempt, leases
from spanctl.spanner.client import Database
from spanctl.spanner.run import Call, Run, TransactionOptions
from tests.faults import checks, raw
from tests.faults.proxy import FaultProxy, black_hole, delay, fail, hold, lose_reply
from tests.faults.test_protocol import INCREMENT, SHORT, increment, insert_fixed, key, mutate, place

pytestmark = pytest.mark.emulator


@pytest.fixture
def database(proxy: FaultProxy, ledger: str):
    with Database(raw.target(proxy.address, ledger)) as made:
        _ = made.ledger
        yield made


def open_leases(address: str, name: str) -> int:
    sql = "SELECT COUNT(*) FROM spanctl_intents WHERE open_since IS NOT NULL AND prefix LIKE 'job%'"
    return int(raw.rows(address, name, sql)[0][0])


def test_a_body_may_catch_a_refused_statement_and_go_on(
    proxy, emulator_address, ledger, database
) -> None:
    """A caught failure of the first statement doesn't spoil or hang the transaction.

    Not a violated constraint: after that the emulator, unlike Spanner, answers the same to all.
    """

    def body(txn) -> None:
        with pytest.raises(StatementError):
            txn.execute_update("UPDATE missing SET v = 1 WHERE k = 1")
        increment(txn)

    result = checks.within_reason(lambda: Run(database, "job").step("step", body))
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize("point", ["first statement", "later statement"])
@pytest.mark.parametrize("code", ["ABORTED", "INTERNAL"])
def test_a_body_that_swallows_the_loss_of_its_attempt_commits_nothing_half(  # noqa: PLR0913, PLR0917 - the matrix and its fixtures
    proxy, emulator_address, ledger, database, point, code
) -> None:
    """``except Exception: pass`` around a lost statement: the attempt is run again all the same."""
    place(proxy, point, fail(code))

    def body(txn) -> None:
        with contextlib.suppress(Exception):
            increment(txn)

    result = checks.within_reason(lambda: Run(database, "job").step("step", body))
    assert result.attempts == 2
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_body_is_rolled_back_at_once(
    proxy, emulator_address, ledger, database, interruption
) -> None:
    """Ctrl-C and SIGTERM release the locks and go on as what they are."""

    def body(txn) -> None:
        increment(txn)
        raise interruption

    begun = []
    run = Run(database, "job")
    (call,) = run.lease([key()])
    with pytest.raises(interruption):
        checks.within_reason(lambda: run.execute(call, body, begun=begun.append))
    assert [(one.call.txn_id, one.outcome) for one in begun] == [
        (call.txn_id, Outcome.NOT_COMMITTED)
    ]
    assert len(proxy.rpcs("Rollback")) == 1
    assert checks.truth(emulator_address, ledger, txn_id(key())) == (0, 0, 0)
    checks.rollbacks_are_right(proxy)


def test_a_transaction_is_of_no_use_after_its_body(database) -> None:
    """A transaction that leaks out of its body refuses, and sends nothing."""
    leaked = []
    Run(database, "job").step("step", leaked.append)
    with pytest.raises(Exception, match="the transaction has ended"):
        leaked[0].execute_update(INCREMENT)


def test_a_session_that_the_server_forgot_is_replaced(emulator_address, ledger, database) -> None:
    """Sessions that were deleted meanwhile cost a new session, and no failure."""
    run = Run(database, "job")
    run.step("step", increment)
    with raw.database(emulator_address, ledger) as google:
        api = google.spanner_api
        for session in list(api.list_sessions(database=google.name)):
            if not session.multiplexed:
                api.delete_session(name=session.name)
    result = checks.within_reason(lambda: run.step("step", increment))
    assert result.result == 2
    assert checks.truth(emulator_address, ledger, result.txn_id) == (2, 2, 1)
    assert run.close()


def test_leases_are_closed_when_all_is_settled(emulator_address, ledger, database) -> None:
    """Committed, refused and failed calls are accounted for; their leases close."""
    with Run(database, "job") as run:
        run.step("step", increment)
        with pytest.raises(StatementError):
            run.step("step", lambda txn: txn.insert("t", ["k"], [[1]]))
        with pytest.raises(ZeroDivisionError):
            run.step("other", lambda _: 1 // 0)
        assert open_leases(emulator_address, ledger) == 3
    assert open_leases(emulator_address, ledger) == 0


def test_a_lease_stays_open_while_its_call_is_in_doubt(
    proxy, emulator_address, ledger, database
) -> None:
    """UNKNOWN leaves the lease as the trace of what may be in limbo; a later run may settle it."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    rule = proxy.add("Commit", black_hole(), count=None)
    with pytest.raises(OutcomeUnknownError):
        checks.within_reason(lambda: run.execute(call, increment, options=SHORT))
    assert rule.hits > 0
    proxy.clear()
    assert not run.close()
    assert open_leases(emulator_address, ledger) == 1
    assert not Run(database, "job").step("step", increment).replayed
    assert run.close()
    assert checks.truth(emulator_address, ledger, call.txn_id) == (1, 1, 1)


def test_a_lost_commit_without_another_session_is_unknown(
    proxy, emulator_address, ledger, database
) -> None:
    """The held commit lands after all, so no failure to go on may be told as "not committed"."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    rule = proxy.add("Commit", hold(), when=lambda p: "spanctl_receipts" in p.writes)
    proxy.add("Commit", fail("INTERNAL"), count=None, when=lambda p: "spanctl_receipts" in p.writes)
    proxy.add("CreateSession", fail("INTERNAL"), count=None)
    with pytest.raises(OutcomeUnknownError):
        checks.within_reason(lambda: run.execute(call, increment, options=SHORT))
    rule.release()
    proxy.clear()
    assert checks.truth(emulator_address, ledger, call.txn_id) == (1, 1, 1)
    assert run.close()


def test_another_ledger_behind_a_forgotten_session_is_refused(
    emulator_address, ledger, database
) -> None:
    """A database that was made anew under a running job is told from the one that it began in."""
    run = Run(database, "job")
    run.step("step", increment)
    with raw.database(emulator_address, ledger) as google:
        api = google.spanner_api
        for session in list(api.list_sessions(database=google.name)):
            if not session.multiplexed:
                api.delete_session(name=session.name)
        with google.batch() as batch:
            batch.update("spanctl_settings", ["name", "value"], [["ledger_id", "another"]])
    held = database.ledger.ledger_id
    with pytest.raises(ConflictError, match=f"holds ledger another now, and held {held} before"):
        checks.within_reason(lambda: run.step("step", increment))
    assert checks.truth(emulator_address, ledger, txn_id(key(1))) == (1, 1, 0)


def test_statements_of_several_threads_are_one_transaction(
    proxy, emulator_address, ledger, database
) -> None:
    """Threads of a body that send its first statements at once begin one transaction, not two."""
    proxy.add("ExecuteSql", delay(0.2), count=None)

    def body(txn) -> int:
        with ThreadPoolExecutor(3) as pool:
            return sum(pool.map(lambda _: txn.execute_update(INCREMENT), range(3)))

    result = checks.within_reason(lambda: Run(database, "job").step("step", body))
    assert result.row_counts == (1, 1, 1)
    assert checks.truth(emulator_address, ledger, result.txn_id) == (3, 0, 1)
    checks.rollbacks_are_right(proxy)


def test_a_receipt_that_cant_be_written_is_rolled_back(proxy, database) -> None:
    """What fails between the body and its Commit releases the locks as its own error does."""
    run = Run(database, "job", provenance=Provenance(reason="\udcff"))
    with pytest.raises(UsageError, match="surrogate"):
        run.step("step", increment)
    assert len(proxy.rpcs("Rollback")) == 1
    checks.rollbacks_are_right(proxy)


def test_ctrl_c_stays_ctrl_c_where_nothing_can_be_found_out(
    proxy, emulator_address, ledger, database
) -> None:
    """An interruption is no error that a retry could mend, whatever became of the transaction."""
    run = Run(database, "job")
    (call,) = run.lease([key()])

    def body(txn) -> None:
        increment(txn)
        proxy.refuse()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        checks.within_reason(lambda: run.execute(call, body, options=SHORT, expect_replay=True))
    told = f"transaction {call.txn_id}: UNKNOWN; run: spanctl txn resolve {call.txn_id}"
    assert caught.value.__notes__ == [told]
    proxy.refuse(refusing=False)
    assert checks.truth(emulator_address, ledger, call.txn_id) == (0, 0, 0)


def test_a_row_that_is_there_already_is_unknown_while_the_receipt_cant_be_read(
    proxy, emulator_address, ledger, database
) -> None:
    """ALREADY_EXISTS may mean that another executor has committed: unread, it is no "no"."""
    with Database(raw.target(emulator_address, ledger)) as earlier:
        Run(earlier, "job").step("step", insert_fixed)
    run = Run(database, "job")
    (call,) = run.lease([key()])
    proxy.add("StreamingRead", fail("INTERNAL"), count=None)
    with pytest.raises(OutcomeUnknownError):
        checks.within_reason(lambda: run.execute(call, insert_fixed, options=SHORT))
    assert checks.truth(emulator_address, ledger, call.txn_id) == (1, 1, 1)
    proxy.clear()
    assert run.close()


def test_nothing_runs_without_its_lease(emulator_address, ledger, database) -> None:
    """An operation that was never leased, or whose lease was used, is refused by name."""
    run = Run(database, "job")
    with pytest.raises(UsageError, match="job/step#0 is not leased"):
        run.execute(Call(key()), increment)
    (call,) = run.lease([key()])
    run.execute(call, increment)
    with pytest.raises(UsageError, match="job/step#0 is not leased"):
        run.execute(call, increment)
    assert checks.truth(emulator_address, ledger, call.txn_id) == (1, 1, 1)


def test_a_call_in_doubt_keeps_the_lease_that_its_twin_has_settled(
    proxy, emulator_address, ledger, database
) -> None:
    """The same call in two threads: one fails for sure, the other's commit may still land."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    run.lease([key()])
    with pytest.raises(ZeroDivisionError):
        run.execute(call, lambda _: 1 // 0)
    proxy.add("Commit", black_hole(), count=None)
    with pytest.raises(OutcomeUnknownError):
        checks.within_reason(lambda: run.execute(call, increment, options=SHORT))
    proxy.clear()
    assert not run.close()
    assert open_leases(emulator_address, ledger) == 1


def test_a_lease_that_landed_unheard_takes_no_other_with_it(
    proxy, emulator_address, ledger, database, monkeypatch
) -> None:
    """Leased again together with a new one, of two rows one is there: the other is written too."""
    monkeypatch.setattr(leases, "_TIMEOUT", 0.1)
    monkeypatch.setattr(applying, "_RPC_TIMEOUT", 0.2)
    run = Run(database, "job")
    rule = proxy.add("Commit", lose_reply("INTERNAL"))
    proxy.add("Commit", fail("INTERNAL"), nth=2, count=None)
    with pytest.raises(StatementError):
        run.lease([key()])
    assert rule.hits == 1
    proxy.clear()
    assert open_leases(emulator_address, ledger) == 1
    run.lease([key(), OperationKey("job", (), "other", 0)])
    assert open_leases(emulator_address, ledger) == 2


def test_what_is_leased_after_a_close_is_open_again(emulator_address, ledger, database) -> None:
    """A lease of the same calls as one that was closed is a row of its own."""
    run = Run(database, "job")
    for _ in range(2):
        run.step("step", increment, key="same")
        assert open_leases(emulator_address, ledger) == 1
        assert run.close()
        assert open_leases(emulator_address, ledger) == 0


def test_a_kept_result_comes_back_with_the_replay(database) -> None:
    """With ``keep_result`` a later executor gets the value that the first one computed."""
    from spanctl.spanner.run import TransactionOptions

    kept = TransactionOptions(keep_result=True)
    first = Run(database, "job").step("step", lambda _: {"paid": [1, 2]}, options=kept)
    again = Run(database, "job").step("step", lambda _: {"paid": []}, options=kept)
    assert (first.result, first.replayed) == ({"paid": [1, 2]}, False)
    assert (again.result, again.replayed) == ({"paid": [1, 2]}, True)


def test_two_lost_replies_in_a_row_still_apply_once(
    proxy, emulator_address, ledger, database
) -> None:
    """The reply to Commit and to its replays is lost; the receipt tells."""
    proxy.add(
        "Commit", lose_reply("INTERNAL"), count=4, when=lambda p: "spanctl_receipts" in p.writes
    )
    result = checks.within_reason(lambda: Run(database, "job").step("step", increment))
    assert not result.replayed
    assert result.result == 1
    assert checks.truth(emulator_address, ledger, result.txn_id) == (1, 1, 1)
    checks.rollbacks_are_right(proxy)


def update_only(txn) -> None:
    """Begin with a statement that isn't streamed."""
    txn.execute_update(INCREMENT)


BEGINS = pytest.mark.parametrize(
    ("method", "body"),
    [
        ("ExecuteStreamingSql", increment),
        ("ExecuteSql", update_only),
        ("BeginTransaction", mutate),
    ],
)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNAUTHENTICATED"])
@BEGINS
def test_a_begin_whose_reply_is_lost_costs_its_session(  # noqa: PLR0913, PLR0917 - cases, fixtures
    proxy, emulator_address, ledger, database, method, body, code
) -> None:
    """Nobody knows that transaction's id to roll it back: its session is never used again."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    proxy.clear()
    proxy.add(method, lose_reply(code), when=lambda peek: peek.begins)
    with contextlib.suppress(NotPermittedError):
        checks.within_reason(lambda: run.execute(call, body))
    orphaned = next(one.peek.session for one in proxy.rpcs(method) if one.peek.begins)
    commits = {one.peek.session for one in proxy.rpcs("Commit")}
    assert orphaned not in commits or code == "UNAUTHENTICATED"  # begun anew there, in one go
    proxy.clear()
    after = run.step("after", body)
    assert orphaned not in {one.peek.session for one in proxy.rpcs()}
    assert checks.truth(emulator_address, ledger, after.txn_id)[2] == 1


def interrupt_at(rule, *, go_on: bool) -> threading.Thread:
    """Send this process Ctrl-C when a rule was hit; release that once the signal was heard."""

    def send() -> None:
        rule.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        deadline = time.monotonic() + 60
        # What waits for the shield to end: nothing but a test asks.
        while go_on and not interrupts._waiting and time.monotonic() < deadline:  # noqa: SLF001
            time.sleep(0.01)
        rule.release()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@BEGINS
def test_an_interrupted_begin_is_rolled_back(  # noqa: PLR0913, PLR0917 - cases, fixtures
    proxy, emulator_address, ledger, database, method, body
) -> None:
    """Ctrl-C before anybody knows the transaction's id: the reply is awaited, and says it."""
    run = Run(database, "job")
    (call,) = run.lease([key()])
    rule = proxy.add(method, hold(), when=lambda peek: peek.begins)
    thread = interrupt_at(rule, go_on=True)
    with pytest.raises(KeyboardInterrupt) as caught:
        run.execute(call, body)
    thread.join()
    assert caught.value.__notes__ == [f"transaction {call.txn_id}: NOT_COMMITTED"]
    (begun,) = [one.transaction for one in proxy.rpcs(method) if one.peek.begins]
    assert begun
    assert [one.transaction for one in proxy.rpcs("Rollback")] == [begun]
    assert not [one for one in proxy.rpcs("Commit") if one.transaction == begun]
    assert checks.truth(emulator_address, ledger, call.txn_id) == (0, 0, 0)


@BEGINS
def test_an_interrupted_begin_without_answer_costs_its_session(  # noqa: PLR0913, PLR0917 - as above
    proxy, emulator_address, ledger, database, monkeypatch, method, body
) -> None:
    """Ctrl-C waits for the reply a while only, then leaves to the server what it can't name."""
    monkeypatch.setattr(attempt, "_NAMING", 0.2)
    run = Run(database, "job")
    (call,) = run.lease([key()])
    rule = proxy.add(method, black_hole(forward=True), when=lambda peek: peek.begins)
    thread = interrupt_at(rule, go_on=False)
    with pytest.raises(KeyboardInterrupt) as caught:
        run.execute(call, body, options=TransactionOptions(deadline=3600, rpc_timeout=3600))
    thread.join()
    assert caught.value.__notes__ == [f"transaction {call.txn_id}: NOT_COMMITTED"]
    orphaned = next(one.peek.session for one in proxy.rpcs(method) if one.peek.begins)
    assert proxy.rpcs("Rollback") == []
    proxy.clear()
    after = run.step("after", body)
    assert orphaned not in {one.peek.session for one in proxy.rpcs()}
    assert checks.truth(emulator_address, ledger, after.txn_id)[2] == 1


def test_a_refused_first_statement_costs_no_session(proxy, database) -> None:
    """The server's own refusal has begun nothing: the session serves the next transaction."""
    run = Run(database, "job")
    for _ in range(2):
        with pytest.raises(StatementError):
            run.step("step", lambda txn: txn.execute_sql("SELECT nothing FROM t"))
    begins = [one.peek.session for one in proxy.rpcs("ExecuteStreamingSql") if one.peek.begins]
    assert len(begins) == 2
    assert len(set(begins)) == 1


BY_ANOTHER_NAME = """INSERT OR UPDATE INTO spanctl_settings (name, value, updated_at)
WITH spanctl_settings AS (SELECT 'ledger_key' AS name, '' AS value)
SELECT name, value, PENDING_COMMIT_TIMESTAMP() FROM spanctl_settings"""


@pytest.mark.parametrize(
    "change",
    [
        lambda txn: txn.execute_update("UPDATE spanctl_settings SET value = '' WHERE true"),
        lambda txn: txn.execute_update("DELETE FROM `SPANCTL_RECEIPTS` WHERE true"),
        lambda txn: txn.execute_sql("DELETE FROM spanctl_intents WHERE true THEN RETURN intent_id"),
        lambda txn: txn.execute_update(BY_ANOTHER_NAME),
        lambda txn: txn.execute_update("UPDATE --\rspanctl_settings SET value = '' WHERE true"),
        lambda txn: txn.update("spanctl_settings", ["name", "value"], [["ledger_key", ""]]),
        lambda txn: txn.delete("Spanctl_Receipts", KeySet(all_=True)),
    ],
    ids=["UPDATE", "DELETE", "THEN RETURN", "WITH", "comment", "update", "delete"],
)
def test_a_body_can_not_change_the_ledger(emulator_address, ledger, database, change) -> None:
    """Bodies of the library are refused by name, as the command line is; reading is free."""

    def body(txn) -> None:
        increment(txn)
        list(txn.execute_sql("SELECT COUNT(*) FROM spanctl_receipts"))
        change(txn)

    before = set(raw_rows(emulator_address, ledger))
    with pytest.raises(UsageError, match=r"(?i)the body of a transaction changes spanctl_"):
        Run(database, "job").step("step", body)
    assert set(raw_rows(emulator_address, ledger)) == before


def test_a_name_with_an_escape_is_not_sent(emulator_address, ledger, database) -> None:
    """Spanner would read another name than the guards do."""
    sql = r"UPDATE `spanctl\x5freceipts` SET reason = 'forged' WHERE true"
    before = set(raw_rows(emulator_address, ledger))
    with pytest.raises(UsageError, match="holds an escape"):
        Run(database, "job").step("step", lambda txn: txn.execute_update(sql))
    assert set(raw_rows(emulator_address, ledger)) == before


def raw_rows(address: str, name: str) -> list[tuple[object, ...]]:
    """The ledger's settings and receipts, and the counter, past the library."""
    queries = (
        "SELECT name, value FROM spanctl_settings",
        "SELECT txn_id, kind FROM spanctl_receipts",
        "SELECT k, v FROM t",
    )
    return [tuple(row) for query in queries for row in raw.rows(address, name, query)]
