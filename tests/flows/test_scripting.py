"""The recipes of docs/SCRIPTING.md, and a script that knows no more than they tell."""

import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.states import Cancelled

from tests.faults.emulator import free_port
from tests.fixtures.cli import child_environment
from tests.flows.bank import Bank
from tests.flows.test_run_deployment import Deploy, deploy, worker
from tests.unit.orchestration.test_transport import Server

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

ROOT = Path(__file__).parents[2]
SETTLE = ROOT / "tests" / "scripts" / "settle.sh"
RECIPE = re.compile(r"^```sh (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = dict(RECIPE.findall((ROOT / "docs" / "SCRIPTING.md").read_text("utf-8")))
PRESENT = tuple(name for name in RECIPES if name != "jq.sh" or shutil.which("jq"))

__all__ = ["deploy", "worker"]  # fixtures

KILLED = """
import os
from prefect import flow
from spanctl.flows import transaction

@transaction
def pay(txn) -> None:
    txn.execute_update("UPDATE accounts SET balance = balance - 1 WHERE id = 'a'")
    os.kill(os.getpid(), 9)

@flow
def night() -> None:
    pay()
"""

Script = Callable[..., tuple[int, str, str]]
Worker = Callable[[str], None]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Return a function that runs a script with ``spanctl`` on its PATH: (code, stdout, stderr)."""
    program = tmp_path / "bin" / "spanctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m spanctl_cli.entry "$@"\n')
    program.chmod(0o755)

    path_variable = {"PATH": f"{program.parent}:{os.environ['PATH']}"}

    def run(name: Path | str, *args: str, **environment: str) -> tuple[int, str, str]:
        path = program if name == "spanctl" else tmp_path / name
        if name in RECIPES:
            path.write_text(RECIPES[str(name)], encoding="utf-8")
        done = subprocess.run(
            ["/bin/sh", str(path), *args],
            cwd=tmp_path,
            env=child_environment(path_variable | environment),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def forbidding() -> Iterator[str]:
    """Yield the URL of a Prefect API that wants other credentials."""
    server = Server()
    server.answers = [(401, b"{}")]
    yield server.url
    server.stop()


def test_recipes(
    script: Script, bank: Bank, deploy: Deploy, worker: Worker, tmp_path: Path
) -> None:
    """Each recipe of the page does what it is there for; repeated, it changes nothing more."""
    assert set(PRESENT) >= {"limbo-alarm.sh", "ci-gate.sh", "retry.sh", "fields.sh", "trigger.sh"}
    assert script("limbo-alarm.sh") == (0, "", "")
    release = "UPDATE accounts SET balance = balance + 10 WHERE id = 'b'"
    (tmp_path / "release.sql").write_text(release)
    code, _, err = script("ci-gate.sh", "1.0")
    assert code == 0, err
    assert script("retry.sh", "pay-1")[0] == 0
    assert script("retry.sh", "pay-1")[0] == 0
    assert bank.balance() == 1
    name = deploy()
    worker(name)
    code, out, err = script("trigger.sh", name, "night-1")
    assert code == 0, err
    (line,) = out.splitlines()
    assert line.startswith("COMMITTED\t")
    assert bank.balance() == 6
    code, out, _ = script("fields.sh")
    rows = [row.split("\t") for row in out.splitlines()]
    assert code == 0
    assert line.split("\t") in rows
    if "jq.sh" in PRESENT:
        assert script("jq.sh")[1].splitlines() == [row[1] for row in rows if row[0] == "COMMITTED"]

    (tmp_path / "killed.py").write_text(KILLED)
    killed = script("spanctl", "run", "killed.py:night")
    assert killed[0] in {-9, 137}, killed
    code, out, _ = script("limbo-alarm.sh")
    assert (code, out.splitlines()[0]) == (0, "in limbo; run: spanctl txn resolve --all")


def test_a_script_branches_on_what_happened(
    script: Script, bank: Bank, deploy: Deploy, worker: Worker, forbidding: str
) -> None:
    """Trigger, wait, audit: each outcome has its exit code, and what committed is listed."""
    name = deploy()

    def settle(*args: str, **environment: str) -> tuple[int, list[str]]:
        code, out, err = script(SETTLE, *args, **environment)
        assert "Traceback" not in err, err
        return code, out.splitlines()

    def key() -> str:
        return uuid.uuid4().hex

    waiting = key()
    assert settle(name, waiting, "cents=4", PATIENCE="1s") == (8, ["pending: wait again"])
    with get_client(sync_client=True) as client:
        mine = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[waiting]))
        (pending,) = client.read_flow_runs(flow_run_filter=mine)
        client.set_flow_run_state(pending.id, Cancelled(), force=True)
    assert settle(name, waiting, "cents=4") == (12, ["cancelled or crashed"])

    worker(name)
    paid = key()
    for _ in range(2):  # the same key: the same run, whose receipt is found again
        code, (receipt, verdict) = settle(name, paid, "cents=7")
        assert (code, verdict) == (0, "done")
        assert receipt.startswith("COMMITTED\t")
    assert bank.balance() == 7
    code, (receipt, verdict) = settle(name, key(), "cents=700")
    assert (code, verdict.partition(":")[0]) == (1, "failed")
    assert receipt.startswith("COMMITTED\t")
    assert bank.balance() == 707
    assert settle(name, paid, "cents=8")[0] == 6
    assert settle(name, key(), "euros=8")[0] == 2
    assert settle("settle/nothing", key())[0] == 5
    assert settle(name, key(), PREFECT_API_URL=forbidding)[0] == 4
    dead = f"http://127.0.0.1:{free_port()}/api"
    assert settle(name, key(), PREFECT_API_URL=dead) == (
        3,
        ["unreachable: try again later, with the same key"],
    )
