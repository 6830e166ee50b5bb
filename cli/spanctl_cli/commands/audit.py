"""``spanctl audit``: what a transaction or a run did, and how sure that is."""

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from spanctl.errors import UsageError
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.help import Group
from spanctl_cli.options import FieldsOption, LimitOption, OutputOption, Panel, SinceOption
from spanctl_cli.output import Column, Format, Kind, Listing, Record, emit, stdout
from spanctl_cli.sources import sources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from spanctl.audit.model import Identity
    from spanctl.audit.outside import Outside
    from spanctl.ledger.receipt import Receipt
    from spanctl.orchestration.api import PrefectApi

_TERMINAL_ROWS = 20
_SHOW = "show"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LISTING = (
    Column("txn_id", kind=Kind.ID),
    Column("commit_timestamp", title="committed", kind=Kind.TIME),
    Column("outcome", kind=Kind.STATE),
    Column("rows", kind=Kind.NUMBER),
    Column("rows_at_least", kind=Kind.FLAG, extra=True),
    Column("rows_at_most", kind=Kind.FLAG, extra=True),
    Column("initiator"),
    Column("initiator_standing", kind=Kind.STATE),
    Column("changes"),
    Column("flow"),
    Column("task"),
    Column("step"),
    Column("reason"),
    Column("root_run", extra=True),
    Column("flow_run", extra=True),
    Column("executor", extra=True),
    Column("executor_standing", extra=True),
    Column("operation_key", extra=True),
    Column("undoes", extra=True),
)


class AuditGroup(Group):
    """A group that reads what is none of its commands as the ID to show."""

    default: ClassVar[str] = _SHOW

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's vendored type
        """Put the hidden command in front of an ID, or of its options."""
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class TrailFormat(StrEnum):
    """How a trail is written: as any result, or as a page of HTML."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    NAME = "name"
    HTML = "html"


class ListedOutcome(StrEnum):
    """The outcomes that the ledger's entries tell."""

    COMMITTED = "COMMITTED"
    NOT_COMMITTED = "NOT_COMMITTED"
    AT_LEAST_ONCE = "AT_LEAST_ONCE"


app = typer.Typer(
    help="""Show what happened: spanctl audit ID.

    ID is a txn ID or its first 8 characters or more, a flow run's id or name, or an idempotency
    key. For its options see: spanctl audit show --help""",
    subcommand_metavar="ID | COMMAND",
)


def register(parent: typer.Typer) -> None:
    """Add the group to the command line."""
    parent.add_typer(app, name="audit", cls=AuditGroup, rich_help_panel=Panel.LOOK)


@app.command(_SHOW, hidden=True)
def show(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A txn ID or 8 or more of its first characters, a flow run's id or name, or an"
            " idempotency key.",
        ),
    ],
    *,
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            min=0,
            help=f"Show so many changed rows.  [default: {_TERMINAL_ROWS} on a terminal, else all]",
        ),
    ] = None,
    output: Annotated[
        TrailFormat | None,
        typer.Option("--output", "-o", help="Format of the result.", show_default="table"),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output-file", metavar="FILE", help="Write the page of HTML to this file."),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the page of HTML in a browser.")
    ] = False,
    fields: FieldsOption = None,
) -> None:
    """Show one transaction or one run: outcome, who, what, rows before and after, timeline.

    Also written: spanctl audit ID. -o html gives one printable page that needs no network.

    Example: spanctl audit 3f2a9c1e

    Example: spanctl audit 3f2a9c1e -o html > trail.html
    """
    from spanctl_cli.views.trail import record

    app_context = AppContext.of(ctx)
    as_page = output is TrailFormat.HTML or output_file is not None or open_
    chosen = None if output is None or as_page else Format(output.value)
    if as_page and (fields is not None or output not in {None, TrailFormat.HTML}):
        msg = "a page of HTML is whole: no --fields, and no other format"
        raise UsageError(msg, hint="leave out -o, or write: -o html")
    with sources(app_context) as (database, api):
        from spanctl.audit.model import SourceName
        from spanctl.audit.trail import trail

        with app_context.status("reading the trail"):
            found = trail(database, api, wanted)
    if as_page:
        _write_page(app_context, record(found, rows), rows, output_file, open_=open_)
    else:
        if rows is None and sys.stdout.isatty() and (chosen is None or chosen.is_table):
            rows = _TERMINAL_ROWS
        emit(record(found, rows), chosen, fields=fields)
    if found.contradicted:
        app_context.warn(found.source(SourceName.IDENTITY).note)
        raise typer.Exit(ExitCode.VERIFICATION_FAILED)


