"""The live view's lines: what is told of each transaction."""

import pytest

from spanctl_cli.live import Seen

ID = "3b1f7a3e-0c4c-5e0f-9f52-0f3d1c2b4a5e"


def seen(step: str) -> Seen:
    return Seen(txn_id=ID, step=step, outcome="COMMITTED", committed=None, rows=2, replayed=False)


@pytest.mark.parametrize("step", ["ddl failed", "ddl started", "partitioned dml end unknown"])
def test_what_is_outside_of_transactions_is_not_told_as_committed(step: str) -> None:
    """The entry that says how DDL ended has committed; the DDL itself may well have failed."""
    assert seen(step).line == f"{step} {ID} at least once"


def test_a_transaction_is_told_with_its_outcome_and_rows() -> None:
    """The ID is whole, and stands beside the outcome."""
    assert seen("pay").line == f"COMMITTED {ID} pay · 2 rows"
