"""``spanctl run``: flows in a file or a module, deployments, and the runbooks."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from spanctl_cli import runs
from spanctl_cli.context import AppContext
from spanctl_cli.default_command import DefaultGroup
from spanctl_cli.options import (
    DryRunOption,
    FieldsOption,
    IdempotencyKeyOption,
    OutputOption,
    Panel,
    ReasonOption,
    TimeoutOption,
    YesOption,
    seconds,
)


class ImportMode(StrEnum):
    """What an import does with rows that are there already."""

    INSERT = "insert"
    INSERT_ABSENT = "insert-absent"
    UPSERT = "upsert"
    UPDATE = "update"


class FileForm(StrEnum):
    """How a file of rows is written."""

    CSV = "csv"
    JSONL = "jsonl"


class RunGroup(DefaultGroup):
    """``run TARGET`` beside the runbooks."""

    default: ClassVar[str] = "target"


app = typer.Typer(
    help=(
        "Run a flow, a deployment or a runbook, and watch its transactions commit.\n\n"
        "TARGET is path.py:flow, package.module:flow, or a deployment flow/name. For its options"
        " (-p name=value, --reason, --idempotency-key, --detach ...) see: spanctl run target --help"
    ),
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
        "--param",
        "-p",
        metavar="NAME=VALUE",
        help="A parameter, as the flow declares it: text for str, else JSON. Repeatable.",
    ),
]
RunTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        parser=seconds,
        metavar="DURATION",
        help="After 30s, 5m, 2h ... end a flow that runs here (exit 12), or stop waiting for a"
        " deployment's (exit 8).",
    ),
]
DetachOption = Annotated[
    bool,
    typer.Option("--detach", help="Refused: it runs in this process; deployments can be detached."),
]
WatchOption = Annotated[
    bool | None,
    typer.Option(
        "--watch/--detach",
        help="Wait for the end, or only have it accepted; the latter where it is due later.",
        show_default=False,
    ),
]


@app.command(hidden=True)
def target(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    target: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET...", help="path.py:flow, module:flow, or deployments flow/name."
        ),
    ] = None,
    param: ParameterOption = None,
    param_file: Annotated[
        Path | None,
        typer.Option("--param-file", metavar="FILE", help="Parameters as JSON, TOML or YAML."),
    ] = None,
    reason: ReasonOption = None,
    idempotency_key: IdempotencyKeyOption = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="A tag of a deployment's run. Repeatable.")
    ] = None,
    job_variable: Annotated[
        list[str] | None,
        typer.Option(
            "--job-variable",
            metavar="NAME=VALUE",
            help="A variable of the work pool's job, for a deployment's run. Repeatable.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Have a deployment's run start then (RFC 3339)."),
    ] = None,
    after: Annotated[
        float | None,
        typer.Option(
            "--in", parser=seconds, metavar="DURATION", help="Have it start in 30s, 5m, 2h ..."
        ),
    ] = None,
    watch: WatchOption = None,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels a deployment's run.")
    ] = False,
    timeout: RunTimeoutOption = None,
    recover: Annotated[
        bool,
        typer.Option("--recover", help="Have runs recover run it again, should its process die."),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on with a run of a file, as it was typed there."
        ),
    ] = None,
    if_crashed: Annotated[
        bool, typer.Option("--if-crashed", hidden=True, help="Resume it only while it is Crashed.")
    ] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Run a flow from a file or a module in this process, or deployments on their workers.

    A deployment's parameters are held against its schema before anything is sent. Of several
    deployments each is told apart, and the worst exit code counts. Ctrl-C leaves their runs alone.

    Examples: spanctl run flows.py:transfer -p amount=100 --reason "ticket 4711"
              spanctl run transfer/nightly --param-file tonight.toml --in 2h
    """
    from spanctl_cli.runs import asking

    asking.run(
        AppContext.of(ctx),
        target or [],
        runs.Asked(
            target="",
            parameters=asking.from_file(param_file) if param_file else {},
            typed=runs.pairs(param or ()),
            reason=reason,
            idempotency_key=idempotency_key,
            tags=tuple(tag or ()),
            job_variables=runs.parameters(job_variable or ()),
            due=asking.due(at, after),
            watch=watch if watch is not None else not (at or after),
            cancel_on_interrupt=cancel_on_interrupt,
            timeout=timeout,
            dry_run=dry_run,
            output=output,
            recover=recover,
            resume=resume,
            if_crashed=if_crashed,
        ),
    )


