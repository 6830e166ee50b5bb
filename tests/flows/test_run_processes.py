"""``spanctl run`` of flows whose steps run in other processes: the ledger says what they did."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner

from spanctl.flows import transaction
from spanctl.ledger.receipt import EntryKind
from tests.faults.proxy import FaultProxy, fail
from tests.fixtures.cli import Ended, Spanctl
from tests.flows.bank import Bank
from tests.flows.test_run_deployment import PATIENT, Deploy, Worker, deploy, worker

__all__ = ["deploy", "worker"]  # fixtures

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

FLOWS = """
import contextlib, os, socket, subprocess, sys
from prefect import flow, get_run_logger, runtime, task
from prefect.task_runners import ProcessPoolTaskRunner
from prefect.task_worker import serve
from spanctl import settings
from spanctl.flows import transaction
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Provenance
from spanctl.spanner.client import Target, shared
from spanctl.spanner.run import Run


@transaction
def plant(txn, event):
    print("planting", event)
    get_run_logger().info("planting %s", event)
    txn.insert("events", ["id"], [[event]])


@transaction
def die(txn):
    os.kill(os.getpid(), 9)


@transaction
def refuse(txn):
    txn.insert("events", ["id"], [["refused"]])
    raise RuntimeError("no such luck")


@task
def sow(event):
    return plant(event, key=event)


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def pool():
    first = plant.submit("x")
    plant.submit("y", wait_for=[first]).result()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def inside_tasks():
    sow.submit("x").result()
    sow.submit("y").result()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def both():
    plant("here")
    plant.submit("there").result()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def parent():
    pool()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def careless():
    plant.submit("x").result()
    with contextlib.suppress(BaseException):
        die.submit().result()


@flow
def haunted():
    plant("x")
    hold_elsewhere()


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def refused():
    plant.submit("x").result()
    with contextlib.suppress(Exception):
        refuse.submit().result()


@flow
def deferred():
    with subprocess.Popen([sys.executable, __file__]) as worker:
        try:
            plant.delay("x", key="x").wait(timeout=60)
        finally:
            worker.terminate()


def hold_elsewhere():
    # A process of another machine, which can't be looked at, leases an operation of this run.
    root = runtime.flow_run.id
    database = shared(Target.from_settings(settings.resolve()))
    run = Run(database, root, provenance=Provenance(root_run=root))
    known, socket.gethostname = socket.gethostname, lambda: "another-machine"
    try:
        run.lease([OperationKey(root, (), "there", "k")])
    finally:
        socket.gethostname = known


if __name__ == "__main__":
    serve(plant)