def _write_page(
    app_context: AppContext, made: Record, rows: int | None, file: Path | None, *, open_: bool
) -> None:
    """Write a trail's page to stdout, or to a file where one is named or a browser is to open."""
    from spanctl import __version__, clock
    from spanctl_cli import pages
    from spanctl_cli.views.trail_html import page

    text = page(made, read_at=clock.now(), version=__version__, limit=rows)
    if file is None and not open_:
        whole = stdout.holds_unicode()
        stdout.write(text if whole else text.encode("ascii", "xmlcharrefreplace").decode())
        return
    identifier = str(made.values.get("txn_id") or made.values.get("run"))
    name = "".join(one if one.isalnum() or one in "-_" else "-" for one in identifier)
    path = pages.save(file or pages.kept(name), text)
    app_context.note(f"written: {path}")
    if open_ and not pages.show(path):
        app_context.note("there is no browser here; open the file elsewhere")


@app.command("list")
def list_(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    flow_run: Annotated[
        str | None,
        typer.Option("--flow-run", metavar="ID|NAME", help="Only those of this root flow run."),
    ] = None,
    since: SinceOption = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="AGE|TIME", help="The newest of interest."),
    ] = None,
    outcome: Annotated[
        ListedOutcome | None,
        typer.Option("--outcome", case_sensitive=False, help="Only those that ended so."),
    ] = None,
    limit: LimitOption = 50,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """List transactions, newest first: those of the last 24 hours, or all of one flow run.

    Example: spanctl audit list --since 7d --outcome committed
    """
    from spanctl import clock

    app_context = AppContext.of(ctx)
    oldest = clock.parse_since(since or "24h")
    if flow_run is not None and not since:
        oldest = _EPOCH
    newest = clock.parse_since(until) if until else None
    if newest and newest < oldest:
        msg = f"nothing is both since {since or '24h'} and until {until}"
        raise UsageError(msg, hint="--since takes the older end: --since 2h --until 1h")
    with sources(app_context) as (database, api):
        from spanctl.spanner import receipts

        _ = database.ledger  # says what to do where there is none
        from spanctl.audit.identity import identities
        from spanctl.audit.model import told_of
        from spanctl.audit.outside import outside

        found = receipts.listing(
            database,
            since=oldest,
            until=newest,
            root_run=_root_run(api, flow_run) if flow_run is not None else None,
            wanted=(lambda one: told_of(one) == outcome) if outcome else None,
            limit=limit,
        )
        pairs = outside(database, found)
        behind = identities(found, database.target)
    rows = [_listed(one, pairs.get(one.txn_id), behind[one.txn_id]) for one in found]

    def view() -> "Iterable[RenderableType]":
        from spanctl_cli.views.trail_tables import listing

        return listing(found, [row["changes"] for row in rows], behind)

    where = f"of flow run {flow_run}" if flow_run else f"since {since or '24h'}"
    listing = Listing(
        "audit.list",
        _LISTING,
        rows,
        empty=f"no transactions {where}" + (f" until {until}" if until else ""),
        view=view if rows else None,
    )
    emit(listing, output, fields=fields)
    if len(found) == limit:
        app_context.note(f"these are the newest {limit:,}; for more: --limit or --until")


def _root_run(api: "PrefectApi | None", flow_run: str) -> str:
    """Return what receipts call a root flow run: its id, also where its name was given."""
    from spanctl.audit.resolve import possible
    from spanctl.errors import NotFoundError
    from spanctl.ledger.keys import is_txn_id

    flow_run = possible(flow_run)
    if api is None or is_txn_id(flow_run):
        return flow_run.lower() if is_txn_id(flow_run) else flow_run
    try:
        return api.root_of(api.find_flow_run(flow_run)).id
    except NotFoundError:
        return flow_run  # Prefect may have forgotten what the ledger still names


def _listed(receipt: "Receipt", pair: "Outside | None", identity: "Identity") -> dict[str, Any]:
    from spanctl.audit.model import told_of
    from spanctl.ledger.phases import step_of
    from spanctl_cli.views.standing import words

    origin = receipt.provenance
    return {
        "txn_id": receipt.txn_id,
        "commit_timestamp": receipt.commit_timestamp,
        "outcome": told_of(receipt),
        "rows": receipt.rows,
        "rows_at_least": receipt.rows_at_least,
        "rows_at_most": receipt.rows_at_most,
        "initiator": origin.initiator,
        "initiator_standing": words(identity.initiator, origin.initiator_chain),
        "changes": f"{summary(receipt)}: {pair.words_here}" if pair else summary(receipt),
        "flow": origin.flow,
        "task": origin.task,
        "step": step_of(receipt),
        "reason": origin.reason,
        "root_run": origin.root_run,
        "flow_run": origin.flow_run,
        "executor": origin.executor,
        "executor_standing": identity.executor,
        "operation_key": receipt.operation_key,
        "undoes": receipt.undoes,
    }


def summary(receipt: "Receipt") -> str:
    """Return what a transaction did in a few words: ``update airports, insert corrections``."""
    from spanctl.ledger.receipt import StatementKind

    reading = {StatementKind.QUERY, StatementKind.READ}
    words = (
        f"{statement.kind.value.replace('_', ' ')} {', '.join(statement.tables)}".strip()
        for statement in receipt.statements
        if statement.kind not in reading
    )
    return ", ".join(dict.fromkeys(words))
