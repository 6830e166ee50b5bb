"""``runs retry`` of several runs, of those that filters pick, and of what was closed by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Crashed

from tests.fixtures.cli import Spanctl
from tests.flows.bank import Bank
from tests.flows.dying import instalments
from tests.flows.test_recover import kill
from tests.flows.test_run_deployment import PATIENT, Deploy, Worker, deploy, worker

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

__all__ = ["deploy", "worker"]  # fixtures


@pytest.fixture
def failed(spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker) -> tuple[str, list[str]]:
    """A deployment, and two runs of it that failed after their one transaction."""
    name = deploy()
    worker(name)
    runs = []
    for cents in ("700", "800"):
        done = spanctl("run", name, "-p", f"cents={cents}", "--detach", "-o", "json")
        runs.append(json.loads(done.stdout)["flow_run"])
    assert spanctl("runs", "wait", *runs, *PATIENT).exit_code == 1
    assert bank.balance() == 1500
    return name, runs


def items(result: Any) -> list[Any]:
    found: list[Any] = json.loads(result.stdout)["items"]
    return sorted(found, key=lambda one: str(one["flow_run"]))


def test_those_that_filters_pick(
    spanctl: Spanctl, bank: Bank, failed: tuple[str, list[str]]
) -> None:
    """Looked at first, with what each replays; then a script has to agree."""
    name, runs = failed
    words = ("runs", "retry", "--state", "failed", "--since", "2h", "--deployment", name)
    looked = spanctl(*words, "--dry-run", "-o", "json")
    assert looked.exit_code == 0, looked.stderr
    shown = [(one["flow_run"], one["committed"], one["outcome"]) for one in items(looked)]
    assert shown == [(run, 1, "planned") for run in sorted(runs)]
    asked = spanctl(*words)
    assert asked.exit_code == 2
    assert "Run 2 runs again?" in asked.stderr
    done = spanctl(*words, "--yes", "--reason", "INC-1", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert [one["outcome"] for one in items(done)] == ["accepted", "accepted"]
    assert f"spanctl runs wait {items(looked)[0]['flow_run']}"[:17] in done.stderr
    assert spanctl("runs", "wait", *runs, *PATIENT).exit_code == 1
    assert bank.balance() == 1500  # what was committed is not done again
    with get_client(sync_client=True) as client:
        assert {client.read_flow_run(run).run_count for run in runs} == {2}


def test_what_cant_be_run_again_is_refused_by_name(
    spanctl: Spanctl, failed: tuple[str, list[str]], bank: Bank
) -> None:
    """The others are accepted; the worst code counts."""
    _, (one, other) = failed
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(other, Crashed(), force=True)
    assert bank.balance() == 1500
    done = spanctl("runs", "retry", one, other, "-o", "json")
    assert done.exit_code == 0, done.stderr
    again = spanctl("runs", "retry", one, other, "-o", "json")
    assert again.exit_code == 6
    assert "refused" in {row["outcome"] for row in items(again)}


def test_what_was_closed_by_hand(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker, tmp_path: Path
) -> None:
    """It is named with what opens it; opened in one step, the run goes on."""
    path = tmp_path / "go on"
    name = deploy(instalments, path=str(path))
    accepted = spanctl("run", name, "--detach", "-o", "json")
    run = json.loads(accepted.stdout)["flow_run"]
    kill(run)
    assert spanctl("txn", "resolve", "--all").exit_code == 0
    assert spanctl("txn", "fence", f"{run}/deposit#1").exit_code == 0
    path.touch()
    worker(name, deployed=instalments)
    refused = spanctl("runs", "retry", run, *PATIENT)
    assert refused.exit_code == 6
    assert "was closed by hand" in refused.stderr
    assert f"spanctl runs retry {run} --reopen" in refused.stderr
    done = spanctl("runs", "retry", run, "--reopen", "--reason", "it was right", *PATIENT)
    assert done.exit_code == 0, done.stderr
    assert "opened deposit#1" in done.stderr
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)


@pytest.mark.parametrize("words", [(), ("bold-fox", "--state", "failed")])
def test_runs_are_named_or_picked(spanctl: Spanctl, words: tuple[str, ...]) -> None:
    """One of the two."""
    assert spanctl("runs", "retry", *words).exit_code == 2
