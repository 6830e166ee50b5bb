"""What is said of a run's transactions, by who saw them and by the ledger."""

import pytest

from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Outcome
from spanctl.ledger.report import TransactionReport, merged


@pytest.mark.parametrize(
    ("call", "called"), [(0, "pay"), (1, "pay#1"), ("invoice 7", "pay=invoice 7")]
)
def test_which_call_of_a_step(call: int | str, called: str) -> None:
    """The first is the step's bare name."""
    assert OperationKey("root", ("part#0",), "pay", call).called == called


def test_the_ledger_says_which_call_it_was() -> None:
    """What an older version saw is the step alone."""
    seen = TransactionReport(
        txn_id="t1", database=None, step="pay", outcome=Outcome.COMMITTED, replayed=True
    )
    entry = TransactionReport(txn_id="t1", database=None, step="pay#1", outcome=Outcome.COMMITTED)
    (told,) = merged([seen], [entry])
    assert (told.step, told.replayed) == ("pay#1", True)


def test_what_did_not_commit_is_no_replay() -> None:
    """Also where the caller took it for one."""
    seen = TransactionReport(
        txn_id="t1", database=None, step="pay", outcome=Outcome.COMMITTED, replayed=True
    )
    entry = TransactionReport(txn_id="t1", database=None, step="pay", outcome=Outcome.NOT_COMMITTED)
    (told,) = merged([seen], [entry])
    assert (told.outcome, told.replayed) == (Outcome.NOT_COMMITTED, False)
