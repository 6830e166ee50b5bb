"""What Prefect's API says, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

TRANSACTIONS_ARTIFACT = "spanctl-transactions"
"""Key of the artifact in which a flow run lists its transactions."""
_ENGINE: Final = "prefect.flow_runs"
_FIRST_LINE: Final = "Beginning flow run"
_LAST_LINE: Final = "Finished in state"


class StateType(StrEnum):
    """The types of states that runs go through."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"

    @property
    def is_final(self) -> bool:
        """Whether a run stays in it, unless somebody retries it."""
        return self in _FINAL

    @property
    def is_of_engine(self) -> bool:
        """Whether the run's own process ended it, and so ran its hooks and logged its last line."""
        return self in {StateType.COMPLETED, StateType.FAILED}


_FINAL: Final = frozenset(
    {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
)


def moment(text: str | None) -> datetime | None:
    """Read a time of the API; one without a zone is in UTC."""
    if not text:
        return None
    value = datetime.fromisoformat(text)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class State:
    """A state that a run went into.

    Attributes:
        type: Its type.
        name: Its name, such as ``AwaitingRetry``.
        timestamp: When the run went into it.
        message: What was said about it; it may quote exceptions, and so the user's data.
        until: When a run that waits in it is due, or may wait no longer; None where none is said.
    """

    type: StateType
    name: str
    timestamp: datetime
    message: str = ""
    until: datetime | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's JSON."""
        kind = StateType(data["type"])
        stamp = moment(data["timestamp"]) or datetime.fromtimestamp(0, UTC)
        details = data.get("state_details") or {}
        return cls(
            type=kind,
            name=data.get("name") or kind.value.title(),
            timestamp=stamp,
            message=data.get("message") or "",
            until=moment(details.get("scheduled_time") or details.get("pause_timeout")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """A flow run.

    Attributes:
        id: Its id.
        name: Its name; names need not be unique.
        flow_id: The flow's id.
        deployment_id: The deployment's id; None for a run outside of one.
        parent_task_run_id: The task run that stands for it in its parent; None for a root.
        state: The state it is in; None before the first.
        run_count: How often it was run.
        parameters: Its parameters, as JSON.
        tags: Its tags.
        labels: Its labels.
        idempotency_key: What its creator named it by.
        work_pool: The work pool whose workers run it; None for a run outside of one.
        created: When it was created.
        expected_start: When it is to run.
        start_time: When it first ran.
        end_time: When it ended.
        created_by: Who Prefect says created it (not verified by open-source servers).
        policy: How Prefect goes on with it: its retries, and the pauses that it has seen.
    """

    id: str
    name: str
    flow_id: str
    deployment_id: str | None = None
    parent_task_run_id: str | None = None
    state: State | None = None
    run_count: int = 0
    parameters: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    labels: Mapping[str, Any]
    idempotency_key: str | None = None
    work_pool: str | None = None
    created: datetime | None = None
    expected_start: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    created_by: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def retries_in_process(self) -> bool:
        """Whether its own process retries it: no worker takes it while that is so."""
        return self.policy.get("retry_type") == "in_process"

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's JSON."""
        return cls(
            id=data["id"],
            name=data["name"],
            flow_id=data["flow_id"],
            deployment_id=data.get("deployment_id"),
            parent_task_run_id=data.get("parent_task_run_id"),
            state=State.read(data["state"]) if data.get("state") else None,
            run_count=data.get("run_count") or 0,
            parameters=data.get("parameters") or {},
            tags=tuple(data.get("tags") or ()),
            labels=data.get("labels") or {},
            idempotency_key=data.get("idempotency_key"),
            work_pool=data.get("work_pool_name"),
            created=moment(data.get("created")),
            expected_start=moment(data.get("expected_start_time")),
            start_time=moment(data.get("start_time")),
            end_time=moment(data.get("end_time")),
            created_by=(data.get("created_by") or {}).get("display_value"),
            policy=data.get("empirical_policy") or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """A task run.

    Attributes:
        id: Its id.
        name: Its name.
        flow_run_id: Its flow run.
        state: The state it is in; None before the first.
        run_count: How often it was run.
        start_time: When it first ran.
        end_time: When it ended.
    """

    id: str
    name: str
    flow_run_id: str | None
    state: State | None
    run_count: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's JSON."""
        return cls(
            id=data["id"],
            name=data["name"],
            flow_run_id=data.get("flow_run_id"),
            state=State.read(data["state"]) if data.get("state") else None,
            run_count=data.get("run_count") or 0,
            start_time=moment(data.get("start_time")),
            end_time=moment(data.get("end_time")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One line that a run logged.

    Attributes:
        id: Its id.
        timestamp: When it was logged.
        level: Python's level: 20 is INFO.
        logger: The logger's name.
        message: What was logged; it may hold the user's data.
        task_run_id: The task run that logged it, if one did.
    """

    id: str
    timestamp: datetime
    level: int
    logger: str
    message: str
    task_run_id: str | None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's JSON."""
        return cls(
            id=data["id"],
            timestamp=moment(data["timestamp"]) or datetime.fromtimestamp(0, UTC),
            level=data["level"],
            logger=data["name"],
            message=data["message"],
            task_run_id=data.get("task_run_id"),
        )

    @property
    def begins(self) -> bool:
        """Whether it is the engine's first line of an attempt; then there will be a last one."""
        return self.logger == _ENGINE and self.message.startswith(_FIRST_LINE)

    def ends(self, state: State | None) -> bool:
        """Tell whether it is the engine's last line, logged when the hooks of the end have run.

        Args:
            state: The run's state, read before the line was.
        """
        if self.logger != _ENGINE or not self.message.startswith(_LAST_LINE):
            return False
        # One of an earlier attempt is older than a state that came since.
        return state is not None and (state.type.is_final or self.timestamp >= state.timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A deployment.

    Attributes:
        id: Its id.
        name: ``flow/deployment``.
        flow_id: The flow's id.
        parameters: Default parameters, as JSON.
        parameter_names: Every parameter that the flow takes.
        paused: Whether its schedules are paused.
        work_pool: The work pool whose workers run it.
        status: ``READY`` when a worker serves it, ``NOT_READY`` when none does.
        schema: JSON schema of the parameters.
        enforced: Whether Prefect refuses parameters that the schema doesn't allow.
        tags: Tags of its runs.
        schedules: What each schedule says, in words, and whether it is active.
        description: What its makers say of it.
        entrypoint: Where the flow is, for the workers.
    """

    id: str
    name: str
    flow_id: str
    parameters: Mapping[str, Any]
    parameter_names: tuple[str, ...] = ()
    paused: bool = False
    work_pool: str | None = None
    status: str | None = None
    schema: Mapping[str, Any] = field(default_factory=dict)
    enforced: bool = False
    tags: tuple[str, ...] = ()
    schedules: tuple[tuple[str, bool], ...] = ()
    description: str = ""
    entrypoint: str | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any], name: str) -> Self:
        """Read the API's JSON."""
        schema = data.get("parameter_openapi_schema") or {}
        schedules = data.get("schedules") or ()
        return cls(
            id=data["id"],
            name=name,
            flow_id=data["flow_id"],
            parameters=data.get("parameters") or {},
            parameter_names=tuple(schema.get("properties") or ()),
            paused=bool(data.get("paused")),
            work_pool=data.get("work_pool_name"),
            status=data.get("status"),
            schema=schema,
            enforced=bool(data.get("enforce_parameter_schema")),
            tags=tuple(data.get("tags") or ()),
            schedules=tuple(
                (_schedule(one.get("schedule") or {}), bool(one.get("active"))) for one in schedules
            ),
            description=data.get("description") or "",
            entrypoint=data.get("entrypoint"),
        )


def _schedule(data: Mapping[str, Any]) -> str:
    zone = f" {data['timezone']}" if data.get("timezone") else ""
    if data.get("cron"):
        return f"cron {data['cron']}{zone}"
    if data.get("rrule"):
        return f"rrule {' '.join(str(data['rrule']).split())}{zone}"
    return f"every {data.get('interval', '?')} s"
