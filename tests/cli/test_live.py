"""The live view's lines: what is told of each transaction."""

import io

import pytest
from rich.console import Console

from spanctl_cli.live import Seen, Terminal

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


@pytest.mark.parametrize("columns", [44, 60])
def test_a_narrow_terminal_breaks_no_word(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a live view wrap between words; ids stay whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    written = io.StringIO()
    terminal = Terminal(Console(file=written, width=columns, highlight=False))
    terminal.run({"flow_run": ID, "flow": "transfer", "name": "amber-dolphin"})
    terminal.transaction(seen("settle-the-invoices"))
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    words = [word for line in lines for word in line.split()]
    assert words.count(ID) == 2
    assert {"amber-dolphin", "settle-the-invoices", "COMMITTED"} <= set(words)
