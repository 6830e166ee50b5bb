"""What hangs in Google's client, or holds locks, ends here: each under a watchdog."""

import threading
from collections.abc import Iterator

import pytest

from spanctl.errors import OutcomeUnknownError, StatementError, StepIdleError
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run, TransactionOptions
from tests.faults import checks, raw
from tests.faults.proxy import black_hole

pytestmark = pytest.mark.emulator

INCREMENT = "UPDATE t SET v = v + 1 WHERE k = 1"
SHORT = TransactionOptions(deadline=2.0, rpc_timeout=0.3, resolve_timeout=2.0)
HASTY = TransactionOptions(idle_limit=0.5)
KEY = OperationKey("job", (), "step", 0)


@pytest.fixture
def database(proxy, ledger) -> Iterator[Database]:
    with Database(raw.target(proxy.address, ledger)) as made:
        _ = made.ledger
        yield made


def test_a_commit_in_a_black_hole_ends(proxy, database) -> None:
    """Google's client waits an hour for a Commit by default, and its own timeout isn't applied."""
    run = Run(database, "job")
    (call,) = run.lease([KEY])
    proxy.add("Commit", black_hole(), count=None)
    with pytest.raises(OutcomeUnknownError):
        checks.within_reason(
            lambda: run.execute(call, lambda txn: txn.execute_update(INCREMENT), options=SHORT)
        )


@pytest.mark.parametrize("method", ["DeleteSession", "StreamingRead"])
def test_closing_a_database_ends(proxy, ledger, method) -> None:
    """Google's ``close()`` waits ten minutes for the thread of its multiplexed session."""
    made = Database(raw.target(proxy.address, ledger))
    assert made.ledger  # by way of a multiplexed session
    Run(made, "job").step("step", lambda txn: txn.execute_update(INCREMENT))
    proxy.add(method, black_hole(), count=None)
    checks.within_reason(made.close)


def test_a_first_statement_that_fails_blocks_no_other(database) -> None:
    """In Google's client the statement after a first DML that failed waits for ever."""

    def body(txn) -> int:
        with pytest.raises(StatementError):
            txn.execute_update("UPDATE missing SET v = 1 WHERE k = 1")
        return 1

    run = Run(database, "job")
    assert checks.within_reason(lambda: run.step("step", body)).result == 1

    def goes_on(txn) -> int:
        with pytest.raises(StatementError):
            txn.execute_update("UPDATE missing SET v = 1 WHERE k = 1")
        ((value,),) = txn.read("t", ["v"], _all())
        return value

    result = checks.within_reason(lambda: _ended(lambda: run.step("step", goes_on)))
    # The emulator fails every statement behind one that failed; Spanner lets the body go on.
    assert result in {0, "StatementError"}


def _all():
    from spanctl.spanner.keysets import KeySet

    return KeySet(all_=True)


def _ended(work):
    try:
        return work().result
    except StatementError as error:
        return type(error).__name__.removeprefix("Quoted")


def test_a_quiet_body_fails_by_name_and_frees_its_locks(
    proxy, emulator_address, ledger, database
) -> None:
    """While it is still quiet its Rollback is sent, so that another can write."""
    run = Run(database, "job")
    rolled_back = threading.Event()

    def body(txn) -> None:
        txn.execute_update(INCREMENT)
        while not proxy.rpcs("Rollback"):
            if rolled_back.wait(0.05):
                return
        rolled_back.set()

    with pytest.raises(StepIdleError, match=r"was quiet for 0\.5 s") as caught:
        checks.within_reason(lambda: run.step("step", body, options=HASTY))
    assert rolled_back.is_set()
    assert caught.value.details["txn_id"] == txn_id(KEY)
    assert "before the first statement" in caught.value.hint
    assert len(proxy.rpcs("Rollback")) == 1
    assert checks.truth(emulator_address, ledger, txn_id(KEY)) == (0, 0, 0)
    checks.rollbacks_are_right(proxy)
    assert run.close()


@pytest.mark.parametrize("swallows", [False, True])
def test_a_statement_after_the_silence_is_refused(proxy, database, swallows) -> None:
    """It begins no second transaction behind the body's back, whatever the body makes of that."""
    sent = threading.Event()

    def body(txn) -> None:
        txn.execute_update(INCREMENT)
        while not proxy.rpcs("Rollback"):
            sent.wait(0.05)
        try:
            txn.execute_update(INCREMENT)
        except StepIdleError:
            if not swallows:
                raise

    with pytest.raises(StepIdleError):
        checks.within_reason(lambda: Run(database, "job").step("step", body, options=HASTY))
    assert len([one for one in proxy.rpcs("ExecuteSql") if one.peek.sql == INCREMENT]) == 1


def test_what_is_slow_before_it_begins_or_in_one_statement_is_not_quiet(proxy, database) -> None:
    """No lock is held before the first statement, and one that is on its way is no silence."""
    waited = threading.Event()
    held = proxy.add("ExecuteSql", _late(), when=lambda peek: peek.sql == INCREMENT)

    def body(txn) -> None:
        waited.wait(1.0)
        txn.execute_update(INCREMENT)

    result = checks.within_reason(lambda: Run(database, "job").step("step", body, options=HASTY))
    assert held.hits == 1
    assert not result.replayed


def _late():
    from tests.faults.proxy import delay

    return delay(1.0)
