"""One key in two databases: two transactions, which share an ID and are told apart everywhere."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import ServiceUnavailable

from spanctl.resources import DatabaseName
from spanctl.spanner import schema
from spanctl.spanner.client import Target, shared
from spanctl.spanner.rpc import Rpc
from tests.fixtures.cli import Spanctl
from tests.flows.bank import DDL, Bank
from tests.flows.test_shown import artifacts

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

FLOWS = """
import contextlib
from prefect import flow
from spanctl.flows import transaction


@transaction(deadline=2)
def note(txn, event):
    txn.insert("events", ["id"], [[event]])


@flow
def both(first: str, second: str, event: str = "e"):
    for database in (first, second):
        with contextlib.suppress(Exception):
            note.with_options(database=database)(event, key=event)
"""


@pytest.fixture
def second(bank: Bank, database: Callable[..., DatabaseName]) -> Iterator[Bank]:
    """A second database with a ledger of its own."""
    target = Target(database=database(*DDL), emulator_host=bank.target.emulator_host)
    found = shared(target)
    schema.install(found)
    made = Bank(target, found)
    made.before.extend(one.txn_id for one in made.receipts())
    yield made
    found.close()


@pytest.fixture
def flow_file(tmp_path: Path) -> str:
    path = tmp_path / "dual.py"
    path.write_text(FLOWS, encoding="utf-8")
    return f"{path}:both"


def artifact(flow_run: str) -> list[dict[str, Any]]:
    ((found,),) = ([one.data for one in artifacts(flow_run)],)
    rows: list[dict[str, Any]] = json.loads(found)
    return rows


def names(*banks: Bank) -> list[str]:
    return [str(one.target.database) for one in banks]


def parameters(*banks: Bank) -> list[str]:
    first, second = names(*banks)
    return ["-p", f"first={first}", "-p", f"second={second}"]


@pytest.fixture
def first_is_lost(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row's Commit is lost, and its database answers only when the other has its row."""
    commit, read = Rpc.commit, Rpc.stream_read
    mine = f"{bank.target.database}/"
    is_silent = False

    def refuse(request: Any) -> None:
        if is_silent and request.session.startswith(mine):
            msg = "no"
            raise ServiceUnavailable(msg)

    def lose(self: Rpc, request: Any, **options: Any) -> Any:
        nonlocal is_silent
        refuse(request)
        if any(one.insert.table == "events" for one in request.mutations):
            is_silent = request.session.startswith(mine)
            refuse(request)
        return commit(self, request, **options)

    def silent(self: Rpc, request: Any, **options: Any) -> Any:
        refuse(request)
        return read(self, request, **options)

    monkeypatch.setattr(Rpc, "commit", lose)
    monkeypatch.setattr(Rpc, "stream_read", silent)


def test_both_are_counted_and_listed(
    spanctl: Spanctl, bank: Bank, second: Bank, flow_file: str
) -> None:
    """Two commits are two, in the summary, in the events and wherever the run is looked at."""
    done = spanctl("run", flow_file, *parameters(bank, second), "-o", "jsonl")
    assert done.exit_code == 0, done.stderr
    *events, told = map(json.loads, done.stdout.splitlines())
    assert (told["committed"], told["rows"]) == (2, 2)
    assert len({one["txn_id"] for one in told["transactions"]}) == 1
    news = [one["database"] for one in events if one["event"] == "transaction"]
    assert news == [one["database"] for one in told["transactions"]] == names(bank, second)
    shown = json.loads(spanctl("runs", "show", told["flow_run"], "-o", "json").stdout)
    assert sorted(one["database"] for one in shown["transactions"]) == sorted(names(bank, second))
    assert shown["ledger_note"] == "2 committed"
    listed = artifact(told["flow_run"])
    assert [one["database"] for one in listed] == names(bank, second)
    plain = spanctl("run", flow_file, *parameters(bank, second), "-p", "event=f")
    assert plain.stderr.count(str(second.target.database)) == 1, plain.stderr
    assert (len(bank.receipts()), len(second.receipts())) == (2, 2)


@pytest.mark.usefixtures("first_is_lost")
def test_what_committed_in_one_hides_nothing_that_is_open_in_the_other(
    spanctl: Spanctl, bank: Bank, second: Bank, flow_file: str
) -> None:
    """The run ends with 9, and what to type says for which database."""
    done = spanctl("run", flow_file, *parameters(bank, second), "-o", "json")
    assert (done.exit_code, done.stdout) == (9, ""), done.stderr
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    (receipt,) = second.receipts()
    assert error["details"]["txn_ids"] == [receipt.txn_id]
    assert error["details"]["database"] == str(bank.target.database)
    assert (
        f"spanctl txn resolve {receipt.txn_id}, in a context of {bank.target.database}"
        in (error["hint"])
    )
