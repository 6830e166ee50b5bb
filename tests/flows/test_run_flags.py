"""Flags of ``spanctl run`` that bound it, name it, or would leave it alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from spanctl.flows import using
from tests.fixtures.cli import Spanctl
from tests.flows.bank import Bank, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

FLOWS = """
import asyncio
import os
import signal
import time

from prefect import flow
from spanctl.flows import transaction


@transaction
def pay(txn, account: str, cents: int, over: bool = False) -> None:
    sql = "UPDATE accounts SET balance = balance + @n WHERE id = @id"
    txn.execute_update(sql, {"n": cents, "id": account})
    if over:
        os.kill(os.getpid(), signal.SIGUSR2)  # as the clock does
        time.sleep(60)


@flow
def settle() -> None:
    pay("a", 5)
    pay("b", 5, over=True)


@flow
async def settle_async() -> None:
    pay("a", 5)
    pay("b", 5, over=True)


@flow
def idle() -> None:
    time.sleep(120)


@flow
async def idle_async() -> None:
    await asyncio.sleep(120)


@flow
def brisk() -> None:
    pay("a", 5)
"""


@pytest.fixture
def flows(tmp_path: Path) -> str:
    path = tmp_path / "bounded_flows.py"
    path.write_text(FLOWS, encoding="utf-8")
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., str]:
    def write(*lines: str, name: str = "accounts.csv") -> str:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return write


def error_of(result: Any, code: int) -> dict[str, Any]:
    """The one JSON object on stderr of a command that failed."""
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    error: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
    return error


def state_of(flow_run: str) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run).state


def count(bank: Bank) -> int:
    return int(next(iter(bank.database.query("SELECT COUNT(*) FROM accounts")))[0])


# -- --timeout of a flow in this process


@pytest.mark.parametrize("flow", ["settle", "settle_async"])
def test_the_open_transaction_of_a_flow_that_took_too_long(
    spanctl: Spanctl, bank: Bank, flows: str, flow: str
) -> None:
    """It is rolled back and named, what was committed before stays, and the exit code is 12."""
    error = error_of(spanctl("run", f"{flows}:{flow}", "--timeout", "1h", "-o", "json"), 12)
    (committed,) = bank.receipts()
    assert error["details"]["committed"] == [committed.txn_id]
    (undone,) = error["details"]["not_committed"]
    assert f"1 transaction committed, {undone} (pay#1) NOT_COMMITTED" in error["message"]
    assert "typed again, its 1 committed transaction is done once more" in error["hint"]
    assert (bank.balance("a"), bank.balance("b")) == (5, 0)
    assert bank.leases(only_open=True) == 0
    assert state_of(error["details"]["flow_run"]).is_final()


def test_a_flow_that_took_too_long_under_a_key(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """The command that the hint names goes on: what was committed is not committed again."""
    command = ("run", f"{flows}:settle", "--idempotency-key", "a july")
    error = error_of(spanctl(*command, "--timeout", "1h", "-o", "json"), 12)
    assert "the same command with --idempotency-key 'a july' goes on" in error["hint"]
    again = error_of(spanctl(*command, "--timeout", "1h", "-o", "json"), 12)
    assert again["details"]["committed"] == error["details"]["committed"]
    assert bank.balance("a") == 5


@pytest.mark.parametrize("flow", ["idle", "idle_async"])
@pytest.mark.usefixtures("bank")
def test_the_time_of_a_flow_is_bounded(spanctl: Spanctl, flows: str, flow: str) -> None:
    """A flow that only waits is ended by the clock."""
    error = error_of(spanctl("run", f"{flows}:{flow}", "--timeout", "200ms", "-o", "json"), 12)
    assert "was ended after 200 ms: 0 transactions committed" in error["message"]
    assert state_of(error["details"]["flow_run"]).is_final()


def test_a_flow_that_is_in_time(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """A bound that is not reached changes nothing, and leaves no handler behind."""
    import signal

    before = signal.getsignal(signal.SIGUSR2)
    assert spanctl("run", f"{flows}:brisk", "--timeout", "1h").exit_code == 0
    assert bank.balance("a") == 5
    assert signal.getsignal(signal.SIGUSR2) is before


def test_an_interruption_before_the_engine_has_the_run(
    spanctl: Spanctl, bank: Bank, flows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the first moment leaves no run that is Pending for ever."""
    from spanctl.flows import launch

    def interrupted(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run_flow", interrupted)
    done = spanctl("run", f"{flows}:brisk")
    assert (done.exit_code, done.stdout) == (130, "")
    (run,) = [line.split()[-1] for line in done.stderr.splitlines() if "spanctl audit" in line]
    state = state_of(run)
    assert (state.name, state.message) == ("Cancelled", "interrupted, in the process that ran it")
    assert bank.receipts() == []


# -- --detach of what runs in this process


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("{flows}:brisk",), "a flow in a file or a module runs in this process"),
        (("sql", "-e", "DELETE FROM accounts WHERE true"), "SQL runs in this process"),
        (("import", "{rows}", "--table", "accounts"), "an import runs in this process"),
    ],
    ids=["flow", "sql", "import"],
)
def test_what_runs_here_can_not_be_detached(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl,
    bank: Bank,
    flows: str,
    rows: Callable[..., str],
    command: tuple[str, ...],
    told: str,
) -> None:
    """``--detach`` is refused by name, says what to do instead, and nothing has run."""
    path = rows("id,balance", "c,1")
    words = [word.format(flows=flows, rows=path) for word in command]
    error = error_of(spanctl("run", *words, "--detach", "-o", "json"), 2)
    assert error["message"] == f"{told}, it can't be detached"
    assert "&" in error["hint"]
    assert (bank.receipts(), count(bank)) == ([], 2)


