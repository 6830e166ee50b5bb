"""Recoverers against persons, workers, clocks and each other: one re-run, of what is dead alone."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect import task
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Running, Scheduled

from spanctl.errors import ConflictError, UnreachableError
from spanctl.invocation import PROCESS_LABEL, USER_LABEL
from spanctl.orchestration import model
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.keys import reach
from spanctl.processes import Hand
from spanctl.recovery import candidates, resuming, rounds
from spanctl.recovery.candidates import Candidate, Wanted
from spanctl.recovery.recoverer import Action, Recovered, Recoverer
from spanctl.settings import resolve
from spanctl.spanner import executors, recoveries, schema
from spanctl.spanner.client import Target, shared
from spanctl.spanner.recoveries import Ending
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.fixtures.dead import a_dead_process
from tests.flows.bank import DDL, Bank
from tests.flows.test_recover import (
    SCRIPT,
    Die,
    actions,
    completes,
    deploy,
    die,
    name,
    path,
    recover,
    state_of,
)

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State as PrefectState

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

__all__ = ["deploy", "die", "name", "path"]  # fixtures


def set_state(run: str, state: "PrefectState[Any]", *, force: bool = False) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run), state, force=force)


def label(run: str, **labels: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(run), {**labels})


def killed(patch: str, *words: str) -> None:
    """Type ``runs recover`` in a process that is killed where the patch says so."""
    code = f"""
import os, signal
from spanctl.audit import deaths
from spanctl.recovery import recoverer
from spanctl_cli.main import build
def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)
{patch} = die
build()(["runs", "recover", "--all", *{words!r}])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment({}), check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def api() -> Iterator[PrefectApi]:
    settings = reach(resolve())
    assert settings is not None
    with PrefectApi(settings) as made:
        yield made


@pytest.fixture
def recoverer(bank: Bank, api: PrefectApi) -> Iterator[Recoverer]:
    with Recoverer(
        bank.database, api, reach=lambda _: bank.database, resume=lambda _: Path()
    ) as made:
        yield made


def looked(recoverer: Recoverer) -> Candidate:
    (found,) = candidates.look(recoverer.database, recoverer.api, Wanted()).candidates
    return found


def dealt_with(recoverer: Recoverer, found: Candidate) -> Recovered:
    return rounds._recovered(recoverer, found)  # noqa: SLF001 - one step of a round


@pytest.fixture
def file_run(spanctl: Spanctl, child: Callable[..., Ended], bank: Bank, path: Path) -> str:
    """The id of a run of a file that asks for recovery, and was killed."""
    died = child("run", "--recover", f"{SCRIPT}:instalments", "-p", f"path={path}")
    assert died.exit_code == -signal.SIGKILL, died.stderr
    (dead,) = json.loads(spanctl("txn", "list", "-o", "json").stdout)["runs"]
    assert bank.balance("a") == 1
    return str(dead["flow_run"])


@pytest.mark.parametrize("patch", ["deaths.close", "recoverer.Recoverer._hand_over"])
@pytest.mark.parametrize("words", [("--recover",), ()])
def test_a_recoverer_that_died_in_between(
    spanctl: Spanctl, die: Die, patch: str, words: tuple[str, ...]
) -> None:
    """What was asked for is done by the next one, whether the run or the command asked for it."""
    run = die(*words)
    asking = () if words else ("--rerun",)
    killed(patch, *asking)
    done = recover(spanctl, "--all", *asking)
    assert actions(done) == [(run, "rerun")], done.stderr
    assert state_of(run).is_scheduled()


def test_one_that_is_only_ended_is_found_by_the_next(spanctl: Spanctl, die: Die) -> None:
    """Its executor's row is there until Prefect knows."""
    run = die()
    killed("deaths.close")
    assert actions(recover(spanctl)) == [(run, "ended")]
    assert state_of(run).is_crashed()


