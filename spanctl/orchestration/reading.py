"""What a Prefect server knows of flow runs and task runs: their states, logs and artifacts."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import quote

from spanctl.clock import rfc3339
from spanctl.closing import Closing
from spanctl.errors import AmbiguousIdError, NotFoundError
from spanctl.orchestration.model import FlowRun, Log, State, TaskRun
from spanctl.orchestration.settings import ApiSettings
from spanctl.orchestration.transport import Transport

PAGE = 200
"""The server's own default limit."""
_READERS = 4
_SHOWN = 5
_LAST = 20
_SCANNED = 5_000
"""So many flow runs are looked through at most."""


class RunReader(Closing):
    """Reads from a Prefect server; thread-safe, a context manager, connects at the first use.

    Every method raises ``UnreachableError`` when there is no answer in time, ``NotPermittedError``
    when the server wants other credentials, and ``NotFoundError`` for what doesn't exist.
    """

    def __init__(self, settings: ApiSettings, *, timeout: float = 10.0) -> None:
        """Remember where the server is; nothing is sent yet.

        Args:
            settings: Where it is, and what opens it.
            timeout: Seconds that one request may take, retries included.
        """
        self.url = settings.url
        self._http = Transport(settings, timeout=timeout)

    # -- flow runs

    def find_flow_run(self, id_or_name: str) -> FlowRun:
        """Return the flow run with this id, or the only one of this name.

        Raises:
            NotFoundError: There is none.
            AmbiguousIdError: Several have this name; ``details["candidates"]`` lists their ids.
        """
        if _is_id(id_or_name):
            return self.flow_run(id_or_name)
        named = self.flow_runs_named(id_or_name)
        if not named:
            msg = f"there is no flow run {id_or_name!r}"
            raise NotFoundError(msg, hint="run: spanctl runs list")
        if len(named) > 1:
            ids = [run.id for run in named]
            shown = ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")
            msg = f"{len(named)} flow runs are named {id_or_name!r}"
            raise AmbiguousIdError(msg, hint=f"give one of the ids: {shown}", candidates=ids)
        return named[0]

    def flow_run(self, flow_run_id: str) -> FlowRun:
        """Return the flow run with this id."""
        try:
            _, data = self._http.request(
                "GET", f"/flow_runs/{segment(flow_run_id)}", doing="reading a flow run"
            )
        except NotFoundError:
            msg = f"there is no flow run {flow_run_id}"
            raise NotFoundError(msg, hint="run: spanctl runs list") from None
        return FlowRun.read(data)

    def flow_runs(self, flow_run_ids: Sequence[str]) -> list[FlowRun]:
        """Return those of these flow runs that exist."""
        found = []
        for start in range(0, len(flow_run_ids), PAGE):
            wanted = {"id": {"any_": list(flow_run_ids[start : start + PAGE])}}
            found += self._flow_runs(wanted, limit=PAGE)
        return found

    def unended_runs(self) -> Iterator[FlowRun]:
        """Yield the flow runs that were begun and have not ended, the newest first.

        Those that run within another one's process are left out.
        """
        kinds = ["RUNNING", "PENDING", "CANCELLING", "PAUSED"]
        begun = {"type": {"any_": kinds}, "name": {"any_": ["AwaitingRetry"]}, "operator": "or_"}
        yield from self._own({"state": begun})

    def crashed_runs(self, tag: str, since: datetime) -> Iterator[FlowRun]:
        """Yield the flow runs with this tag that crashed since then; of the same kind."""
        crashed = {"type": {"any_": ["CRASHED"]}}
        ended = {"after_": rfc3339(since)}
        yield from self._own({"state": crashed, "tags": {"all_": [tag]}, "end_time": ended})

    def _own(self, wanted: Mapping[str, Any]) -> Iterator[FlowRun]:
        """Yield flow runs that have a process of their own."""
        body = {"flow_runs": dict(wanted), "sort": "EXPECTED_START_TIME_DESC"}
        for data in self.matching("flow_runs", body, limit=_SCANNED):
            run = FlowRun.read(data)
            if run.parent_task_run_id is None or run.deployment_id is not None:
                yield run

    def flow_runs_named(self, name: str, *, limit: int = 20) -> list[FlowRun]:
        """Return the flow runs of this name, newest first."""
        wanted = {"name": {"any_": [name]}}
        return self._flow_runs(wanted, limit=limit)

    def subflow_runs(self, flow_run_id: str) -> list[FlowRun]:
        """Return the flow runs that this one started as subflows."""
        wanted = {"parent_flow_run_id": {"any_": [flow_run_id]}}
        return self._flow_runs(wanted, limit=PAGE)

    def matching(self, kind: str, body: Mapping[str, Any], *, limit: int) -> Iterator[Any]:
        """Yield the API's JSON of what fits a filter, page by page as it is asked for.

        Args:
            kind: ``flow_runs``, ``flows`` or ``deployments``.
            body: Filters and order, as the API takes them.
            limit: At most this many.
        """
        doing = f"reading {kind.replace('_', ' ')}"
        found = self._pages(f"/{kind}/filter", body, doing, page=min(limit, PAGE))
        yield from islice(found, limit)

    def names_of(self, kind: str, ids: Iterable[str]) -> dict[str, str]:
        """Return the names of flows or deployments, by id; of those that exist."""
        wanted, names = sorted(set(ids)), dict[str, str]()
        for start in range(0, len(wanted), PAGE):
            body = {kind: {"id": {"any_": wanted[start : start + PAGE]}}}
            names |= {one["id"]: one["name"] for one in self.matching(kind, body, limit=PAGE)}
        return names

    def _flow_runs(self, wanted: Mapping[str, Any], *, limit: int) -> list[FlowRun]:
        body = {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_DESC", "limit": limit}
        _, data = self._http.request(
            "POST", "/flow_runs/filter", body, doing="looking for flow runs"
        )
        return [FlowRun.read(item) for item in data]

    def root_of(self, run: FlowRun) -> FlowRun:
        """Return the flow run at the top: the run itself, unless it is a subflow's."""
        seen = {run.id}
        while run.parent_task_run_id:
            parent = self.task_run(run.parent_task_run_id).flow_run_id
            if parent is None or parent in seen:
                return run
            seen.add(parent)
            run = self.flow_run(parent)
        return run

    def flow_run_states(self, flow_run_id: str) -> list[State]:
        """Return every state that a flow run went through, oldest first."""
        return self._states("flow_run", flow_run_id)

    def flow_name(self, flow_id: str) -> str:
        """Return a flow's name."""
        _, data = self._http.request("GET", f"/flows/{segment(flow_id)}", doing="reading a flow")
        return str(data["name"])

    # -- task runs

    def task_runs(self, flow_run_id: str) -> list[TaskRun]:
        """Return the task runs of a flow run, in order of their expected start."""
        return list(self._task_runs(flow_run_id))

    def _task_runs(self, flow_run_id: str) -> Iterator[TaskRun]:
        body = {
            "task_runs": {"flow_run_id": {"any_": [flow_run_id]}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        for data in self._pages("/task_runs/filter", body, "reading task runs"):
            yield TaskRun.read(data)

    def task_run(self, task_run_id: str) -> TaskRun:
        """Return the task run with this id."""
        _, data = self._http.request(
            "GET", f"/task_runs/{segment(task_run_id)}", doing="reading a task run"
        )
        return TaskRun.read(data)

    def task_run_states(self, task_run_id: str) -> list[State]:
        """Return every state that a task run went through, oldest first."""
        return self._states("task_run", task_run_id)

    def task_run_histories(self, task_run_ids: Sequence[str]) -> list[list[State]]:
        """Return the states of several task runs, in their order; read side by side."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_READERS, thread_name_prefix="spanctl-prefect") as pool:
            return list(pool.map(self.task_run_states, task_run_ids))

    def _states(self, kind: str, run_id: str) -> list[State]:
        _, data = self._http.request(
            "GET",
            f"/{kind}_states/",
            params={f"{kind}_id": run_id},
            doing="reading the states of a run",
        )
        return sorted((State.read(item) for item in data), key=lambda state: state.timestamp)

    # -- logs

    def logs(self, *flow_run_ids: str, offset: int = 0) -> Iterator[Log]:
        """Yield what flow runs and their task runs logged, oldest first.

        Args:
            flow_run_ids: The flow runs.
            offset: Leave out the first so many lines: those that were read before.
        """
        body = {"logs": {"flow_run_id": {"any_": list(flow_run_ids)}}, "sort": "TIMESTAMP_ASC"}
        for data in self._pages("/logs/filter", body, "reading logs", offset=offset):
            yield Log.read(data)

    def last_logs(self, flow_run_id: str) -> list[Log]:
        """Return the newest lines of a flow run, 20 at most, the newest first."""
        wanted = {"flow_run_id": {"any_": [flow_run_id]}, "task_run_id": {"is_null_": True}}
        body = {"logs": wanted, "sort": "TIMESTAMP_DESC", "limit": _LAST}
        _, found = self._http.request("POST", "/logs/filter", body, doing="reading logs")
        return [Log.read(data) for data in found]

    def _pages(
        self,
        path: str,
        body: Mapping[str, Any],
        doing: str,
        *,
        offset: int = 0,
        page: int = PAGE,
    ) -> Iterator[Any]:
        while True:
            asked = {**body, "limit": page, "offset": offset}
            _, data = self._http.request("POST", path, asked, doing=doing)
            yield from data
            if len(data) < page:
                return
            offset += page

    # -- artifacts

    def artifact(self, flow_run_id: str, key: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the data of a flow run's newest artifact of this key; None if it has none.

        What was written as text that is JSON is read as such.
        """
        wanted = {"flow_run_id": {"any_": [flow_run_id]}, "key": {"any_": [key]}}
        body = {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 1}
        _, found = self._http.request(
            "POST", "/artifacts/filter", body, doing="reading an artifact"
        )
        data = found[0].get("data") if found else None
        if not isinstance(data, str):
            return data
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            return data

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def segment(part: str) -> str:
    """Return a name as one segment of a URL's path."""
    return quote(part, safe="")


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
