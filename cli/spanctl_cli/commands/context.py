"""``spanctl context``: named places to work on, kept in one TOML file."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from spanctl.errors import ConfigurationError, ConflictError, NotFoundError, UsageError
from spanctl.resources import check_part
from spanctl.settings import Contexts, Source, chosen
from spanctl.variables import VARIABLES
from spanctl_cli.commands import context_prefect
from spanctl_cli.context import AppContext
from spanctl_cli.options import FieldsOption, OutputOption, YesOption
from spanctl_cli.output import Column, Kind, Listing, Record, Section, emit
from spanctl_cli.prompts import confirm

app = typer.Typer(help="Name the databases you work on, and choose one.")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LISTING = (
    Column("name", kind=Kind.ID),
    Column("in_use", kind=Kind.FLAG),
    Column("database"),
    Column("spanner_endpoint", title="endpoint"),
    Column("emulator_host", title="emulator"),
    Column("prefect_api_url", title="prefect"),
)
_SETTINGS = (
    Column("name", title="setting"),
    Column("value"),
    Column("source"),
    Column("origin", title="from"),
)


NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A context's name.")]
AssignmentArgument = Annotated[
    list[str], typer.Argument(metavar="SETTING=VALUE", help="Settings; an empty value unsets.")
]


@app.command("list")
def list_(ctx: typer.Context, output: OutputOption = None, fields: FieldsOption = None) -> None:
    """List the contexts, and which of them is in use.

    Example: spanctl context list -o name
    """
    contexts = Contexts.load()
    in_use = _in_use(AppContext.of(ctx), contexts)
    rows = [
        {
            "name": name,
            "in_use": name == in_use,
            "database": _path(values),
            "spanner_endpoint": values.get("spanner_endpoint"),
            "emulator_host": values.get("emulator_host"),
            "prefect_api_url": values.get("prefect_api_url"),
        }
        for name, values in sorted(contexts.contexts.items())
    ]
    empty = "no contexts yet; run: spanctl local up, or: spanctl context create NAME"
    emit(Listing("contexts", _LISTING, rows, empty=empty), output, fields=fields)


@app.command()
def use(ctx: typer.Context, name: NameArgument) -> None:
    """Choose the context that commands use from now on.

    Example: spanctl context use prod
    """
    contexts = Contexts.load()
    contexts.using(name).save()
    AppContext.of(ctx).note(f"in use: {name}")


@app.command()
def show(
    ctx: typer.Context,
    *,
    export: Annotated[
        bool,
        typer.Option("--export", help="The shell's line that Prefect's own commands need instead."),
    ] = False,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Show every setting in effect, and where its value came from.

    What Prefect's own commands need: eval "$(spanctl context show --export)"

    Example: spanctl -c prod context show
    """
    app_context = AppContext.of(ctx)
    settings = app_context.settings()
    if export:
        context_prefect.export(settings, output or fields)
        return
    rows = [
        {
            "name": setting.name,
            "value": setting.value,
            "source": "unset" if setting.value is None else setting.source,
            "origin": None if setting.source is Source.DEFAULT else setting.origin,
        }
        for setting in settings.values.values()
    ]
    record = Record(
        "context",
        (Column("context", kind=Kind.ID), Column("chosen_by", title="chosen by")),
        {"context": settings.context, "chosen_by": settings.context_source},
        (Section("settings", "Settings", Listing("settings", _SETTINGS, rows)),),
    )
    emit(record, output, fields=fields)
    if output is None or output.is_table:
        context_prefect.tell(app_context, settings, named=app_context.context_name is not None)


