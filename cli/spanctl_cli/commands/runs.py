"""``spanctl runs``: flow runs, looked at, waited for, cancelled and run again."""

from typing import TYPE_CHECKING, Annotated

import typer

from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.options import FieldsOption, LimitOption, OutputOption, SinceOption
from spanctl_cli.output import Column, Format, Kind, Record, emit, stdout_is_terminal

if TYPE_CHECKING:
    from spanctl.orchestration.browsing import RunFilter

app = typer.Typer(help="List flow runs, follow, wait for, cancel and retry them.")

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A flow run's id, or its name if only one has it.")
]


@app.command("list")
def list_(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state", "-s", metavar="STATE", help="In this state, or active, ended. Repeatable."
        ),
    ] = None,
    flow: Annotated[
        str | None, typer.Option("--flow", metavar="NAME", help="Of this flow.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option("--deployment", "-d", metavar="NAME", help="Of this deployment.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="With this tag. Repeatable.")
    ] = None,
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
    wanted = _filter(state, flow, deployment, tag, since, until, mine)
    with connect(application) as api:
        found = list_runs(api, wanted, limit=limit)
    emit(showing.listing(found, empty="no flow runs like that"), output, fields=fields)
    if found.more:
        application.note(f"these are the newest {len(found.runs):,}; for more: --limit or --until")


def _filter(  # noqa: PLR0913, PLR0917 - the options
    state: list[str] | None,
    flow: str | None,
    deployment: str | None,
    tag: list[str] | None,
    since: str | None,
    until: str | None,
    mine: bool,
) -> "RunFilter":
    from spanctl import clock
    from spanctl.invocation import user_at_host
    from spanctl.orchestration.browsing import RunFilter

    return RunFilter(
        states=tuple(state or ()),
        flow=flow,
        deployment=deployment,
        tags=tuple(tag or ()),
        since=clock.parse_since(since) if since else None,
        until=clock.parse_since(until) if until else None,
        initiator=user_at_host() if mine else None,
    )


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


@app.command("open")
def open_(
    ctx: typer.Context,
    run: RunArgument,
    *,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Open a flow run's page in the browser; its address is printed, in a pipe nothing more.

    Example: spanctl runs open bold-fox
    """
    from spanctl.orchestration.pages import flow_run_page
    from spanctl_cli.runs.deployments import connect

    application = AppContext.of(ctx)
    with connect(application) as api:
        found = api.find_flow_run(run)
        url = flow_run_page(api.url, found.id)
    columns = (Column("url", kind=Kind.ID), Column("flow_run", title="flow run", kind=Kind.ID))
    record = Record("runs.open", columns, {"url": url, "flow_run": found.id})
    alone = output is None and fields is None and not stdout_is_terminal()
    emit(record, Format.NAME if alone else output, fields=fields)
    if stdout_is_terminal() and output is None:
        import webbrowser

        if not webbrowser.open(url):
            application.note("there is no browser here; open the address elsewhere")
