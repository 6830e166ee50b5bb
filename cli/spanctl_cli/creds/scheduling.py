"""``spanctl creds schedule``: the deployment that rotates what is due."""

from collections.abc import Sequence
from typing import Any, Final

from spanctl.errors import UsageError
from spanctl.invocation import UPKEEP_TAG
from spanctl_cli.context import AppContext
from spanctl_cli.output import Column, Kind, Record
from spanctl_cli.runs.deployments import connect, end_schedule

FLOW: Final = "rotate-due"
NAME: Final = "spanctl"
ENTRYPOINT: Final = "spanctl.flows.rotating.rotate_due"
_EVERY: Final = 300.0
_COLUMNS = (
    Column("deployment", kind=Kind.ID),
    Column("work_pool", title="work pool"),
    Column("every", kind=Kind.DURATION),
    Column("cron"),
    Column("secrets"),
)
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Parameters",
    "properties": {
        "secrets": {
            "title": "secrets",
            "position": 0,
            "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
        }
    },
}


def deploy(app: AppContext, names: Sequence[str], every: float | None, cron: str | None) -> Record:
    """Make the deployment, or replace it, and return what is printed of it.

    Raises:
        ConfigurationError: No Prefect API, work pool or project is set.
        UsageError: A name is none, or Prefect refuses the schedule.
        NotFoundError: There is no such work pool.
    """
    from spanctl.references import SecretName

    settings = app.settings()
    pool, project = settings.require("work_pool"), settings.require("project")
    # By its full name: the worker's context may be another one.
    full = [name if "/" in name else f"projects/{project}/secrets/{name}" for name in names]
    try:
        secrets = [str(SecretName.parse(name)) for name in full]
    except UsageError:
        secrets = None
    if secrets is None:
        msg = "what was given is no name of a secret"
        raise UsageError(msg, hint="write its id, or projects/P/secrets/S")
    period = None if cron else every or _EVERY
    schedule = {"cron": cron, "timezone": "UTC"} if cron else {"interval": period}
    with connect(app) as api:
        made = api.deploy(
            FLOW,
            NAME,
            entrypoint=ENTRYPOINT,
            work_pool=pool,
            schedule=schedule,
            parameters={"secrets": secrets or None},
            schema=_SCHEMA,
            description="Rotates the credentials that are due: spanctl creds schedule",
            tags=[UPKEEP_TAG],
        )
    app.note(f"run it now: spanctl run {made.name}")
    values = {
        "deployment": made.name,
        "work_pool": pool,
        "every": period,
        "cron": cron,
        "secrets": secrets,
    }
    return Record("creds.schedule", _COLUMNS, values)


def remove(app: AppContext) -> None:
    """End the schedule; that there is none is fine."""
    end_schedule(app, f"{FLOW}/{NAME}")
