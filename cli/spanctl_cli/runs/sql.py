"""``spanctl run sql``: queries, DML in one transaction, DDL and partitioned DML by flag."""

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spanctl import textfiles
from spanctl.clock import monotonic
from spanctl.errors import NotFoundError, StatementError, UsageError
from spanctl.ledger.report import TransactionReport
from spanctl_cli import live, stdin, talk
from spanctl_cli.context import AppContext
from spanctl_cli.output import Column, Document, Kind, Listing, Record, emit
from spanctl_cli.output.emitter import picked_fields
from spanctl_cli.output.model import Section
from spanctl_cli.prompts import confirm
from spanctl_cli.runs import Asked, elapsed, refuse_detached, typed_again
from spanctl_cli.runs.in_process import Begin, execute, facts_of, invocation, prepare
from spanctl_cli.schemas import check_fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from spanctl.flows.launch import Finished
    from spanctl.flows.script import Script
    from spanctl.flows.sqlrunning import SqlResult, StatementResult
    from spanctl.spanner.changes import RowChange

_NUMBERS: Final = frozenset({"INT64", "FLOAT64", "FLOAT32", "NUMERIC"})
_DOCUMENTS: Final = ("JSON", "ARRAY", "STRUCT")
_LOSSES: Final = 5
_COLUMNS: Final = (
    Column("flow_run", title="flow run", kind=Kind.ID),
    Column("mode"),
    Column("txn_id", title="transaction", kind=Kind.ID),
    Column("outcome", kind=Kind.STATE),
    Column("commit_timestamp", title="committed", kind=Kind.TIME),
    Column("rows", title="rows changed", kind=Kind.NUMBER),
    Column("replayed", kind=Kind.FLAG),
    Column("dry_run", title="dry run", kind=Kind.FLAG),
    Column("at_least_once", title="at least once", kind=Kind.FLAG),
    Column("rows_at_least", title="rows are a lower bound", kind=Kind.FLAG),
    Column("idempotent"),
    Column("operation", title="ddl operation"),
    Column("finished_by", title="finished by", kind=Kind.ID),
    Column("seconds", title="time", kind=Kind.DURATION),
)
_STATEMENTS: Final = (
    Column("line", kind=Kind.NUMBER),
    Column("kind"),
    Column("tables"),
    Column("rows", title="rows changed", kind=Kind.NUMBER),
    Column("rows_at_least", title="at least", kind=Kind.FLAG, extra=True),
    Column("sql", title="statement"),
)
_SAMPLE: Final = (
    Column("table"),
    Column("change"),
    Column("keys", kind=Kind.DATA),
    Column("before", kind=Kind.DATA),
    Column("after", kind=Kind.DATA),
)


def texts(file: str | None, execute: Sequence[str]) -> list[str]:
    """Return the SQL that was asked for: a file's, that of ``-e``, or else that of stdin.

    Raises:
        UsageError: There is none, or both; or the file is no text.
        NotFoundError: There is no such file.
    """
    if file is not None and execute:
        msg = "a file and -e can't be run together"
        raise UsageError(msg, hint="run one after the other")
    if execute:
        return [one.removeprefix("\ufeff") for one in execute]  # as "$(cat FILE)" hands it over
    if file == "-" or (file is None and stdin.is_redirected()):
        return [textfiles.decoded(stdin.read(), textfiles.STDIN)]
    if file is None:
        msg = "there is no SQL to run"
        raise UsageError(msg, hint="name a file, pass -e 'SELECT ...', or pipe SQL into it")
    try:
        return [textfiles.decoded(Path(file).read_bytes(), file)]
    except FileNotFoundError:
        msg = f"there is no file {file}"
        raise NotFoundError(msg, hint="check the path; SQL itself goes after -e") from None
    except OSError as error:
        msg = f"{file} can't be read: {error.strerror or type(error).__name__}"
        raise UsageError(msg) from None


