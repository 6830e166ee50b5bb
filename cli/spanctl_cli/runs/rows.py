"""Flow runs as rows: what lists, pages and JSON say of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from spanctl.invocation import INITIATOR_LABEL, REASON_LABEL, key_of
from spanctl_cli.output import Column, Kind

if TYPE_CHECKING:
    from datetime import datetime

    from spanctl.orchestration.browsing import NamedRun
    from spanctl.orchestration.model import FlowRun, TaskRun

RUN_COLUMNS: Final = (
    Column("id", title="flow run", kind=Kind.ID),
    Column("name"),
    Column("state", kind=Kind.STATE),
    Column("due", kind=Kind.TIME),
    Column("seconds", title="time", kind=Kind.DURATION),
    Column("deployment"),
    Column("flow"),
    Column("tags"),
    Column("state_type", kind=Kind.STATE, extra=True),
    Column("started", kind=Kind.TIME, extra=True),
    Column("ended", kind=Kind.TIME, extra=True),
    Column("created", kind=Kind.TIME, extra=True),
    Column("attempts", kind=Kind.NUMBER, extra=True),
    Column("initiator", extra=True),
    Column("reason", extra=True),
    Column("work_pool", extra=True),
    Column("idempotency_key", extra=True),
    Column("deployment_id", extra=True),
    Column("parent_task_run", extra=True),
)
TASK_COLUMNS: Final = (
    Column("id", title="task run", kind=Kind.ID),
    Column("name"),
    Column("state", kind=Kind.STATE),
    Column("attempts", kind=Kind.NUMBER),
    Column("started", kind=Kind.TIME),
    Column("seconds", title="time", kind=Kind.DURATION),
    Column("flow_run", extra=True),
    Column("ended", kind=Kind.TIME, extra=True),
)


def run_row(named: "NamedRun") -> dict[str, Any]:
    """Return a flow run as a row of :data:`RUN_COLUMNS`."""
    run = named.run
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state.name if run.state else None,
        "due": run.expected_start,
        "seconds": seconds(run),
        "deployment": named.deployment,
        "flow": named.flow,
        "tags": list(run.tags),
        "state_type": run.state.type if run.state else None,
        "started": run.start_time,
        "ended": run.end_time,
        "created": run.created,
        "attempts": run.run_count,
        "initiator": label(run.labels, INITIATOR_LABEL),
        "reason": label(run.labels, REASON_LABEL),
        "work_pool": run.work_pool,
        "idempotency_key": key_of(run.labels) or run.idempotency_key,
        "deployment_id": run.deployment_id,
        "parent_task_run": run.parent_task_run_id,
    }


def task_row(task: "TaskRun") -> dict[str, Any]:
    """Return a task run as a row of :data:`TASK_COLUMNS`."""
    return {
        "id": task.id,
        "name": task.name,
        "state": task.state.name if task.state else None,
        "attempts": task.run_count,
        "started": task.start_time,
        "seconds": seconds(task),
        "flow_run": task.flow_run_id,
        "ended": task.end_time,
    }


def seconds(run: "FlowRun | TaskRun") -> float | None:
    """Return how long a run took, or takes until now; None before it began."""
    from spanctl.clock import now

    if run.start_time is None:
        return None
    ended: datetime = run.end_time or now()
    return round(max(0.0, (ended - run.start_time).total_seconds()), 3)


def label(labels: Mapping[str, Any], name: str) -> str | None:
    """Return the text of a label; None when a run has none of that name."""
    value = labels.get(name)
    return None if value is None else str(value)
