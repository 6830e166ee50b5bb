"""``spanctl creds``: short-lived credentials, looked at, tried and rotated, never shown."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanctl.errors import NotPermittedError, UsageError
from spanctl_cli.context import AppContext
from spanctl_cli.creds import executing, trying
from spanctl_cli.creds.access import DEFAULT, access
from spanctl_cli.creds.access import names as named
from spanctl_cli.options import (
    DryRunOption,
    FieldsOption,
    LimitOption,
    OutputOption,
    TimeoutOption,
    YesOption,
    seconds,
)
from spanctl_cli.output import Listing, Record, emit
from spanctl_cli.prompts import confirm

if TYPE_CHECKING:
    from spanctl.credentials.rotation.driver import RotationResult

app = typer.Typer(help="Look at the credentials of flows, try them, and rotate them.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The secret's id, or projects/P/secrets/S.")
]
OptionalNameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="The secret's id, or projects/P/secrets/S; the only one when left out.",
    ),
]
ReferenceArgument = Annotated[
    str,
    typer.Argument(
        metavar="[NAME|REFERENCE]",
        help="A secret's id, adc, secret:..., impersonate:EMAIL or chain:...",
    ),
]


@app.command("list")
def list_(ctx: typer.Context, output: OutputOption = None, fields: FieldsOption = None) -> None:
    """List the credentials of the context's project: whose they are, and their time left.

    Example: spanctl creds list -o json --fields name,seconds_left
    """
    from spanctl_cli.creds import facts

    app_context = AppContext.of(ctx)
    with access(app_context) as reached:
        from spanctl.credentials.rotation.status import read_status

        names = reached.inventory.names(reached.project)
        found = [read_status(reached.store, name) for name in names]
        rows = [facts.row(one) for one in found]
    for warning in filter(None, map(facts.hint, found)):
        app_context.warn(warning)
    empty = "no credentials; make one: spanctl creds create NAME --impersonate EMAIL"
    emit(Listing("creds.list", facts.FIELDS, rows, empty=empty), output, fields=fields)


@app.command()
def show(
    ctx: typer.Context,
    name: OptionalNameArgument = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Show a credential, its versions and what happens to them next; never the material.

    Example: spanctl creds show spanner-runner
    """
    from spanctl_cli.creds import facts

    app_context = AppContext.of(ctx)
    with access(app_context) as reached:
        from spanctl.credentials.rotation.status import read_status

        found = read_status(reached.store, reached.name_or_only(name))
        shown = facts.record(found)
    if found.is_key:
        app_context.warn(facts.hint(found))
    if found.problem:
        app_context.warn(f"{found.name.secret} can't be used: {found.problem}")
    emit(shown, output, fields=fields)