def run(
    app: AppContext, asked: Asked, sql: Sequence[str], *, yes: bool = False, **mode: bool
) -> None:
    """Run SQL as a flow run of its own, and print rows or what was changed.

    Args:
        app: The context.
        asked: What was asked for.
        sql: The SQL.
        yes: Whether the person agrees beforehand to lose what it takes away.
        mode: The flags of :meth:`spanctl.flows.script.Script.read`.

    Raises:
        UsageError: The SQL or a parameter can't be used as it is; or it takes something away, and
            nobody can be asked.
        DeclinedError: The person does not agree to that.
        StatementError: Spanner refused a statement; nothing was committed.
        SpanctlError: A server did not answer, or refused.
    """
    refuse_detached(asked, "SQL", "put & behind it, or make a flow and its deployment")
    typed_again.refuse_together(asked)
    prepare(app)
    from spanctl.flows.script import Script, SqlMode
    from spanctl.flows.sql import prepared, run_sql
    from spanctl.flows.sqlrunning import awaiting
    from spanctl.spanner.client import Target, shared

    script = Script.read(sql, asked.pairs, **mode)
    if asked.fields is not None and script.mode is not SqlMode.QUERIES:
        check_fields(picked_fields(asked.fields) or [], of=["run.sql"])
    if not asked.dry_run:
        _agree(app, script, yes=yes)
    asking = invocation(app, asked)
    database = shared(Target.from_settings(app.settings()))
    earlier = typed_again.deal(app, asked, script, database)
    started = monotonic()
    with awaiting() as awaited:
        with typed_again.noted(app, awaited):
            with prepared(script) as described, live.view(asked.output, quiet=app.quiet) as view:
                bound = {**described, "dry_run": asked.dry_run, "deadline": asked.timeout or 60.0}
                finished, _ = execute(
                    app,
                    run_sql,
                    bound,
                    asking,
                    view,
                    runbook=True,
                    heartbeats=False,
                    begin=Begin(resumed=earlier.resumed),
                )
            with _told_off_a_terminal():
                finished.check()
        _print(app, asked, finished, elapsed(started))
        typed_again.told(app, awaited)  # killed before, its end was not seen
    earlier.ended(app, database)


def _agree(app: AppContext, script: "Script", *, yes: bool) -> None:
    """Return when the person agrees to what the statements take away."""
    from spanctl.spanner.destructive import loss

    lost = [told for one in script.statements if (told := loss(one))]
    if lost:
        more = [f"and {len(lost) - _LOSSES} more"] if len(lost) > _LOSSES else []
        told = ", ".join([*lost[:_LOSSES], *more])
        confirm(app, f"it {told}; go on?", yes=yes, hint="if that is wanted, pass --yes")


@contextmanager
def _told_off_a_terminal() -> "Iterator[None]":
    """Say where Spanner's own words are shown; they may hold values, which logs shall not keep."""
    try:
        yield
    except StatementError as error:
        if getattr(error, "quoted", "") and not talk.stderr_is_terminal():
            where = "on a terminal, Spanner's own words are shown"
            error.hint = f"{error.hint}; {where}" if error.hint else where
        raise


def _print(app: AppContext, asked: Asked, finished: "Finished", seconds: float) -> None:
    result: SqlResult = finished.result
    returned = [one for one in result.statements if one.rows is not None]
    only_a_query = len(result.statements) == len(returned) == 1 and returned[0].row_count is None
    if result.transaction is None and only_a_query:
        emit(rows_of(returned[0]), asked.output, fields=asked.fields)
    else:
        values = {**facts_of(finished), **_values(result), "seconds": seconds}
        sections = [_statements(result), *_sample(result), *_returned(returned)]
        emit(Record("run.sql", _COLUMNS, values, sections), asked.output, fields=asked.fields)
    if result.dry_run:
        executed = result.mode.value in {"queries", "transaction"}
        how = "executed and rolled back, nothing was" if executed else "described only, nothing was"
        app.note(f"dry run: {how} committed")
    elif result.transaction is not None:
        app.note(f"next: spanctl audit {result.transaction.txn_id}")


