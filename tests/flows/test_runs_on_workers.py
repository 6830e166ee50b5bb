"""Runs on workers, real ones: several at once, due later, run again, followed, on a terminal."""

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

from spanctl.audit import watch
from tests.fixtures.cli import Ended, Spanctl, child_environment, on_terminal
from tests.flows.bank import Bank, deposit
from tests.flows.test_run_deployment import Deploy, Worker, deploy, worker

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

__all__ = ["deploy", "worker"]  # fixtures

PATIENCE = 60
PATIENT = ("--timeout", f"{PATIENCE}s")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@flow
def mended(path: str) -> None:
    deposit("a", 5)
    if not Path(path).exists():
        msg = "the file is not there yet"
        raise FileNotFoundError(msg)
    deposit("b", 7)


@flow
def held(path: str) -> None:
    """Log, commit, wait for a file, log and commit once more."""
    get_run_logger().info("before")
    deposit("a", 5)
    get_run_logger().info("between")
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)
    deposit("b", 7)
    get_run_logger().warning("after")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return the path of a file that isn't there: flows wait for it, or fail without."""
    return tmp_path / "gate"


def run_of(flow_run: str) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run)


def named(names: list[str]) -> DeploymentFilter:
    """Of these deployments."""
    wanted = [name.partition("/")[2] for name in names]
    return DeploymentFilter(name=DeploymentFilterName(any_=wanted))


def error_of(done: Any) -> Any:
    return json.loads(done.stderr.splitlines()[-1])["error"]


# -- runs retry


def test_a_failed_run_is_run_again(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker, gate: Path
) -> None:
    """It goes on as the same run: what had committed is found, not done again; why is kept.

    Only what this attempt wrote and logged is told of it.

    One that fails again is watched past what it said of its end before.
    """
    name = deploy(mended, path=str(gate))
    worker(name, deployed=mended)
    failed = error_of(spanctl("run", name, *PATIENT, "-o", "json"))
    run = failed["details"]["flow_run"]
    (before,) = bank.receipts()
    again = spanctl("runs", "retry", run, *PATIENT, "-o", "json")
    assert (again.exit_code, error_of(again)["code"]) == (1, "flow_failed")
    assert (run_of(run).run_count, bank.receipts(), bank.balance()) == (2, [before], 5)
    gate.touch()
    again = spanctl("runs", "retry", run, "--reason", "the file is there", *PATIENT, "-o", "jsonl")
    assert again.exit_code == 0, again.stderr
    *events, data = [json.loads(line) for line in again.stdout.splitlines()]
    assert not [one for one in events if "not there yet" in one.get("message", "")]
    assert [one["step"] for one in events if one["event"] == "transaction"] == ["deposit#1"]
    assert (data["flow_run"], data["flow"], data["state"]) == (run, name, "Completed")
    written = sorted(bank.receipts(), key=lambda one: one.commit_timestamp)
    assert written[0] == before
    assert [one["txn_id"] for one in data["transactions"]] == [written[1].txn_id]
    assert (data["committed"], data["rows"]) == (1, written[1].rows)
    assert (len(written), bank.balance("a"), bank.balance("b")) == (2, 5, 7)
    assert bank.leases(only_open=True) == 0
    shown = json.loads(spanctl("runs", "show", run, "-o", "json").stdout)
    retried = [one for one in shown["states"] if "the file is there" in (one["message"] or "")]
    assert [one["state_type"] for one in retried] == ["SCHEDULED"]
    assert [one["outcome"] for one in shown["transactions"]] == ["COMMITTED", "COMMITTED"]
    refused = spanctl("runs", "retry", run, "-o", "json")
    assert (refused.exit_code, error_of(refused)["details"]["flow_run"]) == (6, run)
    assert len(bank.receipts()) == 2


