"""``spanctl run``: flows in a file or a module, deployments, and the runbooks."""

from typing import Annotated, ClassVar

import typer

from spanctl_cli import runs
from spanctl_cli.context import AppContext
from spanctl_cli.default_command import DefaultGroup
from spanctl_cli.options import (
    DryRunOption,
    IdempotencyKeyOption,
    OutputOption,
    Panel,
    ReasonOption,
    TimeoutOption,
)


class RunGroup(DefaultGroup):
    """``run TARGET`` beside the runbooks."""

    default: ClassVar[str] = "target"


app = typer.Typer(
    help="Run a flow (TARGET), a deployment, or a runbook, and watch its transactions commit.",
    cls=RunGroup,
    subcommand_metavar="TARGET | sql | import ...",
    no_args_is_help=True,
)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="run", cls=RunGroup, rich_help_panel=Panel.RUN)


ParameterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param", "-p", metavar="NAME=VALUE", help="A parameter; JSON, or else text. Repeatable."
    ),
]
WatchOption = Annotated[
    bool, typer.Option("--watch/--detach", help="Wait for the end, or only have it accepted.")
]


@app.command(hidden=True)
def target(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="path.py:flow, module:flow or flow/deployment.")
    ],
    param: ParameterOption = None,
    reason: ReasonOption = None,
    idempotency_key: IdempotencyKeyOption = None,
    watch: WatchOption = True,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels a deployment's run.")
    ] = False,
    timeout: TimeoutOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Run a flow from a file or a module in this process, or a deployment on its workers.

    Examples: spanctl run flows.py:transfer -p amount=100 --reason "ticket 4711"
              spanctl run transfer/nightly --detach
    """
    asked = runs.Asked(
        target=target,
        parameters=runs.parameters(param or ()),
        reason=reason,
        idempotency_key=idempotency_key,
        watch=watch,
        cancel_on_interrupt=cancel_on_interrupt,
        timeout=timeout,
        dry_run=dry_run,
        output=output,
    )
    application = AppContext.of(ctx)
    if asked.is_deployment:
        from spanctl_cli.runs import deployments

        deployments.run(application, asked)
    else:
        from spanctl_cli.runs import in_process

        in_process.run(application, asked)
