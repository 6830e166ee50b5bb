"""``spanctl init``: the ledger's schema, installed and completed."""

from typing import TYPE_CHECKING, Annotated

import typer

from spanctl_cli.context import AppContext
from spanctl_cli.options import OutputOption, Panel
from spanctl_cli.output import Column, Kind, Listing, Record, emit

if TYPE_CHECKING:
    from spanctl.spanner.schema import SchemaStatus

TableOption = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="TABLE", help="Watch this table's changes; repeat for more."),
]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("init", rich_help_panel=Panel.SET_UP)(init)


def init(
    ctx: typer.Context,
    *,
    table: TableOption = None,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt", help="Give a copied or restored ledger a new id, and write here from now on."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the DDL that is missing, and do nothing.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Install the ledger in the database, and watch tables for audit.

    Running it again completes what is missing and changes nothing else. The ledger is bound to this
    database: in a copy, a clone or a restore nothing is written until it is adopted.

    Example: spanctl init --table airports --table accounts
    """
    app = AppContext.of(ctx)
    from spanctl.spanner import schema
    from spanctl.spanner.client import Database, Target

    target = Target.from_settings(app.settings())
    with Database(target) as database:
        if dry_run:
            missing = schema.plan(database, table or ())
            emit(_plan(missing), output)
            return
        with app.status(f"installing the ledger in {target.database}"):
            status = schema.install(database, table or (), adopt=adopt)
    emit(_installed(str(target.database), status), output)
    if adopt and not status.adopted:
        app.note(f"ledger {status.ledger_id} belongs to this database: there was nothing to adopt")
    if not status.watched:
        app.note("no table is watched yet: rows before and after need spanctl init --table TABLE")


def _plan(missing: list[str]) -> Listing:
    rows = [{"ddl": " ".join(ddl.split())} for ddl in missing]
    return Listing(
        schema="init.plan",
        columns=(Column("ddl", title="DDL that is missing"),),
        rows=rows,
        empty="the ledger is complete, no DDL is missing",
    )


def _installed(database: str, status: "SchemaStatus") -> Record:
    return Record(
        schema="init",
        columns=(
            Column("database", kind=Kind.ID),
            Column("ledger_id", title="ledger", kind=Kind.ID),
            Column("schema_version", kind=Kind.NUMBER),
            Column("created", kind=Kind.FLAG),
            Column("bound", title="bound to"),
            Column("ancestor", title="adopted from", kind=Kind.ID),
            Column("watched", title="watched tables"),
            Column("executed", title="DDL executed", kind=Kind.NUMBER),
        ),
        values={
            "database": database,
            "ledger_id": status.ledger_id,
            "schema_version": status.schema_version,
            "created": status.created,
            "bound": str(status.bound),
            "ancestor": status.ancestor,
            "watched": list(status.watched),
            "executed": len(status.executed),
        },
    )
