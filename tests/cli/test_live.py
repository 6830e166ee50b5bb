"""The live view's lines: what is told of each transaction."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from spanctl.ledger.receipt import Outcome
from spanctl.ledger.report import TransactionReport
from spanctl_cli.live import Terminal
from tests.fixtures.cli import run_on_terminal

ID = "3b1f7a3e-0c4c-5e0f-9f52-0f3d1c2b4a5e"
DRAW = f"""
from spanctl.ledger.receipt import Outcome
from spanctl.ledger.report import TransactionReport
from spanctl_cli.live import view

with view(None, quiet=False) as shown:
    shown.run({{"flow_run": "{ID}", "flow": "transfer", "name": "amber-dolphin"}})
    shown.transaction(
        TransactionReport(
            txn_id="{ID}", database=None, step="pay", outcome=Outcome.COMMITTED, rows=2
        )
    )
"""


def seen(step: str, *, at_least_once: bool = False) -> TransactionReport:
    return TransactionReport(
        txn_id=ID,
        database=None,
        step=step,
        outcome=Outcome.COMMITTED,
        rows=2,
        at_least_once=at_least_once,
    )


@pytest.mark.parametrize("step", ["ddl failed", "ddl started", "partitioned dml end unknown"])
def test_what_is_outside_of_transactions_is_not_told_as_committed(step: str) -> None:
    """The entry that says how DDL ended has committed; the DDL itself may well have failed."""
    assert seen(step, at_least_once=True).line == f"{step} {ID} at least once"


def test_a_step_that_is_named_as_ddl_is_a_transaction_all_the_same() -> None:
    """What an entry is decides, never what its step is called, or labelled."""
    assert seen("ddl failed").told == "COMMITTED"
    assert seen("books/nightly: ddl failed", at_least_once=True).told == "AT_LEAST_ONCE"


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


def test_a_traceback_in_the_log_keeps_its_lines() -> None:
    """What a run logs in several lines is read so; its control codes do nothing."""
    written = io.StringIO()
    terminal = Terminal(Console(file=written, width=80, highlight=False))
    terminal.log("ERROR", "it failed\n  File [bold]x[/bold]\nValueError: \x1b[2J")
    assert written.getvalue() == "  it failed\n    File [bold]x[/bold]\n  ValueError: \\x1b[2J\n"


def test_a_terminal_without_unicode_shows_marks_in_ascii(tmp_path: Path) -> None:
    """In the C locale the live view draws, ends, and writes no escapes of its own marks."""
    script = tmp_path / "draw.py"
    script.write_text(DRAW)
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = run_on_terminal([sys.executable, str(script)], 120, env)
    assert shown.exit_code == 0
    assert f"COMMITTED {ID} pay - 2 rows" in shown.stdout
    assert "\\u" not in shown.stdout
    assert shown.stdout.isascii()
