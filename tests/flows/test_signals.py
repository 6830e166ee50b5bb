"""Ctrl-C, SIGTERM and SIGKILL in the middle of a run, and what is said of its transactions."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import FaultProxy, black_hole, hold
from tests.fixtures.cli import Spanctl, child_environment
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

FLOWS = """
import os
import time
from pathlib import Path

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from spanctl.flows import transaction

ADD = "UPDATE accounts SET balance = balance + 1 WHERE id = 'a'"


@transaction
def pay(txn, mark: str, forever: bool) -> None:
    txn.execute_update(ADD)
    Path(mark).touch()
    while forever:
        time.sleep(0.02)
        txn.execute_sql("SELECT 1")


@flow
def settle(mark: str, forever: bool = True) -> None:
    pay(mark, forever)


@flow
def spread(mark: str) -> None:
    pay.submit(mark, True).result()


@flow
def afterwards(mark: str) -> None:
    pay(mark, False)
    os.kill(os.getpid(), int(Path(mark).with_suffix(".signal").read_text()))
    time.sleep(60)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
def timeouts(mark: str) -> list[str]:
    slow = pay.with_options(timeout_seconds=5).submit(mark, True)
    slow.wait()
    quick = pay.submit(mark, False)
    quick.wait()
    return [slow.state.name, quick.state.name]