# -- --idempotency-key of an import


def test_an_import_under_a_key(spanctl: Spanctl, bank: Bank, rows: Callable[..., str]) -> None:
    """The same again writes nothing; another file, mode or table is refused and named."""
    path = rows("id,balance", "c,1", "d,2")
    command = ("run", "import", path, "--table", "accounts", "--idempotency-key", "july")
    plan = json.loads(spanctl(*command, "--dry-run", "-o", "json").stdout)
    assert (plan["already"], plan["rows"]) == (False, 2)
    first = json.loads(spanctl(*command, "-o", "json").stdout)
    assert (first["written"], first["operations"]) == (2, "key:july/import")
    written = bank.receipts()
    assert {one.operation_key.split("/chunk")[0] for one in written} >= {"key:july/import"}
    again = spanctl(*command, "-o", "json")
    result = json.loads(again.stdout)
    assert (result["already"], result["written"], result["imported_by"]) == (
        True,
        0,
        first["flow_run"],
    )
    assert "already imported by" in again.stderr
    other = rows("id,balance", "e,3", name="other.csv")
    bank_file = rows("id,what", "e,paid", name="events.csv")
    for changed, told in (
        ((other, "--table", "accounts"), "another file"),
        ((path, "--table", "accounts", "--mode", "upsert"), "another mode"),
        ((bank_file, "--table", "events"), "another table, file"),
    ):
        refused = spanctl("run", "import", *changed, "--idempotency-key", "july", "-o", "json")
        error = error_of(refused, 6)
        assert error["code"] == "key_reused"
        assert f"idempotency key 'july' was used to import {told}" in error["message"]
    assert (count(bank), len(bank.receipts())) == (4, len(written))


def test_an_import_under_a_key_goes_on(
    spanctl: Spanctl, bank: Bank, rows: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted, it resumes under its key; meanwhile the key takes no other file."""
    from spanctl.flows import importing

    original = importing.write

    def stopping(job: Any, provenance: Any, *, again: bool, tell: Any) -> Any:
        def told(done: int, size: int) -> None:
            tell(done, size)
            if done >= 200:
                raise KeyboardInterrupt

        return original(job, provenance, again=again, tell=told)

    path = rows("id,balance", *(f"n{number},1" for number in range(400)))
    options = ("--table", "accounts", "--idempotency-key", "july", "--chunk-rows", "100")
    with monkeypatch.context() as patch:
        patch.setattr(importing, "write", stopping)
        assert spanctl("run", "import", path, *options).exit_code == 130
    assert count(bank) == 202
    other = rows("id,balance", "e,3", name="other.csv")
    error_of(spanctl("run", "import", other, *options, "-o", "json"), 6)
    result = json.loads(spanctl("run", "import", path, *options, "-o", "json").stdout)
    assert (result["resumed"], result["present"], result["written"]) == (True, 200, 200)
    assert count(bank) == 402


def test_a_key_and_new_contradict(spanctl: Spanctl, bank: Bank, rows: Callable[..., str]) -> None:
    """``--new`` asks for another import, a key for one and the same."""
    path = rows("id,balance", "c,1")
    command = ("run", "import", path, "--table", "accounts", "--idempotency-key", "july", "--new")
    error = error_of(spanctl(*command, "-o", "json"), 2)
    assert "names one import, and --new asks for another" in error["message"]
    assert (bank.receipts(), count(bank)) == ([], 2)


# -- looking a key up


def test_a_key_is_looked_up_in_the_ledger(
    spanctl: Spanctl,
    bank: Bank,
    flows: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``audit K`` finds what was done under K, by an index, with and without Prefect."""
    from spanctl.spanner import receipts

    key = "pay/day: 2026-11 ü"
    assert spanctl("run", f"{flows}:brisk", "--idempotency-key", key).exit_code == 0
    assert spanctl("run", f"{flows}:brisk").exit_code == 0
    keyed, other = sorted(bank.receipts(), key=lambda one: one.commit_timestamp)
    assert receipts.of_key(bank.database, key) == [keyed]
    assert receipts.of_key(bank.database, "pay") == []
    shown = json.loads(spanctl("audit", key, "-o", "json").stdout)
    assert [one["txn_id"] for one in shown["transactions"]] == [keyed.txn_id]
    monkeypatch.delenv("PREFECT_API_URL")
    for named in (key, f"key:{key}"):
        alone = json.loads(spanctl("audit", named, "-o", "json").stdout)
        assert [one["txn_id"] for one in alone["transactions"]] == [keyed.txn_id]
    assert receipts.of_run(bank.database, str(other.provenance.root_run)) == [other]
    assert spanctl("audit", "payday", "-o", "json").exit_code == 5


def test_a_key_of_several_runs(spanctl: Spanctl, bank: Bank, rows: Callable[..., str]) -> None:
    """All that was done under one key is found under it, whichever run wrote it."""

    @flow
    def settle() -> None:
        deposit("a", 9)

    path = rows("id,balance", "c,1")
    key = ("--idempotency-key", "july")
    assert spanctl("run", "import", path, "--table", "accounts", *key).exit_code == 0
    with using(idempotency_key="july"):
        settle()
    shown = json.loads(spanctl("audit", "july", "-o", "json").stdout)
    found = {one["txn_id"] for one in shown["transactions"]}
    assert found == {one.txn_id for one in bank.receipts()}
    assert len(found) == 4
