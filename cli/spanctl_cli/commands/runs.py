"""``spanctl runs``: flow runs, looked at, waited for, cancelled and run again."""

import logging
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from spanctl.errors import PendingError, UsageError
from spanctl_cli import exit_codes, runs
from spanctl_cli.commands import runs_again
from spanctl_cli.commands.run_options import (
    DeploymentOption,
    FlowOption,
    RunArgument,
    RunsArgument,
    StateOption,
    TagOption,
    WhyOption,
    run_filter,
    states,
)
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.options import (
    FieldsOption,
    LimitOption,
    OutputOption,
    SinceOption,
    TimeoutOption,
)
from spanctl_cli.output import Column, Format, Kind, Record, emit, stdout_is_terminal, stream

if TYPE_CHECKING:
    from collections.abc import Iterable


app = typer.Typer(help="List flow runs, follow, wait for, cancel and retry them.")


class Level(StrEnum):
    """The least level of the lines that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command("list")
def list_(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    state: StateOption = None,
    flow: FlowOption = None,
    deployment: DeploymentOption = None,
    tag: TagOption = None,
    since: SinceOption = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="AGE|TIME", help="The newest of interest.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Those that you asked for, here.")] = False,
    limit: LimitOption = 50,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """List flow runs, those due last first; what is due only later with --state scheduled.

    Example: spanctl runs list --state failed --since 24h -o name
    """
    from spanctl.orchestration.browsing import list_runs
    from spanctl_cli.runs import showing
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    wanted = run_filter(state, flow, deployment, tag, since, until, mine)
    with connect(application) as api:
        found = list_runs(api, wanted, limit=limit)
    emit(showing.listing(found, empty="no flow runs like that"), output, fields=fields)
    if found.more:
        application.note(f"these are the newest {len(found.runs):,}; for more: --limit or --until")


@app.command()
def show(
    ctx: typer.Context,
    run: RunArgument,
    *,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="Show the values of the parameters, too.")
    ] = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Show a flow run: its states, task runs with their attempts, transactions and outcomes.

    Exit 3 says that the ledger could not be asked: what Prefect knows is shown nevertheless.

    Example: spanctl runs show bold-fox -o json
    """
    from spanctl_cli.runs import ledger, showing
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    with connect(application) as api:
        found = api.find_flow_run(run)
        told = ledger.told(application, api, showing.root_of(api, found))
        record = showing.record(api, found, told, parameters=parameters)
    emit(record, output, fields=fields)
    if told.trouble is not None:
        application.warn(told.note)
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command()
def logs(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: RunArgument,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    level: Annotated[
        Level, typer.Option("--level", case_sensitive=False, help="Leave out what is below.")
    ] = Level.DEBUG,
    tail: Annotated[
        int | None, typer.Option("--tail", min=0, metavar="N", help="Only the last N lines.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Show what a run logged and what it committed, on one time line.

    Lines come from Prefect, commits and fences from the ledger; of subflow runs, too, unless the
    lines are followed. Exit 3 says that the ledger could not be asked.

    Example: spanctl runs logs bold-fox --follow
    """
    from spanctl_cli.runs import lines
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    if follow and tail is not None:
        msg = "--tail is about what there is, --follow about what comes"
        raise UsageError(msg, hint="pass one of the two")
    least = getattr(logging, level.name)
    trouble = None
    with connect(application) as api:
        found = api.find_flow_run(run)
        if follow:
            rows: Iterable[lines.Row] = lines.followed(application, api, found, least)
        else:
            told, trouble = lines.all_lines(application, api, found, least)
            rows = told[len(told) - min(tail, len(told)) :] if tail is not None else told
        listing = lines.listing(rows)
        stream(listing, output, lines.draw)
    if trouble is not None:
        application.warn(f"without the ledger: {trouble.message}")
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command()
def watch(
    ctx: typer.Context,
    run: RunArgument,
    *,
    timeout: TimeoutOption = None,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels the run.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Watch a run to its end: states, log lines and transactions; exit as the run ended.

    Ctrl-C only ends the watching. With -o jsonl every piece of news is one line. Exit 9 says that
    the run's executor is dead.

    Example: spanctl runs watch bold-fox
    """
    from spanctl_cli.runs import again
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    with connect(application) as api:
        again.watch(
            application,
            api,
            api.find_flow_run(run),
            runs.Asked(
                target=run,
                timeout=timeout,
                cancel_on_interrupt=cancel_on_interrupt,
                output=output,
            ),
        )


@app.command()
def wait(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: RunsArgument,
    *,
    until: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="STATE",
            help="Wait for this state instead of the end. Repeatable.",
            autocompletion=states,
        ),
    ] = None,
    timeout: TimeoutOption = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Wait until runs have ended, and exit as they did; 8 when the time is over.

    Of several runs each is told apart, and the worst exit code counts. With --for, 0 says that the
    state was reached; a run that ended otherwise exits as it ended, or with 6. Of a run whose
    executor is dead nobody waits for the end: exit 9.

    Example: spanctl runs wait bold-fox --timeout 5m
    """
    from spanctl_cli.runs import waiting
    from spanctl_cli.runs.deployments import connect

    app = AppContext.of(ctx)
    with connect(app) as api:
        done = waiting.wait(app, api, waiting.find(api, run), until or (), timeout)
    listing, code = waiting.settle(done, "runs.wait")
    emit(listing, output, fields=fields)
    if code is not ExitCode.DONE:
        raise typer.Exit(code)


@app.command()
def cancel(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    run: RunArgument,
    *,
    reason: WhyOption = None,
    timeout: TimeoutOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Don't wait for its end.")] = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Cancel a run, wait up to 30 s for its end, and tell what became of its transactions.

    Exit 8: it goes on still. Exit 9: transactions are left in limbo, which txn resolve makes final.
    A run whose executor is dead is ended at once, with nothing of it in limbo.

    Example: spanctl runs cancel bold-fox --reason "wrong day"
    """
    from spanctl_cli.runs import stopping
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    limit = 0.0 if detach else timeout or stopping.PATIENCE
    with connect(application) as api:
        found = api.find_flow_run(run)
        stopped = stopping.cancel(application, api, found, reason, limit)
    emit(stopping.record(stopped), output, fields=fields)
    accepted = detach and isinstance(stopped.error, PendingError)
    if stopped.error is not None and not accepted:
        application.warn(stopped.error.message)
        application.note(stopped.error.hint)
        raise typer.Exit(exit_codes.of(stopped.error))


runs_again.register(app)


@app.command("open")
def open_(
    ctx: typer.Context,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="A flow run's id or name; the first page of all when left out."
        ),
    ] = None,
    *,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Open a flow run's page in the browser; its address is printed, in a pipe nothing more.

    Pages of the local stack open signed in.

    Example: spanctl runs open bold-fox
    """
    from spanctl.orchestration.pages import flow_run_page, front_page
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    with connect(application) as api:
        found = api.find_flow_run(run) if run else None
        url = flow_run_page(api.url, found.id) if found else front_page(api.url)
    columns = (Column("url", kind=Kind.ID), Column("flow_run", title="flow run", kind=Kind.ID))
    values = {"url": url, "flow_run": found.id if found else None}
    alone = output is None and fields is None and not stdout_is_terminal()
    emit(Record("runs.open", columns, values), Format.NAME if alone else output, fields=fields)
    if stdout_is_terminal() and output is None:
        _browse(application, url)


def _browse(application: AppContext, url: str) -> None:
    import webbrowser

    from spanctl.local.stack import Stack

    stack = Stack()
    signed_in = stack.sign_in(url)
    if not webbrowser.open(signed_in.as_uri() if signed_in else url):
        application.note("there is no browser here; open the address elsewhere")
    if signed_in:
        application.note(f"where the page asks for a password: cat {quote(str(stack.folder.auth))}")