@app.command()
def history(
    ctx: typer.Context,
    name: OptionalNameArgument = None,
    limit: LimitOption = 10,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """List the last rotations of a credential that are over, newest first; 10 are kept.

    Example: spanctl creds history spanner-runner --limit 3
    """
    from spanctl_cli.creds import facts

    with access(AppContext.of(ctx)) as reached:
        from spanctl.credentials.rotation.status import read_status

        found = read_status(reached.store, reached.name_or_only(name))
    emit(facts.history(found, limit), output, fields=fields)


@app.command()
def whoami(
    ctx: typer.Context,
    reference: ReferenceArgument = DEFAULT,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Say who acts: proven by the issuer of the token, or only claimed.

    Example: spanctl creds whoami spanner-runner
    """
    with access(AppContext.of(ctx)) as reached:
        _, who = trying.identified(reached, reference)
        values = trying.told(reached, reference, who)
    emit(Record("creds.whoami", trying.WHO, values), output, fields=fields)


@app.command()
def check(
    ctx: typer.Context,
    reference: ReferenceArgument = DEFAULT,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Try a credential on the context's database: is it let in, and what may it do there?

    Exits 4 when it is not let in or may not read.

    Example: spanctl creds check spanner-runner
    """
    app_context = AppContext.of(ctx)
    with access(app_context) as reached:
        door = reached.door
        live, who = trying.identified(reached, reference)
        with app_context.status(f"asking {door.endpoint}"):
            admission = door.enter(live)
        values = trying.told(reached, reference, who)
        warning = trying.key_warning(reached, reference)
    if not admission.reads:
        msg = f"{who.name} is let in to {door.database}, but may not read all that a flow does"
        raise NotPermittedError(msg, hint="grant roles/spanner.databaseReader at least")
    for permission in admission.excess:
        app_context.warn(f"{who.name} has {permission}, which no flow needs")
    if warning:
        app_context.warn(warning)
    values |= {
        "database": str(door.database),
        "reads": admission.reads,
        "writes": admission.writes,
        "enough": admission.enough,
        "excess": list(admission.excess),
    }
    emit(Record("creds.check", trying.CHECK, values), output, fields=fields)


@app.command("exec", cls=executing.Trailing)
def exec_(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A secret's id, or projects/P/secrets/S.")
    ] = None,
    *,
    credentials: Annotated[
        str | None,
        typer.Option(
            "--credentials",
            metavar="REFERENCE",
            help="adc, secret:..., impersonate:EMAIL or chain:...; the context's when left out.",
        ),
    ] = None,
    lifetime: Annotated[
        float | None,
        typer.Option(
            "--lifetime",
            parser=seconds,
            metavar="DURATION",
            help="Of each token that is minted by impersonation; an hour when left out.",
        ),
    ] = None,
) -> None:
    """Run a program with short-lived credentials: no key, nothing secret in its command line.

    Client libraries find them by GOOGLE_APPLICATION_CREDENTIALS, gcloud by an access token in a
    file; both are renewed while the program runs, and gone when it has ended. Exits as the program
    does: 128 and the number for a signal, 127 when there is no such program, 126 when it can't be
    executed.

    Example: spanctl creds exec spanner-runner -- python job.py
    """
    words = executing.command(ctx)
    if name is not None and credentials is not None:
        msg = "NAME and --credentials exclude each other"
        raise UsageError(msg, hint="give one of them")
    app_context = AppContext.of(ctx)
    with executing.forwarding() as child:
        reached = named(app_context)
        from spanctl.credentials import lending, lent

        live = reached.lendable(name or credentials, lifetime)
        with lending.lend(live, report=app_context.warn) as folder:
            code = child.run(words, lent.environment(os.environ, folder, reached.settings))
    raise typer.Exit(code)


@app.command()
def create(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    name: NameArgument,
    *,
    impersonate: Annotated[
        str, typer.Option("--impersonate", metavar="EMAIL", help="Whose tokens it will hold.")
    ],
    via: Annotated[
        list[str] | None,
        typer.Option("--via", metavar="EMAIL", help="Delegate, nearest to you first. Repeatable."),
    ] = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Make a secret that holds a short-lived token of a service account, tried on Spanner.

    Example: spanctl creds create spanner-runner --impersonate runner@p.iam.gserviceaccount.com
    """
    from spanctl_cli.creds import rotating

    app_context = AppContext.of(ctx)
    with access(app_context) as reached:
        from spanctl.credentials.inventory import MINTS
        from spanctl.credentials.resolve import resolve
        from spanctl.credentials.rotation.status import read_status

        secret = reached.name(name)
        wanted = rotating.impersonation(impersonate, via or [])
        _ = reached.door  # says what to do where there is none
        resolve(wanted, reached.endpoints).ensure()  # before a secret is made for nothing
        reached.inventory.create(secret, {MINTS: str(wanted)})
        app_context.note(f"created {secret}")
        found = read_status(reached.store, secret)
        result = _resumable(
            app_context, secret.secret, rotating.rotator(app_context, reached, found).rotate
        )
    emit(rotating.ended(found, result, waited=False), output, fields=fields)


@app.command()
def rotate(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Secrets' ids, or projects/P/secrets/S; the only one when left out.",
        ),
    ] = None,
    *,
    due: Annotated[
        bool,
        typer.Option("--due", help="Only what expires soon, is old, broken or was left behind."),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Every credential of the project.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="End what a killed rotation left, and tidy up.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Take a rotation back, until the old one is disabled.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until old versions are destroyed, or --timeout.")
    ] = False,
    timeout: TimeoutOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Put a new credential, tried on Spanner, in the place of the current one.

    Safe to kill at any moment: --resume goes on where it ended. The old credential keeps working
    until its drain is over. Exits 6 when somebody else is rotating, and names them; 7 when the new
    credential did not work and was taken back; 8 when --wait ran into --timeout. Of several, each
    is told apart, and the worst code counts.

    Due is what expires within 15 minutes, a key of 90 days, what can't be used, a rotation that
    was left behind, and old versions whose time has come. The secret's annotations
    spanctl-rotate-before (10m) and spanctl-rotate-every (30d) say otherwise.

    Example: spanctl creds rotate spanner-runner
    """
    from spanctl_cli.creds import rotating

    chosen = rotating.Chosen(resume=resume, abort=abort, wait=wait, dry_run=dry_run, due=due)
    chosen.check(names or [], every=every, timeout=timeout)
    app_context = AppContext.of(ctx)
    with access(app_context) as reached:
        if every or due or len(names or []) > 1:
            code = rotating.several(app_context, reached, names or [], chosen, yes, output, fields)
            if code:
                raise typer.Exit(code)
            return
        from spanctl.credentials.rotation.status import read_status

        secret = reached.name_or_only(names[0] if names else None)
        found = read_status(reached.store, secret)
        if dry_run:
            emit(rotating.plan(reached, found), output, fields=fields)
            return
        rotator = rotating.rotator(app_context, reached, found)
        if abort:
            question = f"Take the last rotation of {secret} back?"
            confirm(app_context, question, yes=yes)
        act = rotator.abort if abort else rotator.resume if resume else rotator.rotate
        until = rotating.patience(wait, timeout)
        result = _resumable(app_context, secret.secret, act, wait_until=until)
    emit(rotating.ended(found, result, waited=wait), output, fields=fields)


@app.command()
def schedule(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Only these; all of the project when left out."),
    ] = None,
    *,
    every: Annotated[
        float | None,
        typer.Option(
            "--every", parser=seconds, metavar="DURATION", help="How often; 5m when left out."
        ),
    ] = None,
    cron: Annotated[
        str | None, typer.Option("--cron", metavar="EXPRESSION", help="When, instead of --every.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="End the schedule.")] = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Have what is due rotated by Prefect's workers: a deployment, made anew or replaced.

    Each run does what creds rotate --due does, as the worker's application default credentials.
    Typing it again changes the schedule.

    Example: spanctl creds schedule --every 5m
    """
    from spanctl_cli.creds import scheduling

    if remove and (names or every or cron):
        msg = "--remove takes nothing else"
        raise UsageError(msg, hint="run: spanctl creds schedule --remove")
    if every and cron:
        msg = "--every and --cron exclude each other"
        raise UsageError(msg, hint="give one of them")
    app_context = AppContext.of(ctx)
    if remove:
        scheduling.remove(app_context)
        return
    emit(scheduling.deploy(app_context, names or [], every, cron), output, fields=fields)


def _resumable(app_context: AppContext, name: str, act: Any, **how: Any) -> "RotationResult":  # noqa: ANN401 - a method of Rotator
    """Rotate; who interrupts is told how to go on."""
    try:
        result: RotationResult = act(**how)
    except KeyboardInterrupt:
        app_context.note(f"to go on: spanctl creds rotate {name} --resume")
        raise
    return result
