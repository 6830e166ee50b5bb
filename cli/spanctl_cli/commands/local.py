"""``spanctl local``: emulator, identity, a Prefect server and a worker on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from spanctl.errors import SpanctlError, UnreachableError, UsageError
from spanctl.printable import printable
from spanctl.settings import Contexts
from spanctl.variables import LOCAL
from spanctl_cli.commands import context_prefect
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.options import FieldsOption, OutputOption, YesOption
from spanctl_cli.output import Column, Format, Kind, Listing, emit, emit_event, reader_gone, stdout
from spanctl_cli.progress import Steps
from spanctl_cli.prompts import confirm

if TYPE_CHECKING:
    from spanctl.local.parts import Endpoints
    from spanctl.local.results import DownResult, PartEvent, StackStatus
    from spanctl.local.stack import Stack

app = typer.Typer(help="Run everything on this machine: emulator, identity, server, worker.")

_COLUMNS = (
    Column("part", kind=Kind.ID),
    Column("state", kind=Kind.STATE),
    Column("pid"),
    Column("endpoint"),
    Column("since", kind=Kind.TIME),
    Column("log", extra=True),  # its path is wide: a table would turn into blocks
)
_LOG = (Column("part", kind=Kind.ID), Column("line"))
_EMULATOR = "emulator"
_PARTS = (_EMULATOR, "identity", "server", "worker")

PartArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PART",
        help=f"One of {', '.join(_PARTS)}; all when left out.",
        autocompletion=lambda: list(_PARTS),
    ),
]


def _stack() -> "Stack":
    from spanctl.local.stack import Stack

    return Stack()


@app.command()
def up(
    ctx: typer.Context,
    spanner_port: Annotated[
        int | None, typer.Option("--spanner-port", help="Port of the emulator.")
    ] = None,
    prefect_port: Annotated[
        int | None, typer.Option("--prefect-port", help="Port of the Prefect server.")
    ] = None,
) -> None:
    """Start what doesn't run, make the database and the context "local".

    Run it again at any time: what is well stays as it is, what died is started again. A Spanner
    emulator named by SPANNER_EMULATOR_HOST and a Prefect server named by PREFECT_API_URL are used,
    not started. Exits 0 when everything is up, 3 when a part is not.

    Example: spanctl local up
    """
    app_context = AppContext.of(ctx)
    stack = _stack()
    try:
        with Steps(app_context) as steps:
            tell = _Tell(steps)
            status = stack.up(tell, spanner_port=spanner_port, prefect_port=prefect_port)
    except KeyboardInterrupt:
        _tell_running(app_context, stack)
        raise
    for note in status.notes:
        app_context.warn(note)
    if not status.is_up:
        raise _not_up(app_context, status)
    _schedule_recovery(app_context, status)
    in_use = Contexts.load().current
    if status.endpoints:
        is_used = in_use in {None, LOCAL}
        _tell_doors(app_context, status.endpoints, tell.started, is_used=is_used)
    if in_use not in {None, LOCAL}:
        app_context.note(f"the context in use is {in_use}; run: spanctl context use {LOCAL}")


def _tell_doors(
    app_context: AppContext, endpoints: "Endpoints", started: set[str], *, is_used: bool
) -> None:
    """Say what one needs besides spanctl, and what is open to others."""
    from spanctl.settings import resolve

    pages = endpoints.prefect_api_url.removesuffix("/api")
    app_context.note(f"Prefect's pages: {pages}; open them by: spanctl runs open")
    flags = {"prefect_api_url": endpoints.prefect_api_url}
    settings = resolve(context=LOCAL, flags=flags)
    context_prefect.tell(app_context, settings, named=not is_used)
    if (named := resolve(context=LOCAL).get("prefect_api_url")) != endpoints.prefect_api_url:
        app_context.warn(f"PREFECT_API_URL names another API, {named}; run: unset PREFECT_API_URL")
    if _EMULATOR in started:
        app_context.note(
            f"all users of this machine reach the emulator's own port, {endpoints.spanner}"
        )


def _schedule_recovery(app_context: AppContext, status: "StackStatus") -> None:
    """Have the worker recover flow runs that died, unless the context says not to.

    Asked is the stack's API, whatever the environment names.
    """
    from spanctl.clock import parse_interval
    from spanctl.settings import resolve
    from spanctl_cli.runs import recovering

    url = status.endpoints.prefect_api_url if status.endpoints else None
    settings = resolve(context=LOCAL, flags={"prefect_api_url": url})
    every = parse_interval(settings.require("recover_every"))
    try:
        if every:
            recovering.deploy(settings, every)
    except SpanctlError as error:
        app_context.warn(f"runs that die are not recovered: {error.message}")


def _tell_running(app_context: AppContext, stack: "Stack") -> None:
    """Say what goes on running in the background although ``up`` was interrupted."""
    running = [part.name for part in stack.status().parts if part.pid is not None]
    if running:
        app_context.note(f"these go on running: {', '.join(running)}")
        app_context.note("to end them run: spanctl local down; to go on: spanctl local up")


def _not_up(app_context: AppContext, status: "StackStatus") -> SpanctlError:
    for failure in status.failures:
        if failure.log:
            app_context.warn(f"the last lines of the {failure.part}'s log:")
            for line in failure.log:
                app_context.note(f"  {line}")
    down = [failure.part for failure in status.failures]
    down += [part.name for part in status.parts if not part.state.is_up and part.name not in down]
    reasons = "; ".join(f"{failure.part}: {failure.reason}" for failure in status.failures)
    hints = [failure.hint for failure in status.failures if failure.hint]
    return UnreachableError(
        f"not up: {reasons or ', '.join(down)}",
        hint=hints[0] if hints else "look at: spanctl local logs; then run: spanctl local up",
        parts=down,
    )


@app.command()
def down(ctx: typer.Context) -> None:
    """End every process of the stack; harmless when nothing runs.

    The emulator keeps its data in memory: it is gone then. Prefect's runs and secrets are kept.

    Example: spanctl local down
    """
    app_context = AppContext.of(ctx)
    with app_context.status("stopping the local stack"):
        result = _stack().down(lambda event: app_context.note(event.text))
    _tell_down(app_context, result)


def _tell_down(app_context: AppContext, result: "DownResult") -> None:
    if not result.stopped and not result.strays:
        app_context.note("nothing was running")
        return
    if result.stopped:
        app_context.note(f"stopped: {', '.join(result.stopped)}")
    if result.strays:
        app_context.note(f"stopped: {result.strays} processes that other parts had left behind")
    if result.data_gone:
        app_context.note("the emulator's data is gone with it")


@app.command()
def status(ctx: typer.Context, output: OutputOption = None, fields: FieldsOption = None) -> None:
    """Show how each part is; exits 0 when everything is up, 3 when a part is not.

    Example: spanctl local status -o json
    """
    found = _stack().status()
    rows = [
        {
            "part": part.name,
            "state": part.state,
            "pid": part.pid,
            "endpoint": part.endpoint,
            "since": part.since,
            "log": part.log,
        }
        for part in found.parts
    ]
    facts = {"up": found.is_up, "gateway": found.gateway, "credentials": found.credentials}
    emit(Listing("local.status", _COLUMNS, rows, facts=facts), output, fields=fields)
    talks = output is None or output.is_table
    if talks and found.is_up and found.gateway:
        told = f"the database is reached at {found.gateway}, with {found.credentials}"
        AppContext.of(ctx).note(told)
    if not found.is_up:
        if talks:
            AppContext.of(ctx).note("not everything is up; run: spanctl local up")
        raise typer.Exit(ExitCode.UNREACHABLE)


@app.command()
def logs(
    *,
    part: PartArgument = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Begin with this many lines of each.")
    ] = 50,
    output: OutputOption = None,
) -> None:
    """Show what the parts have written.

    With --follow lines leave as they come: as text, or as one object a line under -o jsonl.

    Example: spanctl local logs worker --follow
    """
    stack = _stack()
    if not follow and output is not None and not output.is_table:
        rows = ({"part": line.part, "line": line.text} for line in stack.logs(part, lines))
        emit(Listing("local.log", _LOG, rows), output)
        return
    if output is not None and not output.is_table and output is not Format.JSONL:
        msg = f"--follow has no end, and -o {output.value} would wait for it"
        raise UsageError(msg, hint="write: spanctl local logs --follow -o jsonl")
    for line in stack.follow(part, lines) if follow else stack.logs(part, lines):
        if line is not None and output is Format.JSONL:
            emit_event("local.log", {"part": line.part, "line": line.text}, output)
        elif line is not None:
            text = printable(line.text)
            stdout.write(f"{text}\n" if part else f"{line.part:<8}  {text}\n")
        if reader_gone() or (line is None and stdout.pipe_is_broken()):
            return


@app.command()
def reset(ctx: typer.Context, yes: YesOption = False) -> None:
    """End the stack and forget all it kept: runs, secrets, logs, ports, the context "local".

    Example: spanctl local reset --yes
    """
    app_context = AppContext.of(ctx)
    confirm(app_context, "Remove the local stack with its runs, secrets, logs and data?", yes=yes)
    with app_context.status("removing the local stack"):
        result = _stack().reset(lambda event: app_context.note(event.text))
    _tell_down(app_context, result)
    app_context.note("removed; run: spanctl local up")


class _Tell:
    """Puts the events of ``up`` into words."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.started: set[str] = set()

    def __call__(self, event: "PartEvent") -> None:
        from spanctl.local.results import Phase

        match event.phase:
            case Phase.WAITING:
                self._steps.say(event.text)
            case Phase.STARTING:
                self.started.add(event.part)
                self._steps.begin(event.part, "starting")
            case Phase.READY:
                self._steps.end(event.part, f"ready in {event.seconds:.1f} s")
            case Phase.KEPT:
                self._steps.end(event.part, "runs already")
            case Phase.EXTERNAL:
                self._steps.end(event.part, f"external, at {event.text}")
            case Phase.FAILED:
                self._steps.end(event.part, f"failed: {event.text}", failed=True)
