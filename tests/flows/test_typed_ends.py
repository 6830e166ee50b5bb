"""``run sql`` typed again: how it is told what came of the first run, wherever that was cut off."""

import json
import subprocess
import sys
from typing import Any

import pytest

from spanctl.spanner import admin, limbo
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

SQL = ("run", "sql", "-e", "UPDATE accounts SET balance = balance + 1 WHERE id = 'a'")
DDL = ("run", "sql", "--ddl", "-e", "CREATE TABLE made (a INT64) PRIMARY KEY (a)")
PARTED = ("run", "sql", "--partitioned", "-e", "UPDATE accounts SET balance = 7 WHERE id = 'a'")

_RUN = """
import os, signal, sys
from spanctl.errors import UnreachableError
from spanctl.spanner import leases
from spanctl.spanner.run import Run
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def unreachable(*_, **__):
    raise UnreachableError("Spanner did not answer in time")
def then(real, act):
    def wrapped(*args, **kwargs):
        real(*args, **kwargs)
        act()
    return wrapped
%s
from spanctl_cli.entry import main
sys.argv[0] = "spanctl"
main()
"""
KILLED_AT_THE_FIRST = "Run.execute = then(Run.execute, die)"
KILLED_AS_CLOSED = "leases.close = then(leases.close, die)"
NEVER_CLOSED = "leases.close = leases.forget = unreachable"
SECOND_TRY = """
real, tries = leases.close, []
def once(*args, **kwargs):
    tries.append(1)
    return unreachable() if len(tries) == 1 else real(*args, **kwargs)
leases.close = once
"""


def changed(change: str, *words: str) -> Ended:
    """Run the command in a process of its own, in which something is not as it was."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN % change, *words],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def error_of(result: Any) -> dict[str, Any]:
    assert (result.exit_code, result.stdout) == (6, ""), result.stderr
    error: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
    return error


def test_killed_before_its_result_was_printed(spanctl: Spanctl, bank: Bank) -> None:
    """Its lease is closed; what was typed is kept until the person has seen what came of it."""
    assert changed(KILLED_AS_CLOSED, *SQL).exit_code == -9
    error = error_of(spanctl(*SQL, "-o", "json"))
    assert error["details"]["outcome"] == "COMMITTED"
    assert "did not note its end" in error["message"]
    assert "never ended" not in error["message"]
    assert bank.balance() == 1
    run = error["details"]["flow_run"]
    resumed = spanctl(*SQL, "--resume", run, "-o", "json")
    assert json.loads(resumed.stdout)["replayed"] is True
    assert spanctl(*SQL).exit_code == 0
    assert bank.balance() == 2


def test_a_lease_that_can_not_be_closed_is_told(spanctl: Spanctl, bank: Bank) -> None:
    """It is tried once more; then the run is named, now and when the same is typed again."""
    done = changed(NEVER_CLOSED, *SQL)
    assert done.exit_code == 0
    error = error_of(spanctl(*SQL, "-o", "json"))
    assert f"flow run {error['details']['flow_run']} has ended" in " ".join(done.stderr.split())
    assert "did not note its end" in error["message"]
    assert spanctl(*SQL, "--new").exit_code == 0
    assert bank.leases(only_open=True) == 0


def test_a_lease_is_closed_at_the_second_try(spanctl: Spanctl, bank: Bank) -> None:
    done = changed(SECOND_TRY, *SQL)
    assert (done.exit_code, "could not be closed" in done.stderr) == (0, False)
    assert bank.leases(only_open=True) == 0
    assert spanctl(*SQL).exit_code == 0


def test_what_failed_was_told_too(spanctl: Spanctl, bank: Bank) -> None:
    """An error is an end that a person sees: nobody is asked about it."""
    wrong = ("run", "sql", "--ddl", "-e", "CREATE TABLE accounts (a INT64) PRIMARY KEY (a)")
    assert [spanctl(*wrong).exit_code for _ in range(2)] == [1, 1]
    assert bank.leases(only_open=True) == 0


def test_started_ddl_is_not_told_as_committed(spanctl: Spanctl, bank: Bank) -> None:
    """That its first entry committed says nothing of the schema; it can't be gone on with."""
    assert changed(KILLED_AT_THE_FIRST, *DDL).exit_code == -9
    (started,) = bank.receipts()
    error = error_of(spanctl(*DDL, "-o", "json"))
    assert f"ddl was started by transaction {started.txn_id}" in error["message"]
    assert "its end is not known" in error["message"]
    assert "COMMITTED" not in error["message"]
    assert error["details"]["outcome"] == "AT_LEAST_ONCE"
    assert error["details"]["phase"] == "unknown"
    assert ("--resume" in error["hint"], "schema" in error["hint"]) == (False, True)
    # Resumed all the same, it is refused, and leaves neither a twin nor anything in limbo.
    before = bank.leases(only_open=True)
    refused = spanctl(*DDL, "--resume", error["details"]["flow_run"], "-o", "json")
    assert "started before" in error_of(refused)["message"]
    assert bank.leases(only_open=True) == before
    assert len(limbo.find(bank.database, "")) == 1
    assert spanctl(*DDL, "--new").exit_code == 0
    assert any("made" in one for one in admin.read_ddl(bank.target))


@pytest.mark.parametrize(("words", "resumable"), [(DDL, False), (PARTED, True)])
def test_what_has_finished_is_told_as_finished(
    spanctl: Spanctl, bank: Bank, words: tuple[str, ...], resumable: bool
) -> None:
    assert changed(KILLED_AS_CLOSED, *words).exit_code == -9
    error = error_of(spanctl(*words, "-o", "json"))
    finished = error["message"].rpartition("transaction ")[2].split()[0]
    assert finished in {one.txn_id for one in bank.receipts()}
    assert finished != error["details"]["txn_id"]
    assert error["details"]["phase"] == "finished"
    assert ("--resume" in error["hint"]) is resumable