def test_a_cancelled_run_is_run_after_all(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker
) -> None:
    """What was cancelled before it began has its first attempt then."""
    name = deploy()
    run = json.loads(spanctl("run", name, "--detach", "-o", "json").stdout)["flow_run"]
    assert spanctl("runs", "cancel", run, "--reason", "wrong day").exit_code == 0
    assert bank.receipts() == []
    accepted = spanctl("runs", "retry", run, "--detach", "-o", "json")
    assert (accepted.exit_code, json.loads(accepted.stdout)["flow_run"]) == (0, run)
    worker(name)
    assert spanctl("runs", "wait", run, *PATIENT).exit_code == 0
    assert (len(bank.receipts()), bank.balance()) == (1, 5)


# -- several targets


def test_several_targets_end_in_several_ways(
    spanctl: Spanctl,
    bank: Bank,
    deploy: Deploy,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has its line and code, in the order asked for; its news say whose they are."""
    names = [deploy(cents=5), deploy(cents=700), deploy(cents=-3), deploy(cents=1)]
    worker(*names[:3])

    follow_all = watch.follow_all

    def follow(followings: Any, *, timeout: float) -> None:
        def clock() -> float:  # an hour is over when three of them are
            over = sum(one.has_ended for one in followings) == 3
            return time.monotonic() + (3600 if over else 0)

        monkeypatch.setattr(watch, "monotonic", clock)
        follow_all(followings, timeout=timeout)

    monkeypatch.setattr(watch, "follow_all", follow)
    done = spanctl("run", *names, "--timeout", "59m", "-o", "jsonl")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    events = [one for one in lines if one["schema"] == "spanctl.run.event/v1"]
    items = lines[len(events) :]
    assert [(one["target"], one["state"], one["exit_code"]) for one in items] == [
        (names[0], "Completed", 0),
        (names[1], "Failed", 1),
        (names[2], "Failed", 6),
        (names[3], "Scheduled", 8),
    ]
    assert done.exit_code == 1, done.stderr
    told = {(one["flow_run"], one["txn_id"]) for one in events if one["event"] == "transaction"}
    assert told == {(str(one.provenance.root_run), one.txn_id) for one in bank.receipts()}
    assert {run for run, _ in told} == {one["flow_run"] for one in items[:3]}
    assert (len(told), bank.balance()) == (3, 702)


def test_several_targets_in_a_pipe(spanctl: Spanctl, bank: Bank, deploy: Deploy) -> None:
    """Detached, each is accepted, with a line of its own; one named twice is refused before."""
    names = [deploy(), deploy()]
    done = spanctl("run", *names, "--detach")
    assert done.exit_code == 0, done.stderr
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    shown = [dict(zip(header, row, strict=True)) for row in rows]
    assert [one["target"] for one in shown] == names
    assert [(one["state"], one["exit_code"]) for one in shown] == [("Scheduled", "0")] * 2
    assert f"next: spanctl runs wait {' '.join(one['flow_run'] for one in shown)}" in done.stderr
    of = [run_of(one["flow_run"]).deployment_id for one in shown]
    with get_client(sync_client=True) as client:
        assert of == [client.read_deployment_by_name(name).id for name in names]
        assert spanctl("run", names[0], *names, "--detach").exit_code == 2
        assert len(client.read_flow_runs(deployment_filter=named(names))) == 2
    assert bank.receipts() == []


# -- due later


def test_a_run_that_is_due_later(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker, tmp_path: Path
) -> None:
    """It waits while others of its deployment run; one that is due soon is not begun before."""
    file = tmp_path / "tonight.yaml"
    file.write_text("cents: 1\n")
    name = deploy()
    later = spanctl("run", name, "--at", "2999-01-01T02:00:00+02:00", "-o", "json")
    assert later.exit_code == 0, later.stderr
    data = json.loads(later.stdout)
    assert data["state"] == "Scheduled"
    worker(name)
    soon = spanctl(
        *("run", name, "--in", "2s", "--watch", "--param-file", str(file), *PATIENT, "-o", "json")
    )
    assert soon.exit_code == 0, soon.stderr
    ran = run_of(json.loads(soon.stdout)["flow_run"])
    assert ran.start_time >= ran.expected_start_time > ran.created
    waits = run_of(data["flow_run"])
    assert (waits.state.name, waits.start_time) == ("Scheduled", None)
    assert waits.expected_start_time == datetime.fromisoformat("2999-01-01T00:00:00+00:00")
    assert bank.balance() == 1


# -- runs logs --follow


def read_until(stream: int, wanted: bytes, found: bytes = b"") -> bytes:
    """Read from a pipe or terminal until it has said this."""
    deadline = time.monotonic() + PATIENCE
    while wanted not in found:
        ready = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]
        assert ready, f"{wanted!r} did not come: {found!r}"
        part = os.read(stream, 65536)
        assert part, f"{wanted!r} did not come: {found!r}"
        found += part
    return found


def test_logs_of_a_run_that_goes_on(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker, gate: Path
) -> None:
    """Lines come while it runs, commits among them in the order of time."""
    name = deploy(held, path=str(gate))
    run = json.loads(spanctl("run", name, "--detach", "-o", "json").stdout)["flow_run"]
    command = [sys.executable, "-m", "spanctl_cli.main", "runs", "logs", run]
    with subprocess.Popen(
        [*command, "--follow", "-o", "jsonl"],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        worker(name, deployed=held)
        early = read_until(process.stdout.fileno(), b"between")
        assert process.poll() is None
        gate.touch()
        rest, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, b"ended as Completed" in told) == (0, True), told
    lines = [json.loads(line) for line in (early + rest).splitlines()]
    stamps = [datetime.fromisoformat(one["timestamp"]) for one in lines]
    assert stamps == sorted(stamps)
    mine = {"before", "between", "after"}
    first, second = sorted(bank.receipts(), key=lambda one: one.commit_timestamp)
    told_of = [one["txn_id"] or one["message"] for one in lines]
    assert [one for one in told_of if one in mine] == ["before", "between", "after"]
    # The emulator may give a commit a timestamp that is a little ahead of the clock.
    assert [one for one in told_of if one in {first.txn_id, second.txn_id}] == [
        first.txn_id,
        second.txn_id,
    ]
    assert lines[-1]["message"].startswith("Finished in state Completed")
    whole = spanctl("runs", "logs", run, "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in whole] == lines


# -- on a terminal


def shown_by(ended: Ended) -> str:
    return COLOURS.sub("", ended.stdout)


def test_the_live_view_of_a_deployments_run(
    terminal: Callable[..., Ended],
    bank: Bank,
    deploy: Deploy,
    worker: Worker,
) -> None:
    """The run and each commit stay on the screen, ids whole; the line that moved is gone."""
    name = deploy()
    worker(name)
    done = terminal("run", name, *PATIENT, columns=60)
    (receipt,) = bank.receipts()
    screen = shown_by(done)
    assert done.exit_code == 0, screen
    assert f"flow run {receipt.provenance.root_run}" in screen
    assert f"✓ COMMITTED {receipt.txn_id}" in screen
    assert f"next: spanctl audit {receipt.provenance.root_run}" in " ".join(screen.split())
    assert done.stdout.rfind("\x1b[?25h") > done.stdout.rfind("\x1b[?25l") > -1  # cursor is back


def test_ctrl_c_in_the_live_view(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker, gate: Path
) -> None:
    """It ends the view, not the run, and says so; the run can be watched to its end after it."""
    name = deploy(held, path=str(gate))
    worker(name, deployed=held)
    with on_terminal([sys.executable, "-m", "spanctl_cli.main", "run", name], 80) as (child, ours):
        screen = read_until(ours, b"COMMITTED")
        os.write(ours, b"\x03")
        screen = read_until(ours, b"runs watch ", screen)
        while b"\n" not in screen.rpartition(b"runs watch ")[2]:
            screen += os.read(ours, 65536)
        assert child.wait(PATIENCE) == 130
    told = " ".join(COLOURS.sub("", screen.decode()).split())
    (receipt,) = bank.receipts()
    run = str(receipt.provenance.root_run)
    assert f"detached, the run goes on; follow it: spanctl runs watch {run}" in told
    gate.touch()
    assert spanctl("runs", "watch", run, *PATIENT).exit_code == 0
    assert (bank.balance("a"), bank.balance("b")) == (5, 7)
