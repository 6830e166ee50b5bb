"""The console entry: global options, and the commands put together."""

import os
import sys
from importlib import import_module
from typing import Annotated, Final

import typer
from typer.core import TyperCommand

from spanctl.proxies import spare_loopback
from spanctl_cli import boundary, startup, talk
from spanctl_cli.context import AppContext
from spanctl_cli.help import Command, Group
from spanctl_cli.options import Panel
from spanctl_cli.output import stdout
from spanctl_cli.shaping import shapeable

COMMANDS: Final[dict[str, Panel]] = {
    "run": Panel.RUN,
    "runs": Panel.RUN,
    "deployments": Panel.RUN,
    "audit": Panel.LOOK,
    "txn": Panel.LOOK,
    "creds": Panel.SET_UP,
    "init": Panel.SET_UP,
    "context": Panel.SET_UP,
    "local": Panel.SET_UP,
    "doctor": Panel.SET_UP,
    "help": Panel.HELP,
}
"""The modules of ``spanctl_cli.commands``, in the order of the help page."""

_PRIVATE: Final = {
    "SPANNER_DISABLE_BUILTIN_METRICS": "true",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Set before any SDK is imported: otherwise they send data, and a bearer token, to their makers."""


def _version(value: bool) -> None:
    if value:
        from spanctl import __version__

        stdout.write(f"spanctl {__version__}\n")
        raise typer.Exit


def _globals(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    context: Annotated[
        str | None,
        typer.Option("--context", "-c", metavar="NAME", help="Use this context, this time."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show each request to a server, and how it ended.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show more of it, and where errors come from.")
    ] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask anything.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Run Prefect flows on Google Cloud Spanner and never wonder what happened."""
    spare_loopback()
    if verbose or debug:
        from spanctl_cli import tracing

        ctx.call_on_close(tracing.show(debug=debug))
    ctx.obj = AppContext.build(
        context=context,
        quiet=quiet,
        verbose=verbose or debug,
        no_input=no_input,
        as_json=boundary.wants_json(ctx.meta["spanctl.args"]),
    )


def build() -> typer.Typer:
    """Put the command line together."""
    app = typer.Typer(
        name="spanctl",
        cls=boundary.Root,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )
    app.callback()(_globals)
    for name, panel in COMMANDS.items():
        module = import_module(f"spanctl_cli.commands.{name}")
        if hasattr(module, "register"):
            module.register(app)
        else:
            app.add_typer(module.app, name=name, cls=Group, rich_help_panel=panel)
    _dress(app)
    return app


def _dress(app: typer.Typer) -> None:
    """Give every command its help page, and those that print data the options that shape it."""
    for command in app.registered_commands:
        if command.cls in {None, TyperCommand}:
            command.cls = Command
        if command.callback is not None:
            command.callback = shapeable(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            _dress(group.typer_instance)


app = build()


def main() -> None:
    """Run spanctl with the arguments of the process, and exit."""
    os.environ.update(_PRIVATE)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr as it ends
    stdout.replace_closed()
    talk.replace_closed()
    startup.arm()
    if "_SPANCTL_COMPLETE" in os.environ:
        from spanctl_cli.completing.answer import main as complete

        complete()
        return
    try:
        app(prog_name="spanctl")
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            stdout.abandon()


if __name__ == "__main__":
    main()