@app.command()
def sql(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A file of SQL statements; - or none reads stdin."),
    ] = None,
    execute: Annotated[
        list[str] | None,
        typer.Option("--execute", "-e", metavar="SQL", help="A statement. Repeatable."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", "-p", metavar="NAME:TYPE=VALUE", help="A bind parameter. Repeatable."
        ),
    ] = None,
    ddl: Annotated[bool, typer.Option("--ddl", help="Run DDL, at least once.")] = False,
    partitioned: Annotated[
        bool, typer.Option("--partitioned", help="Run UPDATE or DELETE as partitioned DML.")
    ] = False,
    assume_idempotent: Annotated[
        bool,
        typer.Option(
            "--assume-idempotent", help="With --partitioned: I know that twice does no harm."
        ),
    ] = False,
    reason: ReasonOption = None,
    idempotency_key: IdempotencyKeyOption = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN", help="Go on with a run of this that was cut off."),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Apply it although a run of this was cut off.")
    ] = False,
    detach: DetachOption = False,
    timeout: TimeoutOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Execute on the server, and roll back.")
    ] = False,
    yes: YesOption = False,
    fields: FieldsOption = None,
    output: OutputOption = None,
) -> None:
    """Run SQL: queries, or DML statements as one transaction with one receipt.

    Values go into typed parameters, and are kept nowhere. A run of the same SQL by the same person
    that was cut off is named first: then you are asked, and a script ends with exit 6. So are you
    before something is dropped, or a WHERE that is the same for every row changes all of them; a
    script then needs --yes.

    Example: spanctl run sql -e "UPDATE accounts SET balance = @b WHERE id = @id"
             -p b:INT64=120 -p id:STRING=alice --reason "ticket 4711"
    """
    from spanctl_cli.runs import sql as running

    asked = runs.Asked(
        target="sql",
        reason=reason,
        idempotency_key=idempotency_key,
        watch=not detach,
        timeout=timeout,
        dry_run=dry_run,
        output=output,
        pairs=param or (),
        fields=fields,
        resume=resume,
        new=new,
    )
    found = running.texts(file, execute or ())
    running.run(
        AppContext.of(ctx),
        asked,
        found,
        yes=yes,
        ddl=ddl,
        partitioned=partitioned,
        assume_idempotent=assume_idempotent,
    )


@app.command("import")
def import_(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .csv, .tsv or .jsonl file, or a .gz of one.")
    ],
    table: Annotated[str, typer.Option("--table", "-t", help="The table to write.")],
    mode: Annotated[
        ImportMode,
        typer.Option(
            "--mode",
            help="What happens to rows that are there already: insert refuses them (exit 6),"
            " insert-absent leaves them alone (as INSERT OR IGNORE does), upsert overwrites them,"
            " update writes no others.",
        ),
    ] = ImportMode.INSERT,
    file_format: Annotated[
        FileForm | None, typer.Option("--format", help="How the file is written.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="What separates the fields of a CSV.")
    ] = None,
    null: Annotated[
        str | None,
        typer.Option(
            "--null",
            metavar="TEXT",
            help="Text that means NULL in a CSV, instead of an empty field.",
        ),
    ] = None,
    quoted_empty: Annotated[
        bool,
        typer.Option(
            "--quoted-empty",
            help='In a CSV, "" is empty text, and NULL an empty field without quotation marks: as'
            " -o csv writes them.",
        ),
    ] = False,
    omitted_null: Annotated[
        bool,
        typer.Option(
            "--omitted-null",
            help="In JSON Lines, a key that a line leaves out is NULL, not a column left alone.",
        ),
    ] = False,
    chunk_rows: Annotated[
        int | None, typer.Option("--chunk-rows", min=1, help="Rows in one transaction.")
    ] = None,
    skip_bad: Annotated[
        int, typer.Option("--skip-bad", min=0, metavar="N", help="Leave out up to N bad rows.")
    ] = 0,
    rejects: Annotated[
        str | None, typer.Option("--rejects", metavar="PATH", help="Where bad rows are named.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Import a file once more that was imported before.")
    ] = False,
    reason: ReasonOption = None,
    idempotency_key: IdempotencyKeyOption = None,
    detach: DetachOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Import a file; after any death the same command goes on where it ended.

    The whole file is checked before the first row is written. Each chunk is a transaction with a
    receipt of its own, and no row is ever written twice. The file's content, the table and the
    mode name an import; an idempotency key stands in for them.

    An empty field of a CSV is NULL where its column may be NULL; in a STRING column that is NOT
    NULL, keys included, it is empty text, and in any other a bad row. With --null TEXT only that
    text is NULL. In JSON Lines each line names its own columns: one that it leaves out gets its
    DEFAULT or NULL in a new row, and stays as it is in a row that is there. A number that its
    column would hold as another one is a bad row.

    Example: spanctl run import airports.csv --table airports --reason "first load"
    """
    from spanctl_cli.runs import imports

    options = {
        "path": file,
        "table": table,
        "mode": mode.value,
        "file_format": file_format.value if file_format else None,
        "delimiter": delimiter,
        "null": null,
        "quoted_empty": quoted_empty,
        "omitted_null": omitted_null,
        "chunk_rows": chunk_rows,
        "skip_bad": skip_bad,
        "rejects": rejects,
        "new": new,
    }
    asked = runs.Asked(
        target="import",
        reason=reason,
        idempotency_key=idempotency_key,
        watch=not detach,
        dry_run=dry_run,
        output=output,
    )
    imports.run(AppContext.of(ctx), asked, options)
