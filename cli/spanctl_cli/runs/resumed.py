"""``spanctl run --resume RUN``: a run of a file gone on with, as it was typed."""

import os
from typing import TYPE_CHECKING

from spanctl.errors import ConflictError, UsageError
from spanctl.invocation import DATABASE_LABEL
from spanctl_cli.context import AppContext
from spanctl_cli.runs import Asked, in_process, ledger
from spanctl_cli.runs.deployments import connect

if TYPE_CHECKING:
    from spanctl.orchestration.api import PrefectApi
    from spanctl.orchestration.filerun import FileRun
    from spanctl.orchestration.model import FlowRun


def run(app: AppContext, asked: Asked) -> None:
    """Go on with a run of a file that failed, was cut off or died: the same run, once more.

    What it has committed is not done again: its operation keys are the same. One that is dead is
    ended as Crashed first.

    Raises:
        NotFoundError: There is no such run.
        ConflictError: It completed, may be alive, is of a deployment, or was run elsewhere.
        SpanctlError: As the run ended.
    """
    _refuse_others(asked)
    in_process.prepare(app)
    from spanctl.flows import launch
    from spanctl.invocation import Invocation
    from spanctl.orchestration.filerun import digest
    from spanctl.spanner.client import Target

    with connect(app) as api:
        found = api.find_flow_run(str(asked.resume))
        kept = _recorded(found)
        _refuse_other_database(app, found)
        _end(app, api, found, only_crashed=asked.if_crashed)
    os.chdir(kept.folder)
    flow = launch.load(kept.target)
    if kept.code and digest(launch.file_of(flow)) != kept.code:
        app.warn(f"{kept.target.rpartition(':')[0]} has changed since that run was begun")
    bound = launch.bind(flow, dict(found.parameters))
    database = Target.from_settings(app.settings())
    given = Invocation(database=database, reason=asked.reason)
    asking = given.over(Invocation.from_labels(found.labels))
    begin = in_process.Begin(resumed=found.id)
    in_process.run_to_end(app, flow, bound, asking, asked, begin)


def _refuse_others(asked: Asked) -> None:
    given = {
        "a target": asked.target,
        "-p": asked.typed,
        "--param-file": asked.parameters,
        "--idempotency-key": asked.idempotency_key,
        "--tag": asked.tags,
        "--job-variable": asked.job_variables,
        "--at and --in": asked.due,
        "--dry-run": asked.dry_run,
        "--detach": not asked.watch,
    }
    for option, value in given.items():
        if value:
            msg = f"--resume goes on with a run as it was typed: {option} has no place there"
            raise UsageError(msg, hint=f"run: spanctl run --resume {asked.resume}")


def _recorded(run: "FlowRun") -> "FileRun":
    """Return where a run was run, which is here.

    Raises:
        ConflictError: It is no run of a file, or it was run elsewhere.
    """
    from spanctl.orchestration.filerun import FileRun

    kept = FileRun.from_labels(run.labels)
    if kept is None:
        msg = f"flow run {run.id} is not known to be one of a file or a module"
        hint = f"look: spanctl runs show {run.id}"
        if run.deployment_id is not None:
            msg = f"flow run {run.id} is of a deployment: its workers run it"
            hint = f"run: spanctl runs retry {run.id}"
        raise ConflictError(msg, hint=hint, flow_run=run.id)
    if kept.refusal:
        msg = f"flow run {run.id} can't be gone on with here: {kept.refusal}"
        hint = f"on {kept.host}: {kept.command(run.id)}"
        raise ConflictError(msg, hint=hint, flow_run=run.id)
    return kept


def _refuse_other_database(app: AppContext, run: "FlowRun") -> None:
    """Return when the context leads to the database that a run writes to.

    Raises:
        ConflictError: It leads to another one.
    """
    from spanctl.audit.owners import is_of

    here = str(app.settings().database)
    if is_of(run, here):
        return
    names = ledger.databases_of(run) or [str(run.labels.get(DATABASE_LABEL))]
    msg = f"flow run {run.id} writes to {', '.join(names)}, and the context leads to {here}"
    hint = f"run: spanctl --context NAME run --resume {run.id}"
    raise ConflictError(msg, hint=hint, flow_run=run.id)


def _end(app: AppContext, api: "PrefectApi", run: "FlowRun", *, only_crashed: bool) -> None:
    """Return once a run has ended; one that is dead is ended.

    Raises:
        ConflictError: It completed, or it may be alive.
    """
    from spanctl.audit.owners import is_running
    from spanctl.orchestration.model import StateType

    state = run.state
    if only_crashed and (state is None or state.type is not StateType.CRASHED):
        msg = f"flow run {run.id} is {state.name if state else 'unknown'} by now"
        raise ConflictError(msg, hint=f"look: spanctl runs show {run.id}", flow_run=run.id)
    if state is not None and state.type is StateType.COMPLETED:
        msg = f"flow run {run.id} completed: there is nothing to go on with"
        hint = f"look: spanctl runs show {run.id}"
        raise ConflictError(msg, hint=hint, flow_run=run.id)
    if is_running(run):
        msg = f"flow run {run.id} goes on: its process runs"
        hint = f"wait: spanctl runs wait {run.id}"
        raise ConflictError(msg, hint=hint, flow_run=run.id)
    if state is not None and state.type.is_final:
        return
    dead = ledger.dead(app, api, run)
    if dead is None:
        word = state.name if state else "unknown"
        msg = f"flow run {run.id} is {word}, and isn't known to be dead"
        hint = f"wait: spanctl runs wait {run.id}; or end it: spanctl runs cancel {run.id}"
        raise ConflictError(msg, hint=hint, flow_run=run.id)
    ledger.end_dead(app, api, dead)