@app.command("set")
def set_(ctx: typer.Context, assignments: AssignmentArgument) -> None:
    """Change settings of the context in use (or of --context).

    Example: spanctl context set credentials=impersonate:runner@p.iam.gserviceaccount.com
    """
    app_context = AppContext.of(ctx)
    contexts = Contexts.load()
    name = app_context.context_name or _in_use(app_context, contexts)
    stored = contexts.contexts.get(name, {}) if name else {}
    gone = {f"{key}=": key for key in Contexts.unknown_in(stored)}
    changes = _parsed([one for one in assignments if one not in gone])
    if name is None:
        msg = "no context is in use"
        raise UsageError(msg, hint="run: spanctl context create NAME SETTING=VALUE...")
    merged = {**contexts.get(name), **changes}
    for one in gone.keys() & set(assignments):
        del merged[gone[one]]
    unset = {key for key, value in changes.items() if not value}
    contexts.with_context(name, {k: v for k, v in merged.items() if k not in unset}).save()
    app_context.note(f"changed: {name}")


@app.command("import-prefect")
def import_prefect(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .env, prefect.toml or pyproject.toml.")
    ],
    yes: YesOption = False,
) -> None:
    """Take the Prefect API over from a file that Prefect itself would read in this folder.

    Its address, what opens it and further headers go into the context in use (or --context), after
    they were shown; the secret ones into files of yours alone. Nothing else is taken.

    Example: spanctl context import-prefect prefect.toml
    """
    app_context = AppContext.of(ctx)
    contexts = Contexts.load()
    name = app_context.context_name or _in_use(app_context, contexts)
    context_prefect.take_over(app_context, contexts, name, file, yes=yes)


@app.command()
def create(
    ctx: typer.Context,
    name: NameArgument,
    assignments: Annotated[
        list[str] | None, typer.Argument(metavar="SETTING=VALUE", help="Settings.")
    ] = None,
) -> None:
    """Create a context; the first one is used from then on.

    Example: spanctl context create prod project=my-project instance=main database=orders
    """
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name for a context"
        raise UsageError(msg, hint="use letters, digits, dots, dashes and underscores")
    contexts = Contexts.load()
    if name in contexts.contexts:
        msg = f"there is a context {name!r} already"
        raise ConflictError(msg, hint=f"run: spanctl --context {name} context set SETTING=VALUE")
    values = {key: value for key, value in _parsed(assignments or []).items() if value}
    created = contexts.with_context(name, values)
    if not contexts.contexts:
        created = created.using(name)
    created.save()
    AppContext.of(ctx).note(f"created: {name}")


@app.command()
def delete(ctx: typer.Context, name: NameArgument, yes: YesOption = False) -> None:
    """Forget a context; the database that it names is not touched.

    Example: spanctl context delete prod --yes
    """
    app_context = AppContext.of(ctx)
    Contexts.load().get(name)
    confirm(app_context, f"Forget the context {name}?", yes=yes)
    contexts = Contexts.load()  # others may have changed it while this one asked
    contexts.without_context(name).save()
    context_prefect.forget(contexts, name, but=())
    app_context.note(f"deleted: {name}")


def _parsed(assignments: list[str]) -> dict[str, str]:
    known = {variable.name: variable for variable in VARIABLES}
    values: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            msg = f"{assignment!r} is not SETTING=VALUE"
            raise UsageError(msg, hint=f"settings are: {', '.join(known)}")
        if name not in known:
            close = get_close_matches(name, known, n=1)
            guess = f"; did you mean {close[0]}?" if close else ""
            msg = f"there is no setting {name!r}{guess}"
            raise UsageError(msg, hint=f"settings are: {', '.join(known)}")
        stripped = value.strip()
        if stripped:
            check_part(name, stripped)
        values[name] = known[name].checked(stripped, "as given") if stripped else ""
    return values


def _in_use(app_context: AppContext, contexts: Contexts) -> str | None:
    """Return the context in use; none when the chosen one doesn't exist (any more)."""
    try:
        return app_context.settings().context
    except NotFoundError:
        return contexts.current if contexts.current in contexts.contexts else None
    except ConfigurationError:  # what is no reference has to be mended by somebody
        return chosen(contexts, app_context.context_name)


def _path(values: Mapping[str, str]) -> str | None:
    parts = (values.get("project"), values.get("instance"), values.get("database"))
    return "projects/{}/instances/{}/databases/{}".format(*parts) if all(parts) else None