def _values(result: "SqlResult") -> dict[str, Any]:
    entries = [result.transaction] if result.transaction else list(result.entries)
    first, last = (entries[0], entries[-1]) if entries else (None, None)
    counts = [one.row_count for one in result.statements if one.row_count is not None]
    outside = result.transaction is None
    told = TransactionReport.of_result("sql", first, None, at_least_once=outside) if first else None
    # The two entries of DDL and partitioned DML commit; what they tell of is in no transaction.
    inside = None if outside else first
    return {
        "mode": result.mode.value,
        "txn_id": first.txn_id if first else None,
        "outcome": told.told if told else None,
        "commit_timestamp": inside.commit_timestamp if inside else None,
        "rows": sum(counts) if counts else None,
        "replayed": first.replayed if first else None,
        "dry_run": result.dry_run,
        "at_least_once": result.at_least_once,
        "rows_at_least": any(one.is_least for one in result.statements),
        "idempotent": result.idempotent,
        "operation": result.operation,
        "finished_by": last.txn_id if last is not first and last else None,
    }


def _statements(result: "SqlResult") -> Section:
    rows = [
        {
            "line": one.line,
            "kind": one.kind.value,
            "tables": list(one.tables),
            "rows": one.row_count,
            "rows_at_least": one.is_least,
            "sql": " ".join(one.sql.split()),
        }
        for one in result.statements
    ]
    return Section("statements", "Statements", Listing("run.sql.statements", _STATEMENTS, rows))


def _sample(result: "SqlResult") -> list[Section]:
    """Return the rows of a dry run: of an update only the columns that would change."""
    if not result.sample:
        return []
    changed = sum(one.row_count or 0 for one in result.statements if one.row_count)
    shown = len(result.sample)
    title = f"Before and after: {shown:,} of {changed:,} row changes"
    rows = [_changed(one) for one in result.sample]
    return [Section("sample", title, Listing("run.sql.sample", _SAMPLE, rows))]


def _changed(row: "RowChange") -> dict[str, Any]:
    from spanctl.spanner.values import to_json

    def told(values: "Mapping[str, Any] | None", other: "Mapping[str, Any] | None") -> object:
        if values is None:
            return None
        shown = values if other is None else {n: v for n, v in values.items() if v != other[n]}
        return {name: to_json(value) for name, value in shown.items()}

    return {
        "table": row.table,
        "change": row.mod_type,
        "keys": {name: to_json(value) for name, value in row.keys.items()},
        "before": told(row.before, row.after),
        "after": told(row.after, row.before),
    }


def _returned(statements: "Sequence[StatementResult]") -> list[Section]:
    return [
        Section(f"returned_{number}", f"Rows of the statement in line {one.line}", rows_of(one))
        for number, one in enumerate(statements, 1)
    ]


def rows_of(statement: "StatementResult") -> Listing:
    """Return a statement's rows as a listing with its columns."""
    from spanctl.spanner.values import to_json, type_name

    names = _unique([column.name for column in statement.columns])
    types = [type_name(column.type) for column in statement.columns]
    columns = tuple(
        Column(name, title=name, kind=Kind.NUMBER if kind in _NUMBERS else Kind.TEXT)
        for name, kind in zip(names, types, strict=True)
    )
    cells = [_document if kind.startswith(_DOCUMENTS) else to_json for kind in types]
    rows = (
        {name: cell(value) for name, cell, value in zip(names, cells, row, strict=True)}
        for row in statement.rows or ()
    )
    return Listing("run.sql.rows", columns, rows, empty="no rows")


def _document(value: Any) -> Document | None:  # noqa: ANN401 - a JSON, an ARRAY or a STRUCT
    """Keep NULL apart from JSON's null, and an ARRAY of text apart from text."""
    from spanctl.spanner.values import to_json

    return None if value is None else Document(to_json(value))


def _unique(names: Sequence[str]) -> list[str]:
    """Name what has no name, and tell apart what has the same."""
    found: list[str] = []
    for number, name in enumerate(names, 1):
        wanted = name or f"column_{number}"
        found.append(f"{wanted}_{number}" if wanted in found else wanted)
    return found
