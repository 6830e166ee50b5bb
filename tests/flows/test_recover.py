"""``spanctl runs recover``: dead runs are ended, and run again where that is asked for, once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Pending, Running

from spanctl.invocation import HOST_LABEL, PROCESS_LABEL
from spanctl.processes import Hand
from spanctl.spanner import executors, recoveries
from spanctl.spanner.recoveries import Ending
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.fixtures.dead import a_dead_process
from tests.flows.bank import Bank
from tests.flows.dying import instalments
from tests.flows.test_dead_runs import deploy, name, path, state_of, worker
from tests.flows.test_run_deployment import PATIENT, Worker

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

__all__ = ["deploy", "name", "path", "worker"]  # fixtures

Die = Callable[..., str]
SCRIPT = Path(__file__).with_name("dying.py")


@pytest.fixture
def die(spanctl: Spanctl, name: str, bank: Bank) -> Die:
    """Returns a function that asks for a run, has its engine killed, and returns its id."""

    def run(*options: str) -> str:
        accepted = spanctl("run", name, "--detach", "-o", "json", *options)
        flow_run: str = json.loads(accepted.stdout)["flow_run"]
        kill(flow_run)
        assert bank.balance("b") == 0
        return flow_run

    return run


def kill(flow_run: str) -> None:
    """Execute a flow run in a process that is killed between its steps."""
    code = subprocess.run(
        [sys.executable, "-m", "tests.flows.dying", flow_run],
        env=child_environment({}),
        capture_output=True,
        check=False,
    ).returncode
    assert code == -signal.SIGKILL


def completes(run: str, within: float = 60) -> bool:
    """Tell whether a flow run completes in another process."""
    deadline = time.monotonic() + within
    while not (done := state_of(run).is_completed()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return done


def actions(result: Any) -> list[tuple[str, str]]:
    return [(one["flow_run"], one["action"]) for one in json.loads(result.stdout)["items"]]


def recover(spanctl: Spanctl, *options: str) -> Any:
    return spanctl("runs", "recover", *(options or ("--all",)), "-o", "json")


def test_without_asking_it_is_only_ended(spanctl: Spanctl, bank: Bank, die: Die) -> None:
    """As Crashed, with nothing in limbo; a dry run names it before, and does nothing."""
    run = die()
    planned = recover(spanctl, "--all", "--dry-run")
    assert (planned.exit_code, actions(planned)) == (0, [(run, "ended")]), planned.stderr
    assert state_of(run).is_running()
    done = recover(spanctl)
    assert (done.exit_code, actions(done)) == (0, [(run, "ended")]), done.stderr
    assert state_of(run).is_crashed()
    assert bank.leases(only_open=True) == 0
    assert executors.read(bank.database) == []
    assert actions(recover(spanctl)) == []


def test_one_that_asks_for_it_is_run_again(  # noqa: PLR0913, PLR0917 - fixtures
    spanctl: Spanctl, bank: Bank, die: Die, name: str, path: Path, worker: Worker
) -> None:
    """It is the same flow run, and does nothing twice."""
    run = die("--recover")
    path.touch()
    done = recover(spanctl)
    assert (done.exit_code, actions(done)) == (0, [(run, "rerun")]), done.stderr
    worker(name, deployed=instalments)
    assert spanctl("runs", "wait", run, *PATIENT).exit_code == 0
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)
    (attempt,) = recoveries.read(bank.database, run)
    assert (attempt.number, attempt.ending) == (1, Ending.RERUN)
    assert executors.read(bank.database) == []


def test_it_dies_again_and_again(spanctl: Spanctl, bank: Bank, die: Die) -> None:
    """After so many attempts it stays Crashed, which rings once: a person has to look."""
    run = die("--recover")
    for _ in range(2):
        done = recover(spanctl, "--all", "--max-attempts", "2")
        assert actions(done) == [(run, "rerun")], done.stderr
        kill(run)
    done = recover(spanctl, "--all", "--max-attempts", "2")
    assert (done.exit_code, actions(done)) == (12, [(run, "exhausted")])
    assert "run again 2 times, and died again" in done.stderr
    assert state_of(run).is_crashed()
    assert recover(spanctl, "--all", "--max-attempts", "2").exit_code == 0
    endings = [one.ending for one in recoveries.read(bank.database, run)]
    assert endings == [Ending.RERUN, Ending.RERUN, Ending.EXHAUSTED]
    again = recover(spanctl, run, "--rerun", "--max-attempts", "3")
    assert actions(again) == [(run, "rerun")], again.stderr
    assert (bank.balance("a"), bank.balance("b")) == (1, 0)


def test_one_that_its_worker_ended_is_run_again(spanctl: Spanctl, die: Die) -> None:
    """Killed alone, the engine is reported as crashed by its worker; that is no end for it."""
    run = die("--recover")
    with get_client(sync_client=True) as client:
        from prefect.states import Crashed

        client.set_flow_run_state(run, Crashed(message="exited with status code -9"))
    assert actions(recover(spanctl)) == [(run, "rerun")]


def test_the_next_worker_that_has_it_is_not_taken_for_the_dead(spanctl: Spanctl, die: Die) -> None:
    """It has claimed the run, and not yet said which process has it now."""
    run = die("--recover")
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run, {PROCESS_LABEL: str(a_dead_process())})
        assert actions(recover(spanctl)) == [(run, "rerun")]
        client.set_flow_run_state(run, Pending())
    assert actions(recover(spanctl)) == []
    assert state_of(run).is_pending()


@pytest.mark.parametrize("words", [("runs", "cancel"), ("txn", "resolve", "--flow-run")])
def test_what_a_person_has_ended_stays_ended(
    spanctl: Spanctl, die: Die, words: tuple[str, ...]
) -> None:
    """Cancelled or resolved by hand, it is not run again by itself."""
    run = die("--recover")
    assert spanctl(*words, run).exit_code == 0
    assert state_of(run).is_final()
    assert actions(recover(spanctl)) == []


def test_several_recoverers_at_once(bank: Bank, die: Die) -> None:
    """One of them has the attempt."""
    run = die("--recover")
    command = [sys.executable, "-m", "spanctl_cli.main", "runs", "recover", "--all", "-o", "json"]

    def one(_number: int) -> Any:
        return subprocess.run(
            command, env=child_environment({}), capture_output=True, check=False, timeout=90
        )

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(one, range(3)))
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    told = [action for each in done for _, action in actions(each)]
    assert told.count("rerun") == 1, told
    (attempt,) = [
        each for each in recoveries.read(bank.database, run) if each.ending is Ending.RERUN
    ]
    assert attempt.ended_at is not None
    assert state_of(run).is_scheduled()


@pytest.mark.parametrize("last", ["begun", "settled", "handed over"])
def test_a_recoverer_that_died(
    spanctl: Spanctl,
    bank: Bank,
    die: Die,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its attempt is taken over: the run is run again once, whatever it had come to."""
    run = die("--recover")
    code = f"""
import os, signal
from spanctl.recovery import recoverer
from spanctl.spanner import recoveries
from spanctl_cli.main import build
def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)
if {last!r} == "begun":
    recoverer.Recoverer._settle = die
elif {last!r} == "settled":
    recoverer.Recoverer._hand_over = die
else:
    recoveries.end = die
build()(["runs", "recover", "--all"])
"""
    died = subprocess.run(
        [sys.executable, "-c", code], env=child_environment({}), check=False, capture_output=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    (attempt,) = recoveries.read(bank.database, run)
    assert attempt.ended_at is None
    expected = [] if last == "handed over" else [(run, "rerun")]
    done = recover(spanctl)
    assert (done.exit_code, actions(done)) == (0, expected), done.stderr
    assert state_of(run).is_scheduled()
    assert actions(recover(spanctl)) == []
    if last != "handed over":
        (attempt,) = recoveries.read(bank.database, run)
        assert attempt.ending is Ending.RERUN
    assert all(one.superseded_at for one in executors.read(bank.database))
    monkeypatch.undo()


def test_a_run_of_a_file_goes_on_by_itself(
    spanctl: Spanctl, child: Callable[..., Ended], bank: Bank, path: Path
) -> None:
    """In a process of its own, as the same flow run."""
    died = child("run", "--recover", f"{SCRIPT}:instalments", "-p", f"path={path}")
    assert died.exit_code == -signal.SIGKILL
    (dead,) = json.loads(spanctl("txn", "list", "-o", "json").stdout)["runs"]
    path.touch()
    done = recover(spanctl)
    assert actions(done) == [(dead["flow_run"], "rerun")], done.stderr
    assert completes(dead["flow_run"])
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)
    assert spanctl("txn", "list", "--unresolved").exit_code == 0


