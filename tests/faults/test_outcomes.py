"""No outcome is replaced: not by one odd answer, not by closing, not by what is told beside it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from spanctl.closing import Closing
from spanctl.errors import OutcomeUnknownError, UnreachableError
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.ledger.receipt import Outcome
from spanctl.spanner.client import Database, TransactionOptions
from spanctl.spanner.run import Run
from tests.faults import checks, raw
from tests.faults.proxy import FaultProxy, fail, lose_reply

pytestmark = pytest.mark.emulator

ODD = (
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNKNOWN",
)
SHORT = TransactionOptions(deadline=2.0, rpc_timeout=1.0, resolve_timeout=2.0)


@pytest.fixture
def database(proxy: FaultProxy, ledger: str):
    with Database(raw.target(proxy.address, ledger)) as made:
        _ = made.ledger
        yield made


def increment(txn) -> None:
    txn.execute_update("UPDATE t SET v = v + 1 WHERE k = 1")


def reads_receipts(peek) -> bool:
    return peek.sql == "spanctl_receipts"


def writes_receipt(peek) -> bool:
    return "spanctl_receipts" in peek.writes and bool(peek.transaction)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("code", ODD)
def test_a_look_up_goes_on_whatever_a_read_answers(  # noqa: PLR0913, PLR0917 - fixtures
    proxy, emulator_address, ledger, database, code, times
) -> None:
    """The Commit's replies are lost, some reads refused: there is time, and it was committed."""
    proxy.add("Commit", lose_reply("DEADLINE_EXCEEDED"), count=None, when=writes_receipt)
    proxy.add("StreamingRead", fail(code), count=times, when=reads_receipts)
    with Run(database, "job") as run:
        told = checks.within_reason(lambda: run.step("step", increment, expect_replay=False))
    assert told.outcome is Outcome.COMMITTED
    assert checks.truth(emulator_address, ledger, told.txn_id) == (1, 0, 1)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED"])
def test_an_odd_answer_is_no_outcome_where_others_may_have_committed(
    proxy, emulator_address, ledger, database, code
) -> None:
    """A body that fails by itself: what an earlier run committed is still found, and told."""
    with Database(raw.target(emulator_address, ledger)) as earlier:
        Run(earlier, "job").step("step", increment)

    def fails(_txn) -> None:
        raise ValueError

    proxy.add("StreamingRead", fail(code), count=2, when=reads_receipts)
    again = Run(database, "job")
    told = checks.within_reason(lambda: again.step("step", fails, expect_replay=False))
    assert told.replayed
    assert checks.truth(emulator_address, ledger, told.txn_id) == (1, 0, 1)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL"])
@pytest.mark.parametrize("close", ["block", "callers"])
def test_closing_hides_no_open_outcome(proxy, database, code, close) -> None:
    """`with Run(...)`, or a caller's own: OutcomeUnknownError arrives, with the txn ID."""
    proxy.add("Commit", lose_reply("UNAVAILABLE"), count=None, when=writes_receipt)
    proxy.add("StreamingRead", fail(code), count=None, when=reads_receipts)

    def use() -> None:
        with Run(database, "job") as run:
            try:
                run.step("step", increment, options=SHORT, expect_replay=False)
            finally:
                if close == "callers":
                    with pytest.raises(Exception, match="Spanner"):
                        run.close()

    with pytest.raises(OutcomeUnknownError) as caught:
        checks.within_reason(use)
    assert caught.value.details["txn_id"] == txn_id(OperationKey("job", (), "step", 0))
    assert caught.value.details["txn_id"] in str(caught.value)


def test_what_was_committed_is_not_lost_where_the_leases_stay_open(proxy, database) -> None:
    """Closing can't reach the server: the block ends well all the same, since its work did."""
    with Run(database, "job") as run:
        told = run.step("step", increment)
        proxy.refuse()
    assert told.outcome is Outcome.COMMITTED


@pytest.mark.parametrize("error", [None, ValueError("the block's")])
def test_an_error_of_closing_is_told_only_where_there_is_no_other(error) -> None:
    """For every thing that closes."""

    class Stuck(Closing):
        def close(self) -> None:
            msg = "closing"
            raise UnreachableError(msg)

    def use() -> None:
        with Stuck():
            if error is not None:
                raise error

    with pytest.raises(UnreachableError if error is None else ValueError):
        use()


def test_outcomes_of_side_by_side_calls_are_their_own(proxy, emulator_address, ledger, database):
    """One open outcome among several calls is told for its own call, and the others are done."""
    lost = OperationKey("job", (), "step", "b")
    proxy.add("Commit", lose_reply("UNAVAILABLE"), count=None, when=writes_receipt)
    run = Run(database, "job")
    with ThreadPoolExecutor(3) as pool:
        told = list(
            pool.map(lambda key: run.step("step", lambda _txn: None, key=key), ["a", "b", "c"])
        )
    assert {one.outcome for one in told} == {Outcome.COMMITTED}
    assert checks.truth(emulator_address, ledger, txn_id(lost))[2] == 1
