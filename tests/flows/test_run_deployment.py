"""``spanctl run flow/name``: a deployment's run elsewhere, asked for and watched from here."""

import contextvars
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Pending

from spanctl.errors import UnreachableError
from spanctl.flows import transaction
from tests.fixtures.cli import Spanctl
from tests.flows.bank import Bank, add, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

Deploy = Callable[..., str]
Worker = Callable[..., None]
PATIENT = ("--timeout", "30s")


@transaction
def unreached(txn, cents: int) -> None:
    add(txn, "a", cents)
    msg = "Spanner did not answer"
    raise UnreachableError(msg)


@flow
def settle(cents: int = 5) -> None:
    if cents > 1000:
        unreached(cents)
    deposit("a", cents, key="k")
    if cents < 0:
        deposit("a", cents - 1, key="k")
    if cents > 100:
        msg = "more than is allowed"
        raise ValueError(msg)


@pytest.fixture
def deploy() -> Deploy:
    """Return a function that makes a deployment, by default of ``settle``, and returns its name."""

    def make(deployed: Flow[..., None] = settle, **defaults: Any) -> str:
        name = f"d-{uuid.uuid4().hex[:8]}"
        with get_client(sync_client=True) as client:
            client.create_deployment(
                client.create_flow(deployed),
                name=name,
                parameters=defaults,
                parameter_openapi_schema=deployed.parameters.model_dump(),
            )
        return f"{deployed.name}/{name}"

    return make


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Yield a function that has deployments' runs executed by a thread, as a worker does."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(*names: str, deployed: Flow[..., None] = settle) -> None:
        # With Prefect's settings of this test, which are in its context.
        work = partial(contextvars.copy_context().run, _work, deployed, names, stop)
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)


def _work(deployed: Flow[..., None], names: Sequence[str], stop: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        mine = [client.read_deployment_by_name(name).id for name in names]
        while not stop.is_set():
            due = client.get_scheduled_flow_runs_for_deployments(mine, datetime.now(UTC))
            for one in due:
                client.set_flow_run_state(one.id, Pending())
                run = client.read_flow_run(one.id)
                run_flow(deployed, run, parameters=run.parameters, return_type="state")
            time.sleep(0.1)


def test_a_deployments_run_is_watched_to_its_end(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker
) -> None:
    """Its transactions are listed; reason and initiator reach the receipts on the worker."""
    name = deploy()
    worker(name)
    done = spanctl("run", name, "-p", "cents=7", "--reason", "ticket 4711", "-o", "json", *PATIENT)
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    (receipt,) = bank.receipts()
    assert [one["txn_id"] for one in data["transactions"]] == [receipt.txn_id]
    assert (data["state"], data["flow_run"]) == ("Completed", receipt.provenance.root_run)
    assert receipt.provenance.reason == "ticket 4711"
    assert receipt.provenance.deployment is not None
    assert bank.balance() == 7


def test_a_deployments_run_that_fails(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker
) -> None:
    """It ends with 1 and says where to look; what it committed is there."""
    name = deploy()
    worker(name)
    done = spanctl("run", name, "-p", "cents=700", *PATIENT)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "ended as Failed" in done.stderr
    assert bank.balance() == 700


@pytest.mark.parametrize(("cents", "code", "kept"), [("-5", 6, -5), ("2000", 3, 0)])
def test_a_deployments_run_whose_step_fails(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl,
    bank: Bank,
    deploy: Deploy,
    worker: Worker,
    cents: str,
    code: int,
    kept: int,
) -> None:
    """The step's error on the worker decides the exit code here, and the step is named."""
    name = deploy()
    worker(name)
    done = spanctl("run", name, "-p", f"cents={cents}", *PATIENT)
    assert (done.exit_code, done.stdout) == (code, ""), done.stderr
    assert "ended as Failed: step " in done.stderr
    assert bank.balance() == kept


def test_a_deployments_run_under_one_key_is_one_run(
    spanctl: Spanctl, bank: Bank, deploy: Deploy, worker: Worker
) -> None:
    """Asked for again it is the same run; with other parameters it is refused with 6."""
    name = deploy()
    worker(name)
    command = ("run", name, "--idempotency-key", uuid.uuid4().hex, *PATIENT)
    first = json.loads(spanctl(*command, "-o", "json").stdout)
    again = spanctl(*command, "-o", "json")
    assert json.loads(again.stdout)["flow_run"] == first["flow_run"]
    assert "was asked for before" in again.stderr
    refused = spanctl(*command, "-p", "cents=6")
    assert (refused.exit_code, refused.stdout) == (6, "")
    assert (bank.balance(), len(bank.receipts())) == (5, 1)


def test_a_deployment_that_nobody_works_on(spanctl: Spanctl, bank: Bank, deploy: Deploy) -> None:
    """Detached it is accepted, 0; waited for it is pending when the time is over, 8."""
    name = deploy()
    accepted = spanctl("run", name, "--detach", "-o", "json")
    assert (accepted.exit_code, json.loads(accepted.stdout)["state"]) == (0, "Scheduled")
    waited = spanctl("run", name, "--timeout", "500ms")
    assert (waited.exit_code, waited.stdout) == (8, "")
    assert "it goes on" in waited.stderr
    assert bank.receipts() == []


def test_a_deployments_plan_asks_for_nothing(spanctl: Spanctl, bank: Bank, deploy: Deploy) -> None:
    """``--dry-run`` names the parameters that the run would have; no run is made."""
    name = deploy()
    done = spanctl("run", name, "-p", "cents=7", "--dry-run", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["parameters"]) == (0, "cents=7")
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(name).id
        assert deployment not in {run.deployment_id for run in client.read_flow_runs()}
    assert bank.receipts() == []


def test_a_parameter_that_a_deployment_does_not_take(spanctl: Spanctl, deploy: Deploy) -> None:
    """It is refused before a run is made, and the others are named."""
    done = spanctl("run", deploy(), "-p", "pence=7")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "takes no parameter pence" in done.stderr