@pytest.fixture
def cut_off(spanctl: Spanctl, bank: Bank, path: Path, tmp_path: Path) -> tuple[str, Path]:
    """The id of a run of a file that was killed, and the file."""
    copy = tmp_path / "pay.py"
    copy.write_text(SCRIPT.read_text())
    where = os.fspath(tmp_path)
    command = f"import os; os.chdir({where!r}); from spanctl_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "run", "pay.py:instalments", "-p", f"path={path}"],
        env=child_environment({}),
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (dead,) = json.loads(spanctl("txn", "list", "-o", "json").stdout)["runs"]
    assert bank.balance("a") == 1
    return dead["flow_run"], copy


def test_a_run_of_a_file_is_gone_on_with_by_hand(
    child: Callable[..., Ended], bank: Bank, path: Path, cut_off: tuple[str, Path]
) -> None:
    """From any folder, with what was typed then; a file that has changed since is named."""
    run, file = cut_off
    path.touch()
    file.write_text(file.read_text() + "\n# mended\n")
    done = child("run", "--resume", run, "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["flow_run"] == run
    assert "pay.py has changed since" in done.stderr
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)
    again = child("run", "--resume", run)
    assert again.exit_code == 6
    assert "completed: there is nothing to go on with" in again.stderr


def test_it_is_gone_on_with_only_where_it_was_typed(
    spanctl: Spanctl, child: Callable[..., Ended], cut_off: tuple[str, Path]
) -> None:
    """Elsewhere the command is named, for a person and by the recoverer."""
    run, file = cut_off
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run, {HOST_LABEL: "web-7"})
    refused = child("run", "--resume", run)
    assert refused.exit_code == 6
    assert f"on web-7: cd {file.parent} && spanctl run --resume {run}" in refused.stderr
    done = recover(spanctl, run, "--rerun")
    assert (done.exit_code, actions(done)) == (9, [(run, "left")])
    assert f"cd {file.parent} && spanctl run --resume {run}" in done.stderr