def test_a_run_of_a_file_whose_recoverer_died(
    spanctl: Spanctl, bank: Bank, file_run: str, path: Path
) -> None:
    """It goes on, once: a second recoverer finds that it does."""
    killed("recoverer.Recoverer._hand_over")
    path.touch()
    assert state_of(file_run).is_crashed()
    assert actions(recover(spanctl)) == [(file_run, "rerun")]
    assert actions(recover(spanctl, file_run, "--rerun")) == []
    assert completes(file_run)
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)
    (attempt,) = recoveries.read(bank.database, file_run)
    assert attempt.ending is Ending.RERUN


def test_a_process_that_does_not_begin_rings(
    spanctl: Spanctl, bank: Bank, file_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is not lost without a word."""
    monkeypatch.setattr("spanctl.recovery.recoverer._CLAIMED_WITHIN", 0.5)
    monkeypatch.setattr(resuming, "_COMMAND", ("false",))
    done = recover(spanctl)
    assert (done.exit_code, actions(done)) == (9, [(file_run, "left")])
    assert "did not begin" in done.stderr
    assert actions(recover(spanctl)) == []
    (attempt,) = recoveries.read(bank.database, file_run)
    assert attempt.ending is Ending.LEFT


def test_one_run_that_cant_be_started_is_one_run(
    spanctl: Spanctl, file_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as that; the others are recovered."""

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(resuming.subprocess, "run", refuse)
    done = recover(spanctl)
    assert (done.exit_code, actions(done)) == (9, [(file_run, "left")])


def test_only_its_own_users_code_is_run(spanctl: Spanctl, file_run: str) -> None:
    """Whoever can write labels in Prefect gets nothing run by another user."""
    label(file_run, **{USER_LABEL: "4711"})
    done = recover(spanctl)
    assert (done.exit_code, actions(done)) == (9, [(file_run, "left")])
    assert "by user 4711" in done.stdout


def test_it_is_gone_on_with_in_its_own_database(
    child: Callable[..., Ended], database: Any, emulator: str, file_run: str, path: Path
) -> None:
    """A context that leads to another one is refused by name."""
    path.touch()
    other = Target(database=database(*DDL), emulator_host=emulator)
    schema.install(shared(other))
    done = child("run", "--resume", file_run, env={"SPANCTL_DATABASE": other.database.database})
    assert done.exit_code == 6
    assert f"the context leads to {other.database}" in done.stderr
    assert list(shared(other).query("SELECT COUNT(*) FROM accounts")) == [(0,)]


def test_a_call_that_failed_is_made_again(
    recoverer: Recoverer, die: Die, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt is this recoverer's own."""
    run = die("--recover")
    asked = recoverer.api.flow_run

    def silent(_id: str) -> model.FlowRun:
        msg = "Prefect restarts"
        raise UnreachableError(msg)

    monkeypatch.setattr(recoverer.api, "flow_run", silent)
    assert dealt_with(recoverer, looked(recoverer)).action is Action.LEFT
    monkeypatch.setattr(recoverer.api, "flow_run", asked)
    assert dealt_with(recoverer, looked(recoverer)).action is Action.RERUN
    assert state_of(run).is_scheduled()


def test_a_person_cancels_it_meanwhile(
    recoverer: Recoverer, die: Die, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays cancelled."""
    run = die("--recover")
    found = looked(recoverer)
    outside = recoverer._outside  # noqa: SLF001 - in the middle of its work

    def cancelled(one: Candidate) -> str | None:
        set_state(run, Cancelled(message="by bob"), force=True)
        return outside(one)

    monkeypatch.setattr(recoverer, "_outside", cancelled)
    assert dealt_with(recoverer, found).action is Action.PASSED
    assert state_of(run).is_cancelled()


def test_one_that_is_run_again_meanwhile_is_left_alone(recoverer: Recoverer, die: Die) -> None:
    """A person and a worker were faster than this recoverer."""
    run = die()
    found = looked(recoverer)
    set_state(run, Crashed())
    set_state(run, Scheduled(), force=True)
    set_state(run, Pending())
    set_state(run, Running())
    label(run, **{PROCESS_LABEL: str(Hand.own("engine", 2))})
    assert dealt_with(recoverer, found).action is Action.PASSED
    assert state_of(run).is_running()


def test_its_worker_ends_it_meanwhile(recoverer: Recoverer, die: Die) -> None:
    """Nothing to ring for: it is run again."""
    run = die("--recover")
    found = looked(recoverer)
    set_state(run, Crashed(message="by its worker"))
    assert dealt_with(recoverer, found).action is Action.RERUN
    assert state_of(run).is_scheduled()


def test_what_was_seen_before_is_not_forced(die: Die, api: PrefectApi) -> None:
    """Whoever thinks at a question may be late: a run that goes on is not run again."""
    run = die()
    set_state(run, Crashed())
    seen = api.flow_run(run)
    set_state(run, Scheduled(), force=True)
    set_state(run, Pending())
    set_state(run, Running())
    with pytest.raises(ConflictError, match="is Running by now"):
        api.retry(seen, "retried")
    assert state_of(run).is_running()


def test_one_that_was_being_cancelled_is_cancelled(spanctl: Spanctl, bank: Bank, die: Die) -> None:
    """And not run again, though it asks for it."""
    run = die("--recover")
    set_state(run, Cancelling())
    done = recover(spanctl)
    assert (done.exit_code, actions(done)) == (0, [(run, "ended")]), done.stderr
    assert state_of(run).is_cancelled()
    assert executors.read(bank.database) == []


def test_resolved_by_hand_after_its_worker_ended_it(spanctl: Spanctl, die: Die) -> None:
    """What a person has decided stays so."""
    run = die("--recover")
    set_state(run, Crashed(message="by its worker"))
    assert spanctl("txn", "fence", f"{run}/deposit#1").exit_code == 0
    label(run, **{"spanctl.settled": "txn resolve"})
    assert actions(recover(spanctl)) == []


@pytest.mark.parametrize("ahead", [8, -40])
@pytest.mark.parametrize("is_ended", [False, True])
def test_prefects_clock_is_another(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl,
    bank: Bank,
    die: Die,
    monkeypatch: pytest.MonkeyPatch,
    ahead: int,
    is_ended: bool,
) -> None:
    """It rings once, whatever the clocks of its machine and Spanner's say."""
    run = die("--recover")
    if is_ended:
        set_state(run, Crashed())
    read = model.State.read.__func__  # type: ignore[attr-defined]

    def skewed(kind: type[model.State], data: Any) -> model.State:
        found: model.State = read(kind, data)
        return replace(found, timestamp=found.timestamp + timedelta(seconds=ahead))

    monkeypatch.setattr(model.State, "read", classmethod(skewed))
    told = [actions(recover(spanctl, "--all", "--max-attempts", "0")) for _ in range(3)]
    assert told == [[(run, "exhausted")], [], []]
    assert len(recoveries.read(bank.database, run)) == 1


def test_a_deployments_run_within_another_run(spanctl: Spanctl, name: str, bank: Bank) -> None:
    """It has a process of its own: that its parent lives doesn't keep it from being recovered."""
    assert bank
    parent = json.loads(spanctl("run", name, "--detach", "-o", "json").stdout)["flow_run"]
    for state in (Pending(), Running()):
        set_state(parent, state)
    label(parent, **{PROCESS_LABEL: str(Hand.own("engine"))})
    with get_client(sync_client=True) as client:
        made = client.create_task_run(
            task=task(lambda: 1, name="calls it"), flow_run_id=UUID(parent), dynamic_key="0"
        )
        deployment = client.read_flow_run(UUID(parent)).deployment_id
        assert deployment is not None
        run = client.create_flow_run_from_deployment(
            deployment, parent_task_run_id=made.id, parameters={"path": os.devnull}
        )
    child = str(run.id)
    for state in (Pending(), Running()):
        set_state(child, state)
    label(child, **{PROCESS_LABEL: str(a_dead_process())})
    done = recover(spanctl, child, "--rerun")
    assert actions(done) == [(child, "rerun")], done.stderr
    assert state_of(parent).is_running()
