"""``run sql`` whose process was killed is named when the same is typed again, and not repeated."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from spanctl import processes
from spanctl.clock import monotonic
from spanctl.flows.script import Script
from spanctl.invocation import user_at_host
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import leases, requests
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.faults.peek import Peek
from tests.faults.proxy import FaultProxy, black_hole, fail, lose_reply
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

ADD = "UPDATE accounts SET balance = balance + 1 WHERE id = 'a'"
SQL = ("run", "sql", "-e", ADD)
PARTED = ("run", "sql", "--partitioned", "-e", "UPDATE accounts SET balance = 7 WHERE id = 'a'")


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


Leave = Callable[..., str]


@pytest.fixture
def leave(bank: Bank, ended: int, monkeypatch: pytest.MonkeyPatch) -> Leave:
    """Return a function that leaves a run of some SQL behind, as its end found it."""

    def left(
        sql: str = ADD,
        *params: str,
        person: str | None = None,
        alive: bool = False,
        host: str | None = None,
        committed: bool = True,
    ) -> str:
        root = str(uuid.uuid4())
        script = Script.read([sql], params)
        typed = requests.typed(bank.database, person or user_at_host(), script.arguments)
        run = Run(bank.database, root, provenance=Provenance(root_run=root), typed=typed)
        with monkeypatch.context() as patch:
            if not alive:
                patch.setattr(leases.os, "getpid", lambda: ended)
            if host:
                patch.setattr(processes.socket, "gethostname", lambda: host)
            (call,) = run.lease([OperationKey(root, (), "sql", 0)])
        if committed:
            run.execute(call, lambda _: None)
        return root

    return left


def error_of(result: Any) -> dict[str, Any]:
    assert (result.exit_code, result.stdout) == (6, ""), result.stderr
    error: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
    return error


# -- a process that is killed


def _of_operations(request: Peek) -> bool:
    return "spanctl_receipts" in request.writes and bool(request.transaction)


@pytest.fixture
def kill(emulator: str, bank: Bank) -> Iterator[Callable[..., None]]:
    """Yield a function that runs a command and kills it at an operation's Commit."""
    with FaultProxy(emulator) as proxy:

        def killed(*words: str, applied: bool = True) -> None:
            before = len(bank.receipts())
            action = black_hole(forward=applied)
            rule = proxy.add("Commit", action, when=_of_operations)
            with subprocess.Popen(
                [sys.executable, "-m", "spanctl_cli.main", *words],
                env=child_environment({"SPANNER_EMULATOR_HOST": proxy.address}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                rule.wait(60)
                until = monotonic() + 30
                while applied and len(bank.receipts()) == before and monotonic() < until:
                    pass
                process.kill()
            proxy.clear()

        yield killed


def test_killed_after_its_commit_and_typed_again(
    spanctl: Spanctl, bank: Bank, kill: Callable[..., None]
) -> None:
    """It is refused and names the first; resumed it replays; typed once more it is applied."""
    kill(*SQL)
    assert bank.balance() == 1
    (first,) = bank.receipts()
    run = first.provenance.root_run
    error = error_of(spanctl(*SQL, "-o", "json"))
    assert error["code"] == "typed_again"
    assert error["details"]["txn_id"] == first.txn_id
    assert (error["details"]["flow_run"], error["details"]["outcome"]) == (run, "COMMITTED")
    assert f"--resume {run}" in error["hint"]
    assert "--new" in error["hint"]
    assert bank.balance() == 1
    resumed = spanctl(*SQL, "--resume", str(run), "-o", "json")
    assert resumed.exit_code == 0, resumed.stderr
    told = json.loads(resumed.stdout)
    assert (told["replayed"], told["txn_id"], told["flow_run"]) == (True, first.txn_id, run)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(uuid.UUID(run)).state.is_completed()
    assert bank.leases(only_open=True) == 0
    assert spanctl(*SQL).exit_code == 0
    assert bank.balance() == 2


def test_killed_before_its_commit_and_typed_again(
    spanctl: Spanctl, bank: Bank, kill: Callable[..., None]
) -> None:
    """Its outcome is open: it is refused as well; resumed it is applied, once."""
    kill(*SQL, applied=False)
    error = error_of(spanctl(*SQL, "-o", "json"))
    assert error["details"]["outcome"] == "UNKNOWN"
    assert bank.balance() == 0
    resumed = spanctl(*SQL, "--resume", error["details"]["flow_run"], "-o", "json")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["replayed"] is False
    assert bank.balance() == 1
    assert spanctl(*SQL, "--new").exit_code == 0
    assert bank.balance() == 2


def test_partitioned_dml_is_named_too(
    spanctl: Spanctl, bank: Bank, kill: Callable[..., None]
) -> None:
    kill(*PARTED)
    (first,) = bank.receipts()
    error = error_of(spanctl(*PARTED, "-o", "json"))
    assert error["details"]["txn_id"] == first.txn_id
    assert spanctl(*PARTED, "--new").exit_code == 0
    assert bank.balance() == 7


# -- which runs count


def test_new_is_a_run_of_its_own(spanctl: Spanctl, bank: Bank, leave: Leave) -> None:
    """It is applied, and who has said so is not asked of that run again."""
    leave()
    assert spanctl(*SQL, "--new").exit_code == 0
    assert spanctl(*SQL).exit_code == 0
    assert bank.balance() == 2


@pytest.mark.parametrize("committed", [True, False])
def test_whoever_closed_it(spanctl: Spanctl, bank: Bank, leave: Leave, committed: bool) -> None:
    """Closed by an operator it is a run that was cut off still; its outcome is named."""
    root = leave(committed=committed)
    spanctl("txn", "resolve", "--flow-run", root, "--force")
    spanctl("txn", "resolve", "--all", "--force")
    assert bank.leases(only_open=True) == 0
    error = error_of(spanctl(*SQL, "-o", "json"))
    assert error["details"]["flow_run"] == root
    assert error["details"]["outcome"] == ("COMMITTED" if committed else "NOT_COMMITTED")


def test_elsewhere_is_not_known(spanctl: Spanctl, bank: Bank, leave: Leave) -> None:
    leave(host="another-machine")
    error = error_of(spanctl(*SQL, "-o", "json"))
    assert "on another-machine was heard from" in error["message"]
    assert bank.balance() == 0


def test_a_living_one_is_noted(spanctl: Spanctl, bank: Bank, leave: Leave) -> None:
    """Scripts side by side go on, and say so."""
    root = leave(alive=True)
    done = spanctl(*SQL)
    assert done.exit_code == 0
    assert f"flow run {root} goes on, process {os.getpid()} on" in done.stderr
    assert bank.balance() == 1
    refused = spanctl(*SQL, "--resume", root)
    assert refused.exit_code == 6
    assert "goes on" in refused.stderr


def test_what_is_no_twin(spanctl: Spanctl, bank: Bank, leave: Leave) -> None:
    """Other SQL, other values, another person, and what is longer ago than the window."""
    leave(ADD.replace("+ 1", "+ 2"))
    leave(ADD.replace("1", "@n"), "n:INT64=1")
    leave(person="somebody@elsewhere")
    assert spanctl(*SQL).exit_code == 0
    given = ("run", "sql", "-e", ADD.replace("1", "@n"), "-p")
    assert spanctl(*given, "n:INT64=2").exit_code == 0
    assert spanctl(*given, "n:INT64=1").exit_code == 6
    assert bank.balance() == 3


def test_the_window_is_a_setting(
    spanctl: Spanctl, bank: Bank, leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave()
    monkeypatch.setenv("SPANCTL_REPEAT_WINDOW", "1h")
    assert spanctl(*SQL).exit_code == 6
    monkeypatch.setenv("SPANCTL_REPEAT_WINDOW", "0s")
    assert spanctl(*SQL).exit_code == 0
    monkeypatch.setenv("SPANCTL_REPEAT_WINDOW", "soon")
    assert spanctl(*SQL).exit_code == 2
    assert bank.balance() == 1


def test_runs_that_ended_are_no_twins(
    spanctl: Spanctl, bank: Bank, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Done, refused by Spanner, and found out after a lost reply: each closes its own lease."""
    with FaultProxy(emulator) as proxy:
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", proxy.address)
        assert spanctl(*SQL).exit_code == 0
        assert spanctl(*SQL).exit_code == 0
        for action in (
            lose_reply("INTERNAL"),
            lose_reply("DEADLINE_EXCEEDED"),
            fail("UNAVAILABLE"),
        ):
            proxy.add("Commit", action, when=_of_operations)
            assert spanctl(*SQL).exit_code == 0
        wrong = ("run", "sql", "-e", "INSERT INTO accounts (id, balance) VALUES ('a', 1)")
        assert [spanctl(*wrong).exit_code for _ in range(2)] == [1, 1]
    assert bank.balance() == 5


def test_scripts_pass_a_key(spanctl: Spanctl, bank: Bank, leave: Leave) -> None:
    leave()
    for _ in range(2):
        assert spanctl(*SQL, "--idempotency-key", "k").exit_code == 0
    assert bank.balance() == 1


def test_what_changes_nothing_asks_nothing(spanctl: Spanctl, bank: Bank, leave: Leave) -> None:
    leave()
    assert spanctl(*SQL, "--dry-run").exit_code == 0
    assert spanctl("run", "sql", "-e", "SELECT 1").exit_code == 0
    assert bank.balance() == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--new", "--resume", "x"), 2),
        (("--new", "--idempotency-key", "k"), 2),
        (("--resume", "x", "--idempotency-key", "k"), 2),
        (("--resume", "x", "--dry-run"), 2),
        (("--resume", "x"), 5),
    ],
)
@pytest.mark.usefixtures("bank")
def test_mistakes(spanctl: Spanctl, words: tuple[str, ...], code: int) -> None:
    assert spanctl(*SQL, *words).exit_code == code


def test_another_runs_sql_is_not_resumed(spanctl: Spanctl, bank: Bank, leave: Leave) -> None:
    root = leave(ADD.replace("+ 1", "+ 2"))
    mine = leave()
    refused = spanctl(*SQL, "--resume", root)
    assert refused.exit_code == 5
    assert mine in refused.stderr
    assert bank.balance() == 0


def test_on_a_terminal_it_asks(terminal: Callable[..., Ended], bank: Bank, leave: Leave) -> None:
    """No leaves everything as it is; yes applies it as a new run."""
    root = leave()
    asked = terminal(*SQL, columns=200, env={"NO_COLOR": "1"}, keys="n\n")
    assert asked.exit_code == 1
    assert f"--resume {root}" in asked.stdout
    assert bank.balance() == 0
    assert terminal(*SQL, columns=200, keys="y\n").exit_code == 0
    assert bank.balance() == 1


def test_a_ledger_of_the_version_before(
    spanctl: Spanctl, bank: Bank, emulator: str, leave: Leave
) -> None:
    """It has no executors: of another machine's process nothing is known."""
    with raw.database(emulator, bank.target.database.database) as google, google.batch() as batch:
        batch.update("spanctl_settings", ["name", "value"], [["schema_version", "3"]])
    bank.database.forget_ledger()
    assert spanctl(*SQL, "--idempotency-key", "k").exit_code == 0
    assert bank.balance() == 1
    leave(host="another-machine")
    error = error_of(spanctl(*SQL, "-o", "json"))
    assert "can't be looked at from here" in error["message"]
    assert bank.balance() == 1