@pytest.mark.parametrize(
    "others", [("-p", "a=1"), ("flows.py:f",), ("--dry-run",), ("--idempotency-key", "k")]
)
def test_resuming_takes_nothing_else(spanctl: Spanctl, others: tuple[str, ...]) -> None:
    """What was typed then counts."""
    done = spanctl("run", "--resume", "bold-fox", *others)
    assert done.exit_code == 2
    assert "as it was typed" in done.stderr


def test_a_run_that_dies_before_its_first_step(
    spanctl: Spanctl, name: str, path: Path, worker: Worker, bank: Bank
) -> None:
    """Only the process that it was given to tells of it."""
    accepted = spanctl("run", name, "--detach", "--recover", "-o", "json")
    run = json.loads(accepted.stdout)["flow_run"]
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Pending())
        client.set_flow_run_state(run, Running())
        assert actions(recover(spanctl)) == []
        client.update_flow_run_labels(run, {PROCESS_LABEL: str(Hand.own("engine"))})
        assert actions(recover(spanctl)) == []
        client.update_flow_run_labels(run, {PROCESS_LABEL: str(a_dead_process())})
    listed = spanctl("txn", "list", "--unresolved", "-o", "json")
    assert listed.exit_code == 9
    assert [one["flow_run"] for one in json.loads(listed.stdout)["runs"]] == [run]
    waited = spanctl("runs", "wait", run)
    assert waited.exit_code == 9, waited.stderr
    done = recover(spanctl)
    assert actions(done) == [(run, "rerun")], done.stderr
    path.touch()
    worker(name, deployed=instalments)
    assert spanctl("runs", "wait", run, *PATIENT).exit_code == 0
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)


def test_who_counts_as_dead_leaves_the_end_to_its_successor() -> None:
    """It wakes up late: what it says of its flow run is no news of its successor."""
    code = """
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import Abort
from prefect.flow_engine import run_flow
from prefect.states import Pending
from spanctl.errors import SupersededError
from spanctl.flows import engines

engines.leave_to_successor()

@flow
def part():
    raise SupersededError("it counts as dead")

@flow(retries=1)
def zombie():
    part()

with get_client(sync_client=True) as client:
    run = client.create_flow_run(zombie, state=Pending())
    try:
        run_flow(zombie, run)
    except Abort:
        print(client.read_flow_run(run.id).state.name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=child_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["Running"], done.stderr


def test_nothing_to_name(spanctl: Spanctl) -> None:
    """Neither runs nor --all, or both."""
    for words in ([], ["bold-fox", "--all"]):
        assert spanctl("runs", "recover", *words).exit_code == 2