"""


@transaction
def plant(txn, event: str) -> None:
    txn.insert("events", ["id"], [[event]])


@transaction
def perish(txn) -> None:  # noqa: ARG001 - it never gets to it
    os.kill(os.getpid(), 9)


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def perilous() -> None:
    plant.submit("x").result()
    with contextlib.suppress(BaseException):
        perish.submit().result()


@pytest.fixture
def flows(tmp_path: Path) -> str:
    path = tmp_path / "garden.py"
    path.write_text(FLOWS, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("flow", "count"),
    [("pool", 2), ("inside_tasks", 2), ("both", 2), ("parent", 2), ("refused", 1), ("deferred", 1)],
)
def test_what_other_processes_committed_is_counted(
    child: Callable[..., Ended], bank: Bank, flows: str, flow: str, count: int
) -> None:
    """Wherever the steps ran, the run's transactions are the ledger's, and nothing is missing."""
    done = child("run", f"{flows}:{flow}", "-o", "json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["committed"], data["rows"], data["ledger"]) == (count, count, "present")
    committed = {one["txn_id"]: one for one in data["transactions"]}
    assert set(committed) == {one.txn_id for one in bank.receipts()}
    assert all(one["commit_timestamp"] for one in committed.values())


def test_a_repeat_in_other_processes_is_told_as_one(
    child: Callable[..., Ended], bank: Bank, flows: str
) -> None:
    """Under its key nothing is written twice, and what the first run wrote is told as replayed."""
    command = ("run", f"{flows}:pool", "--idempotency-key", "july", "-o", "json")
    first, again = child(*command), child(*command)
    assert (first.exit_code, again.exit_code) == (0, 0), again.stderr
    told = json.loads(again.stdout)
    assert (told["committed"], told["rows"]) == (2, 0)
    assert [one["replayed"] for one in told["transactions"]] == [True, True]
    assert len(bank.receipts()) == 2


def test_an_open_outcome_in_another_process_is_the_exit_code(
    child: Callable[..., Ended], bank: Bank, flows: str
) -> None:
    """What a process of another machine holds is UNKNOWN, though the flow has completed."""
    done = child("run", f"{flows}:haunted", "-o", "json")
    assert (done.exit_code, done.stdout) == (9, ""), done.stderr
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "outcome_unknown"
    listed = child("txn", "list", "-o", "json")
    (opened,) = json.loads(listed.stdout)["items"]
    assert error["details"]["txn_id"] == opened["txn_id"]
    assert len(bank.receipts()) == 1


def test_what_a_dead_process_of_a_complete_run_held_is_settled(
    child: Callable[..., Ended], bank: Bank, flows: str
) -> None:
    """It was killed in its transaction, and the flow hides it: nothing is left in limbo."""
    done = child("run", f"{flows}:careless", "-o", "json")
    assert done.exit_code == 0, done.stderr
    told = {one["step"]: one["outcome"] for one in json.loads(done.stdout)["transactions"]}
    assert told == {"plant": "COMMITTED", "die": "NOT_COMMITTED"}
    assert child("txn", "list", "--unresolved").exit_code == 0
    assert bank.leases(only_open=True) == 0


@pytest.mark.parametrize("output", [(), ("-o", "json")])
def test_a_quiet_run_silences_other_processes(
    child: Callable[..., Ended], bank: Bank, flows: str, output: tuple[str, ...]
) -> None:
    """Neither what they log nor what they print is told."""
    done = child("--quiet", "run", f"{flows}:pool", *output)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "planting" not in done.stdout
    assert len(bank.receipts()) == 2


def test_a_ledger_that_does_not_answer_is_told(
    child: Callable[..., Ended], emulator: str, bank: Bank, tmp_path: Path
) -> None:
    """What the process saw stands then, and that it is no more than that is said."""
    script = tmp_path / "once.py"
    script.write_text(
        FLOWS.replace(
            "@flow\ndef deferred", "@flow\ndef once():\n    plant('x')\n\n\n@flow\ndef deferred"
        )
    )
    with FaultProxy(emulator) as proxy:
        proxy.add(
            "StreamingRead",
            fail("UNAVAILABLE"),
            count=None,
            when=lambda one: one.sql == "spanctl_intents",
        )
        done = child(
            "run", f"{script}:once", "-o", "json", env={"SPANNER_EMULATOR_HOST": proxy.address}
        )
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["committed"], data["ledger"]) == (1, "unreachable")
    assert "this is what this process saw" in done.stderr
    assert len(bank.receipts()) == 1


def test_a_death_in_another_process_of_a_deployments_run(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker
) -> None:
    """Whoever watches the run hears what it left: not committed, for good."""
    name = deploy(perilous)
    worker(name, deployed=perilous)
    done = spanctl("run", name, *PATIENT)
    assert done.exit_code == 0, done.stderr
    assert "NOT_COMMITTED" in done.stderr
    (receipt,) = (one for one in bank.receipts() if one.kind is EntryKind.COMMITTED)
    waited = spanctl("runs", "wait", receipt.provenance.root_run or "")
    assert waited.exit_code == 0, waited.stderr
    assert bank.leases(only_open=True) == 0