"""
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
_PATIENCE = 90


@pytest.fixture
def flows(tmp_path: Path) -> str:
    path = tmp_path / "signalled.py"
    path.write_text(FLOWS, encoding="utf-8")
    return str(path)


@pytest.fixture
def proxy(emulator: str, bank: Bank, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:  # noqa: ARG001 - its environment comes first
    with FaultProxy(emulator) as made:
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", made.address)
        yield made


def of_a_body(peek) -> bool:
    return "spanctl_receipts" in peek.writes and peek.transaction != ""


def wait_for(ready: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Return a function that starts a run; ends it with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(target: str, **parameters: object) -> "subprocess.Popen[str]":
        given = [f"-p{name}={json.dumps(value)}" for name, value in parameters.items()]
        process = subprocess.Popen(
            [sys.executable, "-m", "spanctl_cli.main", "run", target, *given],
            env=child_environment({"GRPC_VERBOSITY": "NONE"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code", "flow"),
    [(*SIGNALS[0], "spread"), (*SIGNALS[1], "settle"), (*SIGNALS[1], "spread")],
)
def test_a_signal_in_a_body_rolls_back_and_says_so(  # noqa: PLR0913, PLR0917 - cases and fixtures
    proxy, bank: Bank, flows: str, start, tmp_path: Path, spanctl: Spanctl, number, code, flow
) -> None:
    """Rolled back, told as NOT_COMMITTED, and nothing is left in limbo; threads end as well."""
    mark = tmp_path / "mark"
    process = start(f"{flows}:{flow}", mark=str(mark))
    wait_for(mark.exists, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (code, ""), err
    assert "NOT_COMMITTED" in err
    assert proxy.rpcs("Rollback")
    assert bank.balance() == 0
    assert spanctl("txn", "list", "--unresolved").exit_code == 0
    run = err.rpartition("spanctl audit ")[2].split()[0]
    shown = json.loads(spanctl("runs", "show", run, "-o", "json").stdout)
    assert {one["outcome"] for one in shown["transactions"]} == {"NOT_COMMITTED"}


@pytest.mark.parametrize(
    ("number", "code", "answered"), [(*SIGNALS[1], True), (*SIGNALS[0], False)]
)
def test_a_signal_before_the_first_answer(  # noqa: PLR0913, PLR0917 - as above
    proxy, bank: Bank, flows: str, start, tmp_path: Path, spanctl: Spanctl, number, code, answered
) -> None:
    """Nobody knows the transaction's id yet: its answer is awaited, a while, to roll it back."""
    what = hold() if answered else black_hole(forward=True)
    rule = proxy.add("ExecuteSql", what, when=lambda peek: peek.begins)
    process = start(f"{flows}:settle", mark=str(tmp_path / "mark"))
    wait_for(lambda: rule.hits, process)
    process.send_signal(number)
    rule.release()
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (code, ""), err
    assert "NOT_COMMITTED" in err
    begun = [one.transaction for one in proxy.rpcs("ExecuteSql") if one.peek.begins]
    rolled_back = [one.transaction for one in proxy.rpcs("Rollback")]
    assert rolled_back == (begun if answered else [])
    assert bank.balance() == 0
    assert spanctl("txn", "list", "--unresolved").exit_code == 0


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_in_the_commit_is_resolved(  # noqa: PLR0913, PLR0917 - as above
    proxy, bank: Bank, flows: str, start, tmp_path: Path, number, code
) -> None:
    """The reply is on its way when the signal comes: the commit is found, and told."""
    rule = proxy.add("Commit", black_hole(forward=True), when=of_a_body)
    process = start(f"{flows}:settle", mark=str(tmp_path / "mark"), forever=False)
    wait_for(
        lambda: any(
            one.upstream == "OK"
            for one in proxy.rpcs("Commit")
            if rule.hits and of_a_body(one.peek)
        ),
        process,
    )
    process.send_signal(number)
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (code, ""), err
    assert f"transaction {bank.receipts()[0].txn_id}: COMMITTED" in err
    assert bank.balance() == 1
    assert not proxy.rpcs("Rollback")


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_what_was_committed_before_the_signal_is_told(  # noqa: PLR0913, PLR0917 - as above
    bank: Bank, flows: str, start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The commit is over and the flow goes on: that is COMMITTED, not a question for later."""
    (tmp_path / "mark.signal").write_text(str(int(number)))
    process = start(f"{flows}:afterwards", mark=str(tmp_path / "mark"))
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (code, ""), err
    assert f"transaction {bank.receipts()[0].txn_id} (pay): COMMITTED" in err
    assert bank.balance() == 1


def test_a_timeout_in_a_thread_ends_the_step_and_nothing_else(
    proxy, bank: Bank, flows: str, start, tmp_path: Path
) -> None:
    """It is rolled back at once, told as timed out, and what comes after it works."""
    process = start(f"{flows}:timeouts", mark=str(tmp_path / "mark"))
    out, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, err
    del out
    assert bank.balance() == 1
    assert [one.kind.value for one in bank.receipts()] == ["COMMITTED"]
    assert len(proxy.rpcs("Rollback")) == 1
    assert "NOT_COMMITTED" in err


def test_a_second_ctrl_c_leaves_at_once_and_names_the_command(  # noqa: PLR0913, PLR0917 - as above
    proxy, bank: Bank, flows: str, start, tmp_path: Path, spanctl: Spanctl
) -> None:
    """No Commit is answered, so the first would wait; what is typed then settles it."""
    proxy.add("Commit", black_hole(), count=None, when=of_a_body)

    def commits() -> int:
        return sum(of_a_body(one.peek) for one in proxy.rpcs("Commit"))

    process = start(f"{flows}:settle", mark=str(tmp_path / "mark"), forever=False)
    wait_for(lambda: commits() > 0, process)
    before = commits()
    process.send_signal(signal.SIGINT)
    wait_for(lambda: commits() > before, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=_PATIENCE)
    assert (process.returncode, out) == (130, "")
    proxy.clear()
    result = spanctl("txn", "list", "--unresolved", "-o", "name")
    assert result.exit_code == 9
    (txn_id,) = result.stdout.split()
    assert f"spanctl txn resolve {txn_id}\n" in err
    assert spanctl("txn", "resolve", txn_id).exit_code == 0
    assert bank.balance() == 0
    left = spanctl("txn", "list", "--unresolved")
    assert (left.exit_code, "is dead" in left.stderr) == (9, True)
    assert spanctl("txn", "resolve", "--all").exit_code == 0
    assert spanctl("txn", "list", "--unresolved").exit_code == 0


def test_after_sigkill_limbo_is_listed_and_resolved(
    bank: Bank, flows: str, start, tmp_path: Path, spanctl: Spanctl
) -> None:
    """Prefect still says Running, the process is gone: crashed; the key is closed until reopened.

    The same run, executed again under its idempotency key, is refused, then goes on.
    """
    mark = tmp_path / "mark"
    process = start(f"{flows}:settle", mark=str(mark))
    wait_for(mark.exists, process)
    process.kill()
    process.communicate()
    result = spanctl("txn", "list", "--unresolved", "-o", "json")
    assert result.exit_code == 9
    (row,) = json.loads(result.stdout)["items"]
    assert (row["owner"], row["step"], row["pid"]) == ("gone", "pay", process.pid)
    assert row["run_name"]
    shown = spanctl("audit", row["txn_id"])
    assert shown.exit_code == 9
    assert f"spanctl txn resolve {row['txn_id']}" in shown.stderr
    result = spanctl("txn", "resolve", "--all", "-o", "json")
    assert result.exit_code == 0
    assert [one["outcome"] for one in json.loads(result.stdout)["items"]] == ["NOT_COMMITTED"]
    assert spanctl("txn", "list", "--unresolved").exit_code == 0
    assert bank.leases(only_open=True) == 0
    assert bank.balance() == 0


def test_a_cancelled_run_on_a_worker_says_what_became_of_its_transaction(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no hook runs in the process, its log and its artifact are written at once."""
    from prefect import flow
    from prefect.client.orchestration import get_client

    from spanctl.flows import transaction
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import TRANSACTIONS_ARTIFACT
    from spanctl.orchestration.settings import api_settings

    monkeypatch.setenv("PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "false")
    runs: list[str] = []

    @transaction
    def interrupted(txn) -> None:
        from prefect.runtime import flow_run

        runs.append(str(flow_run.id))
        txn.execute_update("UPDATE accounts SET balance = 9 WHERE id = 'a'")
        raise KeyboardInterrupt

    @flow
    def settle() -> None:
        interrupted()

    with pytest.raises(KeyboardInterrupt):
        settle()
    with (
        get_client(sync_client=True) as client,
        PrefectApi(api_settings(str(client.api_url))) as api,
    ):
        (row,) = api.artifact(runs[0], TRANSACTIONS_ARTIFACT)
        assert (row["step"], row["outcome"]) == ("interrupted", "NOT_COMMITTED")
        deadline = time.monotonic() + _PATIENCE
        told = f"interrupted in step interrupted: transaction {row['txn_id']} is NOT_COMMITTED"
        while told not in {one.message for one in api.logs(runs[0])}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert bank.balance() == 0
