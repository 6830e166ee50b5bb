"""Prefect's API as it really answers."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from spanctl.errors import (
    AmbiguousIdError,
    ConflictError,
    NotFoundError,
    UnreachableError,
    UsageError,
)
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import Deployment, StateType
from spanctl.orchestration.settings import ApiSettings
from tests.faults.emulator import free_port

pytestmark = pytest.mark.prefect


class Raw:
    """Makes what the tests look at, without the code under test."""

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, path: str, body: Any) -> Any:
        for _ in range(50):
            answer = httpx.post(f"{self._url}{path}", json=body, timeout=30)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.1)  # SQLite's one writer was busy; nothing was done
        answer.raise_for_status()
        return answer.json()

    def flow(self, name: str) -> str:
        return str(self.post("/flows/", {"name": name})["id"])

    def flow_run(self, **fields: Any) -> str:
        body = {"flow_id": self.flow("made"), "state": {"type": "PENDING"}, **fields}
        return str(self.post("/flow_runs/", body)["id"])

    def task_run(self, flow_run: str, key: str) -> str:
        body = {
            "flow_run_id": flow_run,
            "task_key": key,
            "dynamic_key": key,
            "name": key,
            "state": {"type": "PENDING"},
        }
        return str(self.post("/task_runs/", body)["id"])

    def deployment(self, flow: str, name: str, **fields: Any) -> str:
        schema = {
            "type": "object",
            "properties": {"n": {"type": "integer"}, "who": {"type": "string"}},
        }
        body = {
            "flow_id": self.flow(flow),
            "name": name,
            "parameter_openapi_schema": schema,
            "enforce_parameter_schema": True,
            **fields,
        }
        return str(self.post("/deployments/", body)["id"])


@pytest.fixture
def raw(prefect_api: str) -> Raw:
    return Raw(prefect_api)


@pytest.fixture
def api(prefect_api: str) -> Iterator[PrefectApi]:
    with PrefectApi(ApiSettings(prefect_api), timeout=30) as api:
        yield api


@pytest.fixture
def deployment(raw: Raw, api: PrefectApi) -> Deployment:
    flow = f"flow {uuid.uuid4()}"
    raw.deployment(flow, "nightly", parameters={"who": "all"})
    return api.deployment(f"{flow}/nightly")


def test_flow_run_by_id_and_name(raw: Raw, api: PrefectApi) -> None:
    """A flow run is found by its id and by its name, with what it was made with."""
    name = f"calm-{uuid.uuid4()}"
    made = raw.flow_run(name=name, tags=["a"], labels={"k": "v"}, parameters={"n": 1})
    run = api.find_flow_run(made)
    assert run == api.find_flow_run(name)
    assert (run.id, run.name, run.tags, run.parameters) == (made, name, ("a",), {"n": 1})
    assert run.labels["k"] == "v"
    assert api.flow_name(run.flow_id) == "made"
    assert run.state is not None
    assert run.state.type is StateType.PENDING


def test_ambiguous_name(raw: Raw, api: PrefectApi) -> None:
    """A name that two flow runs have is refused, and both ids are listed."""
    name = f"twin-{uuid.uuid4()}"
    made = {raw.flow_run(name=name), raw.flow_run(name=name)}
    with pytest.raises(AmbiguousIdError) as caught:
        api.find_flow_run(name)
    assert set(caught.value.details["candidates"]) == made
    assert all(one in caught.value.hint for one in made)


@pytest.mark.parametrize(
    "wanted", ["5f2c8a34-9d1e-4b7a-8c60-1f3e5d7b9a02", "no-such-name", "odd/../name", ""]
)
def test_unknown_flow_run(api: PrefectApi, wanted: str) -> None:
    """What doesn't exist is 'not found', whatever characters it is written with."""
    with pytest.raises(NotFoundError):
        api.find_flow_run(wanted)


def test_the_newest_artifact_of_a_key(raw: Raw, api: PrefectApi) -> None:
    """The newest one's data is read, of that run and key only; None where there is none."""
    made, other = raw.flow_run(), raw.flow_run()
    assert api.artifact(made, "of-a-test") is None
    for run, key, data in (
        (made, "of-a-test", '[{"n": 1}]'),
        (made, "of-a-test", '[{"n": 2}]'),
        (made, "another", "plain text"),
        (other, "of-a-test", {"n": 3}),
    ):
        raw.post("/artifacts/", {"flow_run_id": run, "key": key, "type": "table", "data": data})
    assert api.artifact(made, "of-a-test") == [{"n": 2}]
    assert api.artifact(made, "another") == "plain text"
    assert api.artifact(other, "of-a-test") == {"n": 3}


