"""``spanctl runs recover``: dead flow runs ended, and run again where that is asked for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spanctl.errors import ConfigurationError, UsageError
from spanctl.invocation import UPKEEP_TAG
from spanctl_cli import exit_codes
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.output import Column, Kind, Listing, Record
from spanctl_cli.runs.deployments import end_schedule, reached_api, unended
from spanctl_cli.sources import sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanctl.errors import SpanctlError
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.model import FlowRun
    from spanctl.recovery.recoverer import Action, Policy, Recovered
    from spanctl.settings import Settings
    from spanctl.spanner.client import Database

FLOW: Final = "recover-runs"
NAME: Final = "spanctl"
ENTRYPOINT: Final = "spanctl.recovery.flow.recover_runs"
ATTEMPTS: Final = 3
EVERY: Final = 60.0
"""Seconds between two runs of the deployment."""
COLUMNS: Final = (
    Column("flow_run", title="flow run", kind=Kind.ID),
    Column("name"),
    Column("action", kind=Kind.STATE),
    Column("attempt", kind=Kind.NUMBER),
    Column("note"),
    Column("hint", extra=True),
)
_SCHEDULED: Final = (
    Column("deployment", kind=Kind.ID),
    Column("work_pool", title="work pool"),
    Column("every", kind=Kind.DURATION),
    Column("max_attempts", title="max attempts", kind=Kind.NUMBER),
)
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Parameters",
    "properties": {
        "max_attempts": {"title": "max_attempts", "position": 0, "type": "integer", "default": 3}
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What was asked for.

    Attributes:
        runs: Flow runs, by ids or names; all when empty.
        rerun: Whether all of them are to be run again, or only what asks for it.
        attempts: How often a run is run again at most.
        force: Whether to run again what has work outside of transactions whose end isn't known.
        watch: Whether to go on looking for ever.
    """

    runs: Sequence[str] = ()
    rerun: bool = False
    attempts: int = ATTEMPTS
    force: bool = False
    watch: bool = False

    @property
    def policy(self) -> "Policy":
        """How to go about it."""
        from spanctl.recovery.recoverer import Policy

        return Policy(attempts=self.attempts, force=self.force)


def recover(app: AppContext, chosen: Chosen) -> "Iterator[Recovered]":
    """Recover what died, and yield what became of each run.

    Raises:
        ConfigurationError: No Prefect API is set.
        SpanctlError: Prefect or Spanner did not answer, or refused.
    """
    from spanctl.recovery import resuming, rounds
    from spanctl.recovery.candidates import Wanted
    from spanctl.recovery.recoverer import Recoverer
    from spanctl.settings import state_home
    from spanctl_cli.runs.ledger import reached

    def resume(run: "FlowRun") -> Path:
        path = resuming.start(run, state_home() / "recovered", app.settings().context)
        app.note(f"flow run {run.id} goes on; what it prints is in {path}")
        return path

    def trouble(error: "SpanctlError") -> None:
        app.warn(f"{error.message}; looking on")

    def silent(count: int) -> None:
        if count:
            app.note(
                f"{count:,} of the executors elsewhere said nothing of late: whether they are dead"
                " is known once they were watched; run: spanctl runs recover --all --watch"
            )

    with (
        _sources(app) as (database, api),
        Recoverer(
            database,
            api,
            reach=lambda name: reached(app, name),
            resume=resume,
            policy=chosen.policy,
        ) as recoverer,
    ):
        wanted = Wanted(only=_ids(api, chosen.runs), rerun=chosen.rerun)
        patience = rounds.Patience(watch=chosen.watch)
        done = set()
        for one in rounds.run(recoverer, wanted, patience, trouble=trouble, silent=silent):
            done.add(one.run.id)
            yield one
        for run in api.flow_runs(sorted({*wanted.only} - done)):
            word = run.state.name if run.state else "unknown"
            app.note(f"flow run {run.id} is {word}, and isn't known to be dead: left alone")


def plan(app: AppContext, chosen: Chosen) -> "list[Recovered]":
    """Return what would be done about each run that died; nothing is.

    Raises:
        SpanctlError: As :func:`recover` raises.
    """
    from spanctl.recovery import candidates
    from spanctl.recovery.recoverer import planned

    with _sources(app) as (database, api):
        wanted = candidates.Wanted(only=_ids(api, chosen.runs), rerun=chosen.rerun)
        found = candidates.look(database, api, wanted, observe=False)
    if found.leases:
        app.note(f"what {len(found.leases):,} other leases of dead executors hold is made final")
    return [planned(one, chosen.policy) for one in found.candidates]


def _sources(app: AppContext) -> Any:  # noqa: ANN401 - a context manager of both
    from contextlib import contextmanager

    @contextmanager
    def both() -> "Iterator[tuple[Database, PrefectApi]]":
        with sources(app) as (database, api):
            if api is None:
                msg = "no Prefect API is set"
                raise ConfigurationError(msg, hint="run: spanctl local up, or set PREFECT_API_URL")
            yield database, api

    return both()


def _ids(api: "PrefectApi", wanted: Sequence[str]) -> Collection[str]:
    """Return the ids of flow runs at the top.

    Raises:
        NotFoundError: There is no such run.
        UsageError: One is part of another.
    """
    found = [api.find_flow_run(one) for one in wanted]
    parts = (one for one in found if one.parent_task_run_id and not one.deployment_id)
    part = next(parts, None)
    if part is not None:
        msg = f"flow run {part.id} is part of another one"
        raise UsageError(msg, hint=f"name that: {api.root_of(part).id}")
    return [one.id for one in found]


def row(one: "Recovered") -> dict[str, Any]:
    """Return what is printed of one run."""
    return {
        "flow_run": one.run.id,
        "name": one.run.name,
        "action": one.action,
        "attempt": one.attempt,
        "note": one.note,
        "hint": one.hint or None,
    }


def listing(done: "Sequence[Recovered]") -> Listing:
    """Return what is printed of all of them."""
    return Listing("runs.recover", COLUMNS, [row(one) for one in done], empty="nothing has died")


def code_of(actions: "Collection[Action]") -> ExitCode:
    """Return the exit code: 9 where a person has to look, 12 where a run died too often."""
    from spanctl.recovery.recoverer import Action

    codes = {Action.LEFT: ExitCode.UNKNOWN, Action.EXHAUSTED: ExitCode.CANCELLED}
    return exit_codes.worst(codes.get(one, ExitCode.DONE) for one in actions)


def deploy(settings: "Settings", every: float | None, attempts: int = ATTEMPTS) -> Record:
    """Make the deployment, or replace it, and return what is printed of it.

    Raises:
        ConfigurationError: No Prefect API or work pool is set.
        NotFoundError: There is no such work pool.
    """
    pool = settings.require("work_pool")
    period = every or EVERY
    with reached_api(settings) as api:
        made = api.deploy(
            FLOW,
            NAME,
            entrypoint=ENTRYPOINT,
            work_pool=pool,
            schedule={"interval": period},
            parameters={"max_attempts": attempts},
            schema=_SCHEMA,
            description="Recovers flow runs whose process died: spanctl runs recover --schedule",
            tags=[UPKEEP_TAG],
        )
        unended(api, made)
    values = {
        "deployment": made.name,
        "work_pool": pool,
        "every": period,
        "max_attempts": attempts,
    }
    return Record("runs.schedule", _SCHEDULED, values)


def remove(app: AppContext) -> None:
    """End the schedule; that there is none is fine."""
    end_schedule(app, f"{FLOW}/{NAME}")
