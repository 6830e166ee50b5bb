"""Runs whose process died while they waited: for a retry of their own, for a person."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRunPolicy
from prefect.states import Failed, Paused, Running

from tests.fixtures.cli import Spanctl
from tests.flows.dying import instalments
from tests.flows.test_recover import Die, actions, die, recover, state_of
from tests.flows.test_recover_races import set_state

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

__all__ = ["die"]  # fixtures


@pytest.fixture
def pool() -> str:
    """A work pool of this test's."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    return name


@pytest.fixture
def name(pool: str, tmp_path: Path) -> str:
    """A deployment on that pool, whose runs are killed between their steps."""
    with get_client(sync_client=True) as client:
        client.create_deployment(
            client.create_flow(instalments),
            name=pool,
            work_pool_name=pool,
            parameters={"path": str(tmp_path / "go on")},
            parameter_openapi_schema=instalments.parameters.model_dump(),
        )
    return f"{instalments.name}/{pool}"


def policy(run: str, **changed: object) -> FlowRunPolicy:
    """Return how Prefect goes on with a run, changed first if that is asked for."""
    with get_client(sync_client=True) as client:
        if changed:
            now = client.read_flow_run(UUID(run)).empirical_policy
            client.update_flow_run(UUID(run), empirical_policy=now.model_copy(update=changed))
        return client.read_flow_run(UUID(run)).empirical_policy


def handed_out(pool: str) -> list[str]:
    """Return the runs that a worker of the pool would begin now or soon."""
    with get_client(sync_client=True) as client:
        soon = datetime.now(UTC) + timedelta(minutes=1)
        found = client.get_scheduled_flow_runs_for_work_pool(pool, scheduled_before=soon)
    return [str(one.flow_run.id) for one in found]


def test_what_its_own_process_was_to_retry_is_begun_by_a_worker(
    spanctl: Spanctl, die: Die, pool: str
) -> None:
    """No worker takes it before, however long that is due: its process alone would have."""
    run = die("--recover")
    policy(run, retries=2, retry_delay=0)
    set_state(run, Failed())
    assert (state_of(run).name, policy(run).retry_type) == ("AwaitingRetry", "in_process")
    assert handed_out(pool) == [], "the control"
    done = recover(spanctl)
    assert actions(done) == [(run, "rerun")], done.stderr
    assert handed_out(pool) == [run]


def test_a_run_that_died_in_a_retry_of_its_own(spanctl: Spanctl, die: Die, pool: str) -> None:
    """Prefect remembers of it that its process retries it."""
    run = die("--recover")
    policy(run, retry_type="in_process")
    assert actions(recover(spanctl)) == [(run, "rerun")]
    assert handed_out(pool) == [run]


def test_a_pause_that_nobody_ended_is_one_again(spanctl: Spanctl, die: Die) -> None:
    """It ends as it would without the death; who runs it again is asked again."""
    run = die("--recover")
    set_state(run, Paused(pause_expiration_time=datetime(2026, 1, 1, tzinfo=UTC)), force=True)
    policy(run, pause_keys={"approval"})
    assert actions(recover(spanctl)) == [(run, "passed")]
    assert state_of(run).is_failed()
    assert spanctl("runs", "retry", run, "--detach").exit_code == 0
    assert policy(run).pause_keys == set()


def test_a_pause_that_was_ended_is_none_again(spanctl: Spanctl, die: Die) -> None:
    """It was approved before the death was seen."""
    run = die("--recover")
    set_state(run, Paused(timeout_seconds=600), force=True)
    policy(run, pause_keys={"approval"})
    set_state(run, Running(), force=True)
    assert actions(recover(spanctl)) == [(run, "rerun")]
    assert policy(run).pause_keys == {"approval"}