def test_states_in_order(raw: Raw, api: PrefectApi) -> None:
    """The history of a run is whole and oldest first."""
    run = raw.flow_run()
    for state in ("RUNNING", "COMPLETED"):
        raw.post(f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
    types = [state.type.value for state in api.flow_run_states(run)]
    assert types == ["PENDING", "RUNNING", "COMPLETED"]


def test_task_runs_and_their_states(raw: Raw, api: PrefectApi) -> None:
    """The task runs of a flow run are listed whole, beyond a page, each with its states."""
    run = raw.flow_run()
    first = raw.task_run(run, "first")
    second = raw.task_run(run, "second")
    raw.post(f"/task_runs/{first}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    found = api.task_runs(run)
    assert {task.id for task in found} == {first, second}
    histories = api.task_run_histories([first, second])
    assert [[state.type.value for state in states] for states in histories] == [
        ["PENDING", "RUNNING"],
        ["PENDING"],
    ]


def test_subflow_and_root(raw: Raw, api: PrefectApi) -> None:
    """A subflow run is listed by its parent, and leads to the root."""
    root = raw.flow_run()
    child = raw.flow_run(parent_task_run_id=raw.task_run(root, "child"))
    grandchild = raw.flow_run(parent_task_run_id=raw.task_run(child, "grandchild"))
    assert [run.id for run in api.subflow_runs(root)] == [child]
    assert api.root_of(api.flow_run(grandchild)).id == root
    assert api.root_of(api.flow_run(root)).id == root


def test_logs_are_paged(raw: Raw, api: PrefectApi) -> None:
    """Logs come whole, in order, and an offset leaves out what was read before."""
    run = raw.flow_run()
    lines = [
        {
            "name": "made",
            "level": 20,
            "message": f"line {number}",
            "timestamp": f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}Z",
            "flow_run_id": run,
        }
        for number in range(410)
    ]
    raw.post("/logs/", lines)
    expected = [line["message"] for line in lines]
    assert [log.message for log in api.logs(run)] == expected
    assert [log.message for log in api.logs(run, offset=400)] == expected[400:]


def test_create_flow_run(api: PrefectApi, deployment: Deployment) -> None:
    """A run is made with parameters, tags and labels, and waits for a worker."""
    started = api.create_flow_run(
        deployment, parameters={"n": 3}, tags=["t"], labels={"spanctl.reason": "because"}
    )
    run = api.flow_run(started.run.id)
    assert not started.existed
    assert run.parameters == {"n": 3, "who": "all"}
    assert run.tags == ("t",)
    assert run.labels["spanctl.reason"] == "because"
    assert run.state is not None
    assert run.state.type is StateType.SCHEDULED


def test_same_key_same_run(api: PrefectApi, deployment: Deployment) -> None:
    """The same key with the same parameters gives the same run, and says that it existed."""
    key = str(uuid.uuid4())
    first = api.create_flow_run(deployment, parameters={"n": 1}, idempotency_key=key)
    second = api.create_flow_run(deployment, parameters={"n": 1}, idempotency_key=key)
    assert (first.existed, second.existed) == (False, True)
    assert first.run.id == second.run.id


def test_same_key_other_parameters(api: PrefectApi, deployment: Deployment) -> None:
    """The same key with other parameters is refused, though Prefect returns the old run."""
    key = str(uuid.uuid4())
    first = api.create_flow_run(deployment, parameters={"n": 1}, idempotency_key=key)
    with pytest.raises(ConflictError) as caught:
        api.create_flow_run(deployment, parameters={"n": 2}, idempotency_key=key)
    assert caught.value.details["flow_run"] == first.run.id


def test_same_key_other_deployment(raw: Raw, api: PrefectApi) -> None:
    """The same key in another deployment of the same flow is refused too."""
    flow = f"flow {uuid.uuid4()}"
    raw.deployment(flow, "a")
    raw.deployment(flow, "b")
    key = str(uuid.uuid4())
    api.create_flow_run(api.deployment(f"{flow}/a"), idempotency_key=key)
    with pytest.raises(ConflictError):
        api.create_flow_run(api.deployment(f"{flow}/b"), idempotency_key=key)


@pytest.mark.parametrize("parameters", [{"n": "secret-word"}, {"nn": "secret-word"}])
def test_refused_parameters(
    api: PrefectApi, deployment: Deployment, parameters: dict[str, str]
) -> None:
    """Parameters of a wrong type or name are refused without repeating their values."""
    with pytest.raises(UsageError) as caught:
        api.create_flow_run(deployment, parameters=parameters)
    assert "secret-word" not in f"{caught.value} {caught.value.hint} {caught.value.details}"


def test_unknown_deployment(api: PrefectApi, deployment: Deployment) -> None:
    """An unknown deployment is not found, and the hint names one that is."""
    with pytest.raises(NotFoundError) as caught:
        api.deployment("no/such")
    assert "/nightly" in caught.value.hint
    assert deployment.name in api.deployment_names()


def test_cancel(raw: Raw, api: PrefectApi) -> None:
    """A run that waits can be cancelled; one that has ended can't."""
    run = raw.flow_run()
    assert api.cancel(run).type in {StateType.CANCELLING, StateType.CANCELLED}
    raw.post(f"/flow_runs/{run}/set_state", {"state": {"type": "COMPLETED"}, "force": True})
    with pytest.raises(ConflictError):
        api.cancel(run)


def test_nobody_listens() -> None:
    """A server that isn't there is unreachable, and the hint says what to do."""
    with (
        PrefectApi(ApiSettings(f"http://127.0.0.1:{free_port()}/api"), timeout=5) as api,
        pytest.raises(UnreachableError) as caught,
    ):
        api.flow_run(str(uuid.uuid4()))
    assert "spanctl local status" in caught.value.hint
