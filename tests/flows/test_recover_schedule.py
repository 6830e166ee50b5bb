"""``runs recover --schedule`` and ``--remove``: a deployment that comes, changes and goes."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Completed, Pending, Running

from spanctl_cli.runs import deployments
from tests.fixtures.cli import Spanctl

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


@pytest.fixture
def client(prefect: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:  # noqa: ARG001 - its server
    """Prefect's own client, of a server that has the work pool of the schedules."""
    monkeypatch.setenv("SPANCTL_WORK_POOL", "rescue")
    with get_client(sync_client=True) as made:
        if not any(pool.name == "rescue" for pool in made.read_work_pools()):
            made.create_work_pool(WorkPoolCreate(name="rescue", type="process"))
        yield made


@pytest.mark.usefixtures("client")
def test_the_schedule_is_made_changed_and_removed(spanctl: Spanctl) -> None:
    """It is a deployment of Prefect, on the context's work pool."""
    for every in ("60s", "2m"):
        done = spanctl("runs", "recover", "--schedule", "--every", every)
        assert done.exit_code == 0, done.stderr
    shown = spanctl("deployments", "show", "recover-runs/spanctl", "-o", "json")
    assert "120" in shown.stdout
    assert spanctl("runs", "recover", "--remove").exit_code == 0
    assert spanctl("deployments", "show", "recover-runs/spanctl").exit_code == 5


def test_the_schedule_goes_once_its_run_has_ended(
    spanctl: Spanctl, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect could not end that run for as long as its place in the deployment's limit holds."""
    assert spanctl("runs", "recover", "--schedule").exit_code == 0
    made = client.read_deployment_by_name("recover-runs/spanctl")
    run = client.create_flow_run_from_deployment(made.id)
    client.set_flow_run_state(run.id, Pending(), force=True)
    client.set_flow_run_state(run.id, Running(), force=True)
    monkeypatch.setattr(deployments, "_RUNS_END_WITHIN", 0.0)
    ended = spanctl("runs", "recover", "--remove")
    assert (ended.exit_code, f"spanctl runs wait {run.id}" in ended.stderr) == (8, True)
    assert client.read_deployment(made.id).paused
    monkeypatch.setattr(deployments, "_RUNS_END_WITHIN", 60.0)
    with ThreadPoolExecutor() as pool:
        removing = pool.submit(spanctl, "runs", "recover", "--remove")
        time.sleep(1.0)
        assert not removing.done()
        client.set_flow_run_state(run.id, Completed(), force=True)
        assert removing.result().exit_code == 0
    assert spanctl("deployments", "show", "recover-runs/spanctl").exit_code == 5


def test_a_schedule_that_was_paused_goes_on_when_it_is_made_again(
    spanctl: Spanctl, client: SyncPrefectClient
) -> None:
    """Whoever asks for it wants it to run."""
    assert spanctl("runs", "recover", "--schedule").exit_code == 0
    made = client.read_deployment_by_name("recover-runs/spanctl")
    client.pause_deployment(made.id)
    assert spanctl("runs", "recover", "--schedule").exit_code == 0
    again = client.read_deployment(made.id)
    assert (again.paused, [one.active for one in again.schedules]) == (False, [True])
    assert spanctl("runs", "recover", "--remove").exit_code == 0
