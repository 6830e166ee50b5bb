"""Deployments of a Prefect server, and what can be asked of it: new runs, other states."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from spanctl.clock import rfc3339
from spanctl.errors import ConflictError, NotFoundError, UsageError
from spanctl.invocation import PROCESS_LABEL, SETTLED_LABEL, key_of, typed_again
from spanctl.orchestration.filerun import FileRun
from spanctl.orchestration.model import Deployment, FlowRun, State, StateType
from spanctl.orchestration.reading import PAGE, RunReader, segment

_CREATED = 201
_ACCEPTED = "ACCEPT"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Started:
    """A flow run that was asked for.

    Attributes:
        run: The flow run.
        existed: Whether it existed already, under the same idempotency key.
    """

    run: FlowRun
    existed: bool


class PrefectApi(RunReader):
    """A Prefect server that is read, and asked to do something; raises as :class:`RunReader`."""

    # -- deployments

    def deployment(self, name: str) -> Deployment:
        """Return the deployment ``flow/name``.

        Raises:
            UsageError: The name is not of that form.
            NotFoundError: There is no such deployment; the hint lists those that are close.
        """
        flow, slash, deployment = name.partition("/")
        if not (flow and slash and deployment):
            msg = f"{name!r} is no deployment"
            raise UsageError(msg, hint="write it as FLOW/DEPLOYMENT")
        try:
            _, data = self._http.request(
                "GET",
                f"/deployments/name/{segment(flow)}/{segment(deployment)}",
                doing="reading a deployment",
            )
        except NotFoundError:
            msg = f"there is no deployment {name!r}"
            raise NotFoundError(msg, hint=closest(name, self.deployment_names())) from None
        return Deployment.read(data, name)

    def deployment_names(self) -> list[str]:
        """Return the names of the deployments (``flow/name``), at most 200, sorted."""
        body: dict[str, Any] = {"limit": PAGE}
        _, found = self._http.request(
            "POST", "/deployments/filter", body, doing="reading deployments"
        )
        wanted = {"flows": {"id": {"any_": sorted({item["flow_id"] for item in found})}}}
        if not found:
            return []
        _, flows = self._http.request(
            "POST", "/flows/filter", {**wanted, "limit": PAGE}, doing="reading flows"
        )
        names = {flow["id"]: flow["name"] for flow in flows}
        return sorted(f"{names.get(item['flow_id'], '?')}/{item['name']}" for item in found)

    def deploy(  # noqa: PLR0913 - what a deployment is made of
        self,
        flow: str,
        name: str,
        *,
        entrypoint: str,
        work_pool: str,
        schedule: Mapping[str, Any],
        parameters: Mapping[str, Any],
        schema: Mapping[str, Any],
        description: str = "",
        tags: Sequence[str] = (),
    ) -> Deployment:
        """Make a deployment with one schedule, or replace that of the same name.

        Args:
            flow: The flow's name.
            name: The deployment's.
            entrypoint: ``package.module.function``, importable where the workers are.
            work_pool: Whose workers run it.
            schedule: Prefect's schedule: ``{"interval": seconds}`` or ``{"cron": "..."}``.
            parameters: JSON values.
            schema: JSON schema of the flow's parameters.
            description: Shown in Prefect's UI.
            tags: Its tags, which its runs get.

        Raises:
            NotFoundError: There is no such work pool.
            UsageError: Prefect refuses the schedule.
        """
        _, made = self._http.request("POST", "/flows/", {"name": flow}, doing="naming a flow")
        body = {
            "name": name,
            "flow_id": made["id"],
            "entrypoint": entrypoint,
            "work_pool_name": work_pool,
            "paused": False,
            "schedules": [{"schedule": dict(schedule), "active": True}],
            "parameters": dict(parameters),
            "parameter_openapi_schema": dict(schema),
            "enforce_parameter_schema": True,
            # A run that is late need not be made up for: the next one does what is due.
            "concurrency_limit": 1,
            "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
            "description": description,
            "tags": list(tags),
        }
        _, data = self._http.request("POST", "/deployments/", body, doing="making a deployment")
        return Deployment.read(data, f"{flow}/{name}")

    def pause(self, deployment: Deployment) -> None:
        """Stop the schedules of a deployment: the runs that they have planned are deleted."""
        path = f"/deployments/{segment(deployment.id)}/pause_deployment"
        self._http.request("POST", path, doing="pausing a deployment")

    def delete_deployment(self, deployment: Deployment) -> None:
        """Delete a deployment and its schedules; its runs are kept."""
        path = f"/deployments/{segment(deployment.id)}"
        self._http.request("DELETE", path, doing="deleting a deployment")

    def create_flow_run(  # noqa: PLR0913 - what Prefect lets one say of a new run
        self,
        deployment: Deployment,
        *,
        parameters: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        nonce: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        job_variables: Mapping[str, Any] | None = None,
        due: datetime | None = None,
    ) -> Started:
        """Ask for a run of a deployment; it starts when a worker takes it.

        Args:
            deployment: What to run.
            parameters: JSON values, over the deployment's own.
            idempotency_key: The same key gives the same run.
            nonce: The key where none is given; a new one is made when left out, so that a lost
                answer never makes two runs.
            name: The run's name; Prefect invents one when left out.
            tags: Added to the deployment's.
            labels: The run's labels.
            job_variables: What this run changes of its work pool's job.
            due: When it is to start; None for now.

        Raises:
            UsageError: The flow doesn't take these parameters.
            ConflictError: The key belongs to a run of another deployment, or with other parameters:
                Prefect would silently return that one.
        """
        given = dict(parameters or {})
        if deployment.parameter_names and (extra := set(given) - set(deployment.parameter_names)):
            msg = f"{deployment.name} takes no parameter {', '.join(sorted(extra))}"
            raise UsageError(msg, hint=f"it takes: {', '.join(deployment.parameter_names)}")
        body: dict[str, Any] = {
            "parameters": given,
            "idempotency_key": idempotency_key or nonce or str(uuid.uuid4()),
            "tags": list(tags),
            "labels": dict(labels or {}),
            "state": {"type": StateType.SCHEDULED.value},
        }
        if name:
            body["name"] = name
        if job_variables:
            body["job_variables"] = dict(job_variables)
        if due is not None:
            body["state"]["state_details"] = {"scheduled_time": rfc3339(due)}
        path = f"/deployments/{segment(deployment.id)}/create_flow_run"
        try:
            status, data = self._http.request("POST", path, body, doing="creating a flow run")
        except UsageError as error:
            msg = f"{deployment.name} refuses these parameters"
            hint = f"run: spanctl deployments show {deployment.name}"
            raise UsageError(msg, hint=hint, **error.details) from None
        run = FlowRun.read(data)
        existed = status != _CREATED
        if existed and idempotency_key is not None:
            _check_same(run, deployment, given)
        return Started(run, existed)

    def cancel(self, flow_run_id: str, message: str = "cancelled by spanctl") -> State:
        """Ask for a flow run to be cancelled, and return the state that it is in then.

        One that nothing executes yet is cancelled at once. A body that is running is not reliably
        stopped by this.

        Raises:
            ConflictError: Prefect refuses: the run has ended already.
        """
        status, state = self._propose(flow_run_id, StateType.CANCELLING, "Cancelling", message)
        if state is not None and (status == _ACCEPTED or state.type is StateType.CANCELLED):
            return state
        raise _refused(flow_run_id, StateType.CANCELLING)

    def retry(self, run: FlowRun, message: str) -> State:
        """Have a flow run that has ended be run again by a worker: the same run, once more.

        Args:
            run: The run, as whoever wants it run again has seen it.
            message: What the state says.

        Raises:
            ConflictError: It is in another state by now; or :meth:`refuse_retry` refuses it.
            UnreachableError: Prefect did not answer.
        """
        now = self.flow_run(run.id)
        if now.state != run.state:
            word = now.state.name if now.state else "unknown"
            msg = f"flow run {run.id} is {word} by now: somebody else saw to it"
            hint = f"look: spanctl runs show {run.id}"
            raise ConflictError(msg, hint=hint, flow_run=run.id)
        self.refuse_retry(now)
        # Whoever had it is gone: its next worker says so on its own only once the run is Pending.
        self.add_labels(run.id, {PROCESS_LABEL: "", SETTLED_LABEL: ""})
        self._hand_to_workers(now)
        # Prefect's rules keep ended runs as they are, for its own retries too.
        status, state = self._propose(
            run.id, StateType.SCHEDULED, "AwaitingRetry", message, force=True
        )
        if state is None or status != _ACCEPTED:
            raise _refused(run.id, StateType.SCHEDULED)
        return state

    def _hand_to_workers(self, run: FlowRun) -> None:
        """Have workers take a run that its own process was to retry.

        Prefect does so by itself where the state is not forced. A pause that nobody ended is one
        again; what was resumed is not asked for twice.
        """
        policy = {**run.policy, "retry_type": "reschedule", "resuming": False}
        if run.policy.get("pause_keys"):
            *_, last = (one for one in self.flow_run_states(run.id) if not one.type.is_final)
            if last.type is StateType.PAUSED:
                policy["pause_keys"] = []
        path = f"/flow_runs/{segment(run.id)}"
        self._http.request(
            "PATCH", path, {"empirical_policy": policy}, doing="having a flow run taken by a worker"
        )

    def refuse_retry(self, run: FlowRun) -> None:
        """Return when a worker can run a flow run again.

        Raises:
            ConflictError: It has not ended, it completed, or no deployment says how it is run.
        """
        word = run.state.name if run.state else "unknown"
        if run.state is None or not run.state.type.is_final:
            msg = f"flow run {run.id} has not ended, it is {word}"
            raise ConflictError(msg, hint=f"run: spanctl runs wait {run.id}", flow_run=run.id)
        if run.state.type is StateType.COMPLETED:
            msg = f"flow run {run.id} completed: there is nothing to retry"
            hint = f"look: spanctl runs show {run.id}"
            raise ConflictError(msg, hint=hint, flow_run=run.id)
        if run.deployment_id is None:
            msg = f"flow run {run.id} is of no deployment: no worker can run it again"
            hint = typed_again(key_of(run.labels))
            if (kept := FileRun.from_labels(run.labels)) is not None:
                hint = f"where it was typed, on {kept.host}: {kept.command(run.id)}"
            raise ConflictError(msg, hint=hint, flow_run=run.id)

    def set_state(self, flow_run_id: str, state: StateType, *, message: str = "") -> State:
        """Propose a state for a flow run, and return the state that it is in then.

        Raises:
            ConflictError: Prefect's rules refuse the state.
        """
        status, found = self._propose(flow_run_id, state, state.value.title(), message)
        if found is None or status != _ACCEPTED:
            raise _refused(flow_run_id, state)
        return found

    def delete_flow_run(self, flow_run_id: str) -> None:
        """Delete a flow run, with its states and its log."""
        path = f"/flow_runs/{segment(flow_run_id)}"
        self._http.request("DELETE", path, doing="deleting a flow run")

    def crash_task_run(self, task_run_id: str, message: str) -> None:
        """End a task run as Crashed: what it held of concurrency limits is free then.

        Raises:
            NotFoundError: Prefect doesn't know it any more.
        """
        state = {"type": StateType.CRASHED.value, "name": "Crashed", "message": message}
        self._http.request(
            "POST",
            f"/task_runs/{segment(task_run_id)}/set_state",
            {"state": state, "force": True},
            doing="setting the state of a task run",
        )

    def add_labels(self, flow_run_id: str, labels: Mapping[str, str]) -> None:
        """Put labels on a flow run, over those of the same names."""
        path = f"/flow_runs/{segment(flow_run_id)}/labels"
        self._http.request("PATCH", path, dict(labels), doing="labelling a flow run")

    def _propose(
        self, flow_run_id: str, state: StateType, name: str, message: str, *, force: bool = False
    ) -> tuple[str, State | None]:
        proposed = {"type": state.value, "name": name, "message": message}
        _, data = self._http.request(
            "POST",
            f"/flow_runs/{segment(flow_run_id)}/set_state",
            {"state": proposed, "force": force},
            doing="setting the state of a flow run",
        )
        found = State.read(data["state"]) if data.get("state") else None
        return str(data.get("status")), found


def _refused(flow_run_id: str, state: StateType) -> ConflictError:
    msg = f"Prefect does not let flow run {flow_run_id} become {state.value}"
    return ConflictError(msg, hint=f"run: spanctl runs show {flow_run_id}", flow_run=flow_run_id)


def closest(name: str, known: Sequence[str]) -> str:
    """Return a hint for a deployment's name that doesn't exist, from those that do."""
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if not known:
        return (
            "there is none yet; make one: prefect deploy, or run a file: spanctl run FILE.py:FLOW"
        )
    return f"known are: {', '.join(known[:_SHOWN])}; all: spanctl deployments list"


def _check_same(run: FlowRun, deployment: Deployment, given: Mapping[str, Any]) -> None:
    """Refuse the run of somebody else's request that Prefect returned for the same key."""
    hint = f"use another idempotency key, or look at that run: spanctl audit {run.id}"
    if run.deployment_id != deployment.id:
        msg = "the idempotency key belongs to a run of another deployment"
        raise ConflictError(msg, hint=hint, flow_run=run.id)
    expected = {**deployment.parameters, **given}
    if _json(run.parameters) != _json(expected):
        msg = "the idempotency key belongs to a run with other parameters"
        raise ConflictError(msg, hint=hint, flow_run=run.id)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
