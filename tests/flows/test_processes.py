"""Steps across processes: killed ones, pools, task workers, and how Prefect loads the package."""

import asyncio
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Scheduled
from prefect.task_worker import TaskWorker

from tests.fixtures.cli import child_environment
from tests.flows.bank import Bank, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

JOB = """
import os, sys
from uuid import UUID
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from spanctl.flows import transaction


@transaction
def deposit(txn, cents):
    txn.execute_update("UPDATE accounts SET balance = balance + @n WHERE id = 'a'", {"n": cents})


@flow
def part(when):
    results = [deposit(1)]
    if when == "in the subflow":
        os.kill(os.getpid(), 9)
    return results


@flow
def settle(when):
    results = [deposit(10), deposit.submit(100).result(), *part(when)]
    if when == "after the subflow":
        os.kill(os.getpid(), 9)
    return [*results, deposit(1000)]


if __name__ == "__main__":
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(sys.argv[1]))
    results = run_flow(settle, flow_run=flow_run, parameters={"when": sys.argv[2]})
    print(*(int(one.replayed) for one in results))
"""

POOL = """
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner
from spanctl.flows import transaction, using


@transaction
def plant(txn, event):
    txn.insert("events", ["id"], [[event]])


@flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
def settle():
    return [future.result().txn_id for future in [plant.submit("x"), plant.submit("y")]]


if __name__ == "__main__":
    with using(initiator="ada@example.com"):
        print(*settle())
"""


def python(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *args],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("when", "replayed"), [("in the subflow", "1 1 1 0"), ("after the subflow", "1 1 1 0")]
)
def test_a_killed_executor_is_replayed_by_the_next(
    bank: Bank, tmp_path: Path, when: str, replayed: str
) -> None:
    """A process is killed with SIGKILL; the flow run, executed again elsewhere, writes the rest."""
    script = tmp_path / "job.py"
    script.write_text(JOB)

    @flow(name="settle")
    def settle(when: str) -> str:
        return when

    with get_client(sync_client=True) as client:
        created = client.create_flow_run(settle, parameters={"when": when})
        killed = python(str(script), str(created.id), when)
        assert killed.returncode == -9, killed.stderr
        assert bank.balance() == 111
        client.set_flow_run_state(created.id, Scheduled(), force=True)
    again = python(str(script), str(created.id), "never")
    assert again.returncode == 0, again.stderr
    assert again.stdout.split("\n")[-2] == replayed
    assert bank.balance() == 1111
    assert len(bank.receipts()) == 4


def test_steps_run_in_a_pool_of_processes(bank: Bank, tmp_path: Path) -> None:
    """A task runner of processes carries keys, database and provenance along, and closes leases."""
    script = tmp_path / "settle.py"
    script.write_text(POOL)
    done = python(str(script))
    assert done.returncode == 0, done.stderr
    assert bank.keys() == ["plant#0", "plant#1"]
    assert {one.txn_id for one in bank.receipts()} == set(done.stdout.split())
    assert {one.provenance.initiator for one in bank.receipts()} == {"ada@example.com"}
    assert bank.leases(only_open=True) == 0


def test_a_deferred_step_is_run_by_a_task_worker(bank: Bank) -> None:
    """`delay` with a key, in a flow: the worker writes it once, also when it gets it twice."""

    @flow
    def settle() -> list[UUID]:
        # A copy: Prefect has a step that was delayed once keep its results from then on.
        delayed = deposit.with_options()
        return [delayed.delay("a", 5, key="k").task_run_id for _ in range(2)]

    async def work(task_runs: list[UUID]) -> None:
        async with get_client() as client, TaskWorker(deposit) as worker:
            for task_run in task_runs:
                await worker.execute_task_run(await client.read_task_run(task_run))

    asyncio.run(work(settle()))
    assert bank.balance() == 5
    assert bank.keys() == ["deposit=k"]


LOADED_AS_COLLECTION = """
import importlib.metadata, sys
from unittest import mock
point = importlib.metadata.EntryPoint("spanctl", "spanctl.flows", "prefect.collections")
points = importlib.metadata.EntryPoints([point])
with mock.patch("prefect._internal.plugins.collections.entry_points", return_value=points):
    from prefect.plugins import load_prefect_collections
    loaded = load_prefect_collections()
assert not isinstance(loaded["spanctl"], Exception), loaded
from prefect.blocks.core import Block
print(Block.get_block_class_from_key("spanner-database").__name__)
print([name for name in sys.modules if name.startswith(("google.cloud", "grpc"))])
"""


def test_prefect_loads_it_as_a_collection_lightly() -> None:
    """Prefect imports the entry point by itself: it registers the blocks and no heavy SDK comes."""
    done = python("-c", LOADED_AS_COLLECTION)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["SpannerDatabase", "[]"]


def test_blocks_are_registered_by_their_module() -> None:
    """`prefect block register -m spanctl.flows` finds both blocks."""
    done = python("-m", "prefect", "block", "register", "-m", "spanctl.flows")
    assert done.returncode == 0, done.stderr
    assert "Spanner Database" in done.stdout
    assert "Spanner Credentials" in done.stdout
