"""``spanctl runs retry`` and ``recover``: flow runs that are run again."""

from typing import TYPE_CHECKING, Annotated

import typer

from spanctl.errors import UsageError
from spanctl_cli import runs
from spanctl_cli.commands.run_options import (
    DeploymentOption,
    FlowOption,
    StateOption,
    TagOption,
    WhyOption,
    run_filter,
)
from spanctl_cli.context import AppContext
from spanctl_cli.options import (
    DryRunOption,
    FieldsOption,
    LimitOption,
    OutputOption,
    SinceOption,
    TimeoutOption,
    YesOption,
    seconds,
)
from spanctl_cli.output import emit
from spanctl_cli.prompts import confirm

if TYPE_CHECKING:
    from spanctl_cli.runs import recovering
    from spanctl_cli.runs.retrying import Retry


def register(app: typer.Typer) -> None:
    """Add the commands to ``spanctl runs``."""
    app.command()(retry)
    app.command()(recover)


def retry(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Flow runs, by their ids or names."),
    ] = None,
    *,
    state: StateOption = None,
    flow: FlowOption = None,
    deployment: DeploymentOption = None,
    tag: TagOption = None,
    since: SinceOption = None,
    limit: LimitOption = 50,
    reason: WhyOption = None,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Open what was closed of it by hand.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch/--detach", help="Wait for the end, or only have it accepted.")
    ] = True,
    timeout: TimeoutOption = None,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels the run.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Have workers run runs again that failed, crashed or were cancelled.

    Each stays the same flow run: transactions that it committed are not done again, their receipts
    are found. What is told and counted is this attempt's. A run whose executor is dead is ended as
    Crashed first. What was closed by hand stays closed without --reopen, and the run is refused.

    Several runs, or those that filters pick, are listed with how many transactions each replays,
    and are only accepted; filters ask first.

    Examples: spanctl runs retry bold-fox --reason "the disk was full"
              spanctl runs retry --state crashed --since 2h --flow pay --reason INC-1 --dry-run
    """
    from spanctl_cli.runs import again, retrying
    from spanctl_cli.runs.deployments import connect
    from spanctl_cli.runs.stopping import message

    application = AppContext.of(ctx)
    filters = bool(state or flow or deployment or tag or since)
    if bool(run) == filters:
        msg = "name flow runs, or pick them by --state, --flow, --deployment, --tag or --since"
        raise UsageError(msg, hint="see what ended: spanctl runs list --state ended")
    why = message("retried", reason)
    opening = (reason or "spanctl runs retry --reopen") if reopen else None
    with connect(application) as api:
        if filters:
            wanted = run_filter(state or ["ended"], flow, deployment, tag, since, None, False)
            runs_ = retrying.chosen(application, api, wanted, limit)
        else:
            runs_ = [api.find_flow_run(one) for one in run or ()]
        if filters or dry_run or len(runs_) > 1:
            planned = retrying.looked_at(application, api, runs_)
            if planned and not dry_run:
                if filters:
                    question = f"Run {runs.counted(len(planned), 'run')} again?"
                    confirm(application, question, yes=yes, hint="look with --dry-run, pass --yes")
                retrying.accept(application, api, planned, why, opening)
            emit(retrying.listing(planned), output, fields=fields)
            _say_what_is_next(application, planned)
            return
        (found,) = runs_
        found = again.ended(application, api, found)
        retrying.open_up(application, found, retrying.closed(application, found), opening)
        if watch:
            asked = runs.Asked(
                target=found.id,
                timeout=timeout,
                cancel_on_interrupt=cancel_on_interrupt,
                output=output,
            )
            again.retry(application, api, found, why, asked)
            return
        emit(again.accept(api, found, why), output, fields=fields)
    application.note(f"accepted; next: spanctl runs watch {found.id}")


def _say_what_is_next(application: AppContext, planned: "list[Retry]") -> None:
    from spanctl_cli.runs import retrying

    for one in planned:
        if one.error is not None:
            application.warn(f"flow run {one.run.id}: {one.error.message}")
            application.note(one.error.hint)
    accepted = [one.run.id for one in planned if one.outcome == "accepted"]
    if accepted:
        application.note(f"accepted; next: spanctl runs wait {' '.join(accepted)}")
    if code := retrying.code_of(planned):
        raise typer.Exit(code)


def recover(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Flow runs, by their ids or names."),
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Recover all that died.")] = False,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run them again also where that wasn't asked for.")
    ] = False,
    max_attempts: Annotated[
        int,
        typer.Option("--max-attempts", min=0, metavar="N", help="Run a run again N times at most."),
    ] = 3,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Run it again though DDL or partitioned DML of it may have run."
        ),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking until Ctrl-C.")] = False,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Have Prefect's workers do it: a deployment.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            parser=seconds,
            metavar="DURATION",
            help="With --schedule: how often; 60s when left out.",
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="End the schedule.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """End flow runs whose process died, and run those again that ask for it.

    What a dead run has left open is made final first, and it ends as Crashed. It is run again where
    it has the tag spanctl.recover, from its deployment or by run --recover, or with --rerun: the
    same flow run, which does nothing twice that it has committed. One of a file goes on in a
    process of its own, on the machine where it was typed.

    Exit 9: somebody has to look before one is run again. Exit 12: one died too often.

    Examples: spanctl runs recover --all --dry-run
              spanctl runs recover bold-fox --rerun
              spanctl runs recover --schedule --every 60s
    """
    from spanctl_cli.runs import recovering

    application = AppContext.of(ctx)
    chosen = recovering.Chosen(
        runs=run or (), rerun=rerun, attempts=max_attempts, force=force, watch=watch
    )
    if schedule or remove:
        _refuse_beside_schedule(chosen, everything=everything, dry_run=dry_run)
        if remove:
            recovering.remove(application)
        else:
            emit(
                recovering.deploy(application.settings(), every, max_attempts),
                output,
                fields=fields,
            )
        return
    if everything == bool(run) and not watch:
        msg = "name flow runs, or pass --all"
        raise UsageError(msg, hint="see what died: spanctl runs recover --all --dry-run")
    if every is not None:
        msg = "--every is about the schedule"
        raise UsageError(msg, hint="pass --schedule as well, or leave --every out")
    if dry_run:
        emit(recovering.listing(recovering.plan(application, chosen)), output, fields=fields)
        return
    done = []
    for one in recovering.recover(application, chosen):
        done.append(one)
        if watch or one.action.is_alarm:
            label = application.warn if one.action.is_alarm else application.note
            label(f"flow run {one.run.id} ({one.run.name}): {one.action}: {one.note}")
            if one.hint:
                application.note(f"next: {one.hint}")
    emit(recovering.listing(done), output, fields=fields)
    if code := recovering.code_of({one.action for one in done}):
        raise typer.Exit(code)


def _refuse_beside_schedule(
    chosen: "recovering.Chosen", *, everything: bool, dry_run: bool
) -> None:
    given = {
        "a flow run": chosen.runs,
        "--all": everything,
        "--rerun": chosen.rerun,
        "--force": chosen.force,
        "--watch": chosen.watch,
        "--dry-run": dry_run,
    }
    for option, is_given in given.items():
        if is_given:
            msg = f"a schedule recovers all that asks for it: {option} has no place there"
            raise UsageError(msg, hint="leave it out, or leave --schedule out")
