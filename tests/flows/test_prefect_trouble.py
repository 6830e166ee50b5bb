"""Prefect in trouble while a run is under way: its outcomes are the ledger's, and it is named."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanctl.audit import watch
from spanctl.ledger.receipt import Provenance
from spanctl.orchestration import transport
from spanctl.spanner.run import Run
from tests.faults.http_proxy import HttpProxy
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

FLOWS = """
import time
from pathlib import Path
from prefect import flow
from prefect.client.orchestration import get_client
from spanctl.flows import transaction


@transaction
def pay(txn):
    txn.execute_update("UPDATE accounts SET balance = balance + 5 WHERE id = 'a'")


@flow
def settle(mark: str):
    pay()
    Path(mark).touch()
    while not Path(mark).with_suffix(".go").exists():
        time.sleep(0.02)
    pay()


@flow
def asks():
    pay()
    with get_client(sync_client=True) as client:
        client.request("GET", "/hello")


@flow(persist_result=True)
def keeps():
    pay()
    pay()
    return 7
"""
IMPATIENT = {"PREFECT_CLIENT_MAX_RETRIES": "0"}
# Long enough for a server that is only slow, with the whole suite beside it.
HANGS = {"PREFECT_API_REQUEST_TIMEOUT": "15"}
TROUBLES: dict[str, Callable[[HttpProxy], None]] = {
    "429": lambda proxy: proxy.answer(429),
    "503": lambda proxy: proxy.answer(503),
    "drops": HttpProxy.drop,
    "hangs": HttpProxy.hang,
}
_PATIENCE = 60


@pytest.fixture
def proxy(prefect: str, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpProxy]:  # noqa: ARG001 - its environment comes first
    with HttpProxy(prefect) as made:
        monkeypatch.setenv("PREFECT_API_URL", made.url)
        yield made


@pytest.fixture
def flows(tmp_path: Path) -> str:
    path = tmp_path / "troubled.py"
    path.write_text(FLOWS, encoding="utf-8")
    return str(path)


def error_of(stderr: str) -> dict[str, Any]:
    """Return the error that a command ended with; nothing may stand beside it."""
    assert "Traceback" not in stderr
    assert "bug in spanctl" not in stderr
    error = json.loads(stderr.splitlines()[-1])["error"]
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_server_that_goes_out_of_order_during_a_run(
    bank: Bank, proxy: HttpProxy, flows: str, tmp_path: Path, trouble: str
) -> None:
    """Exit 3, Prefect is named, and so is each transaction that the ledger holds."""
    mark = tmp_path / "mark"
    command = ["run", f"{flows}:settle", "-p", f"mark={mark}", "-o", "json"]
    with subprocess.Popen(
        [sys.executable, "-m", "spanctl_cli.main", *command],
        env=child_environment(IMPATIENT | (HANGS if trouble == "hangs" else {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + _PATIENCE
        while not mark.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        TROUBLES[trouble](proxy)
        mark.with_suffix(".go").touch()
        stdout, stderr = process.communicate(timeout=120)
    error = error_of(stderr)
    committed = [one.txn_id for one in bank.receipts()]
    assert (process.returncode, stdout, error["code"]) == (3, "", "unreachable")
    assert error["message"].startswith(f"Prefect at {proxy.url} ")
    assert error["message"].endswith("2 transactions committed")
    assert sorted(error["details"]["committed"]) == sorted(committed)
    assert f"spanctl audit list --flow-run {error['details']['flow_run']}" in error["hint"]
    assert (len(committed), bank.balance("a")) == (2, 10)


@pytest.mark.parametrize(
    ("sql", "transactions", "ends"),
    [
        (("-e", "UPDATE accounts SET balance = 5 WHERE id = 'a'"), 1, ": 1 transaction committed"),
        (("--ddl", "-e", "CREATE TABLE u (k INT64) PRIMARY KEY (k)"), 0, " at least once"),
    ],
)
def test_sql_whose_end_is_not_taken(  # noqa: PLR0913, PLR0917 - fixtures and cases
    bank: Bank,
    proxy: HttpProxy,
    child: Callable[..., Ended],
    sql: tuple[str, ...],
    transactions: int,
    ends: str,
) -> None:
    """What it did is told; DDL is no transaction."""
    proxy.answer(503, "/set_state", after=1)
    ended = child("run", "sql", *sql, "-o", "json", env=IMPATIENT)
    error = error_of(ended.stderr)
    assert (ended.exit_code, ended.stdout, error["code"]) == (3, "", "unreachable")
    assert f"Prefect at {proxy.url} answered with status 503 during flow run" in error["message"]
    assert error["message"].endswith(ends)
    told = error["details"]["committed"]
    assert told == [one.txn_id for one in bank.receipts()][:transactions]


def test_a_run_that_can_not_be_registered(proxy: HttpProxy, child: Callable[..., Ended]) -> None:
    """Nothing is run, and that is said."""
    proxy.answer(503)
    ended = child("run", "sql", "-e", "SELECT 1", "-o", "json", env=IMPATIENT)
    error = error_of(ended.stderr)
    assert (ended.exit_code, error["code"]) == (3, "unreachable")
    told = f"Prefect at {proxy.url} answered with status 503; nothing was run"
    assert error["message"] == told


def test_a_flow_that_fails_of_it_is_told_as_that(
    bank: Bank, proxy: HttpProxy, flows: str, child: Callable[..., Ended]
) -> None:
    """What the flow itself asked Prefect for was not answered; its end was taken."""
    proxy.answer(503, "/hello")
    ended = child("run", f"{flows}:asks", "-o", "json", env=IMPATIENT)
    error = error_of(ended.stderr)
    committed = [one.txn_id for one in bank.receipts()]
    assert len(committed) == 1, error
    assert (ended.exit_code, error["details"]["committed"]) == (3, committed)
    assert f"Prefect at {proxy.url} answered with status 503" in error["message"]


def test_a_result_that_can_not_be_stored_is_no_transaction_that_failed(
    bank: Bank, flows: str, tmp_path: Path, child: Callable[..., Ended]
) -> None:
    """Prefect calls it one, right under a COMMITTED; what that means is told once instead."""
    (tmp_path / "file").touch()
    ended = child(
        "run", f"{flows}:keeps", env={"PREFECT_LOCAL_STORAGE_PATH": str(tmp_path / "file" / "x")}
    )
    assert ended.exit_code == 0, ended.stderr
    assert len(bank.receipts()) == 2
    assert "committing transaction" not in ended.stderr
    told = "Prefect could not store a result (Not a directory);"
    assert ended.stderr.count(told) == 1
    assert ended.stderr.count("could not store") == 1, ended.stderr


def test_a_run_that_is_watched_when_prefect_falls_silent(
    bank: Bank, proxy: HttpProxy, spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3 with what the ledger says of it so far; the run is left to itself."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    @flow
    def elsewhere() -> None:
        """Never run here."""

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(elsewhere, state=Running())
    with Run(bank.database, str(run.id), provenance=Provenance(root_run=str(run.id))) as writing:
        result = writing.step("pay", lambda txn: txn.insert("events", ["id"], [["x"]]))
    look = watch.Following._look  # noqa: SLF001 - the moment behind it

    def then_silent(self: watch.Following) -> None:
        look(self)
        proxy.answer(503)

    monkeypatch.setattr(watch.Following, "_look", then_silent)
    monkeypatch.setattr(watch, "_PATIENCE", 0.0)
    monkeypatch.setattr(transport, "_FIRST_PAUSE", 60.0)
    ended = spanctl("runs", "watch", str(run.id), "-o", "json")
    error = error_of(ended.stderr)
    assert (ended.exit_code, error["code"]) == (3, "unreachable")
    assert (
        f"flow run {run.id} goes on unwatched: 1 transaction committed so far" in error["message"]
    )
    assert error["details"]["committed"] == [result.txn_id]
    assert f"spanctl runs watch {run.id}" in error["hint"]
