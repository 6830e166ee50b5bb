"""Flow runs whose process was killed: named, counted, not waited for, ended, and run again."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from spanctl.spanner import executors
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.flows.bank import Bank
from tests.flows.dying import instalments
from tests.flows.test_run_deployment import PATIENT, Deploy, Worker, deploy, worker

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

__all__ = ["deploy", "worker"]  # fixtures

Dead = Callable[[], str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that isn't there: without it the flow is killed between its steps."""
    return tmp_path / "go on"


@pytest.fixture
def name(deploy: Deploy, path: Path) -> str:
    return deploy(instalments, path=str(path))


@pytest.fixture
def dead(spanctl: Spanctl, bank: Bank, name: str) -> str:
    """The id of a deployment's run whose engine was killed between its two steps."""
    accepted = json.loads(spanctl("run", name, "--detach", "-o", "json").stdout)
    run: str = accepted["flow_run"]
    code = subprocess.run(
        [sys.executable, "-m", "tests.flows.dying", run],
        env=child_environment({}),
        capture_output=True,
        check=False,
    ).returncode
    assert code == -signal.SIGKILL
    assert (bank.balance("a"), bank.balance("b")) == (1, 0)
    return run


def state_of(run: str) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state


def test_it_rings_though_no_transaction_is_open(spanctl: Spanctl, dead: str) -> None:
    """In the list of what is unresolved, with 9, and by doctor; resolved, nothing is left."""
    listed = spanctl("txn", "list", "--unresolved", "-o", "json")
    assert listed.exit_code == 9
    told = json.loads(listed.stdout)
    (run,) = told["runs"]
    assert (told["items"], run["flow_run"], run["owner"]) == ([], dead, "gone")
    assert "Prefect says Running, but process" in run["note"]
    assert f"flow run {dead}" in listed.stderr
    assert "is dead" in listed.stderr
    checks = json.loads(spanctl("doctor", "-o", "json").stdout)["items"]
    assert dead in json.dumps([one for one in checks if "limbo" in one.values()])
    resolved = spanctl("txn", "resolve", "--all")
    assert resolved.exit_code == 0
    assert "is Crashed now" in resolved.stderr
    assert state_of(dead).is_crashed()
    assert spanctl("txn", "list", "--unresolved", "-o", "name").exit_code == 0


@pytest.mark.parametrize("words", [("runs", "wait"), ("runs", "watch")])
def test_nobody_waits_for_its_end(spanctl: Spanctl, dead: str, words: tuple[str, str]) -> None:
    """It would never come: 9, and what to type."""
    done = spanctl(*words, dead)
    assert (done.exit_code, done.stdout) == (9, ""), done.stderr
    assert f"flow run {dead} is dead" in done.stderr
    assert f"spanctl runs retry {dead}" in done.stderr


def test_cancelling_ends_it(spanctl: Spanctl, bank: Bank, dead: str) -> None:
    """At once: nobody is there who could be asked to stop."""
    done = spanctl("runs", "cancel", dead, "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "Cancelled"
    assert executors.read(bank.database) == []
    assert bank.leases(only_open=True) == 0


def test_it_is_run_again_at_once(  # noqa: PLR0913, PLR0917 - fixtures
    spanctl: Spanctl, bank: Bank, dead: str, name: str, path: Path, worker: Worker
) -> None:
    """What it had committed is not done again, and the rest is."""
    path.touch()
    worker(name, deployed=instalments)
    done = spanctl("runs", "retry", dead, "-o", "json", *PATIENT)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "Completed"
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)
    assert executors.read(bank.database) == []
    assert spanctl("txn", "list", "--unresolved").exit_code == 0


def test_a_run_of_a_file_that_died(
    spanctl: Spanctl, child: Callable[..., Ended], bank: Bank, path: Path
) -> None:
    """It stays Running in Prefect; typed again under its key it completes, and is ended."""
    script = Path(__file__).with_name("dying.py")
    command = ("run", f"{script}:instalments", "-p", f"path={path}", "--idempotency-key", "july")
    assert child(*command).exit_code == -signal.SIGKILL
    (first,) = json.loads(spanctl("txn", "list", "-o", "json").stdout)["runs"]
    assert state_of(first["flow_run"]).is_running()
    path.touch()
    done = child(*command, "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)
    assert state_of(first["flow_run"]).is_crashed()
    assert spanctl("txn", "list", "--unresolved").exit_code == 0
    assert executors.read(bank.database) == []
