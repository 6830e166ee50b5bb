"""``spanctl run import``: a file into a table, in transactions that resume."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanctl.clock import monotonic
from spanctl.errors import NotFoundError
from spanctl_cli import live
from spanctl_cli.context import AppContext
from spanctl_cli.live import Progress, View
from spanctl_cli.output import Column, Kind, Record, emit, text
from spanctl_cli.runs import Asked, elapsed
from spanctl_cli.runs.in_process import execute, facts_of, invocation, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType

    from spanctl.flows.importing import ImportProgress, ImportResult

_COLUMNS = (
    Column("flow_run", title="flow run", kind=Kind.ID),
    Column("file"),
    Column("table"),
    Column("mode"),
    Column("rows", title="rows in the file", kind=Kind.NUMBER),
    Column("written", title="written now", kind=Kind.NUMBER),
    Column("present", title="written before", kind=Kind.NUMBER),
    Column("bad", title="left out", kind=Kind.NUMBER),
    Column("chunks", title="transactions", kind=Kind.NUMBER),
    Column("chunks_written", title="of them now", kind=Kind.NUMBER),
    Column("already", title="imported before", kind=Kind.FLAG),
    Column("resumed", kind=Kind.FLAG),
    Column("imported_by", title="imported by", kind=Kind.ID),
    Column("txn_id", title="finished by", kind=Kind.ID),
    Column("rejects"),
    Column("seconds", title="time", kind=Kind.DURATION),
    Column("operations", extra=True),
    Column("sha256", extra=True),
)


def run(app: AppContext, asked: Asked, options: dict[str, Any]) -> None:
    """Import a file, or with ``--dry-run`` check it and say what would be done.

    Args:
        app: The invocation.
        asked: Why, in which format, and whether for real.
        options: The parameters of :func:`spanctl.flows.importing.import_file`.

    Raises:
        SpanctlError: The file, the table or a row won't do, or a server did not answer.
    """
    if not Path(options["path"]).is_file():
        msg = f"there is no file {options['path']}"
        raise NotFoundError(msg, hint="check the path")
    prepare(app)
    asking = invocation(app, asked)
    if asked.dry_run:
        _preview(app, asked, options)
        return
    from spanctl.flows.importing import import_file, reporting

    started = monotonic()
    with live.view(asked.output, quiet=app.quiet) as view, reporting(_telling(view)):
        finished, _ = execute(
            app, import_file, options, asking, view, runbook=True, heartbeats=False
        )
    finished.check()
    result: ImportResult = finished.result
    values = {**asdict(result), **facts_of(finished), "seconds": elapsed(started)}
    emit(
        Record(schema="run.import", columns=_COLUMNS, values=values, view=lambda: _ending(result)),
        asked.output,
    )
    if result.already:
        app.note(f"already imported by {result.imported_by}, 0 written; --new imports it once more")
    app.note(f"next: spanctl audit {result.txn_id}")


def _telling(view: View) -> "Callable[[ImportProgress], None]":
    def tell(progress: "ImportProgress") -> None:
        by_rows = progress.total_rows is not None
        view.progress(
            Progress(
                done=progress.rows if by_rows else progress.bytes,
                total=progress.total_rows or progress.total_bytes,
                unit="rows" if by_rows else "bytes",
                rate=progress.rows_per_second,
                left=progress.seconds_left,
                doing=progress.phase.value,
            )
        )

    return tell


def _ending(result: "ImportResult") -> "Iterable[RenderableType]":
    from rich.text import Text

    told = [
        f"{result.written:,} rows written in {result.chunks_written:,} transactions",
        *([f"{result.present:,} rows were there before"] if result.present else []),
        *([f"{result.bad:,} left out, see {result.rejects}"] if result.bad else []),
        f"{result.seconds:.1f} s",
    ]
    line = Text("✓ ", style="green")
    line.append("Imported " if result.written else "Nothing to do ", style="bold")
    line.append(text(" · ".join(told)))
    yield line


def _preview(app: AppContext, asked: Asked, options: dict[str, Any]) -> None:
    from spanctl.flows.importing import FileFormat, ImportOptions, Mode, preview, reporting
    from spanctl.spanner.client import Target

    chosen = dict(options)
    path, table = Path(chosen.pop("path")), chosen.pop("table")
    form, rejects = chosen.pop("file_format"), chosen.pop("rejects")
    wanted = ImportOptions(
        mode=Mode(chosen.pop("mode")),
        file_format=FileFormat(form) if form else None,
        rejects=Path(rejects) if rejects else None,
        **chosen,
    )
    target = Target.from_settings(app.settings())
    with live.view(asked.output, quiet=app.quiet) as view, reporting(_telling(view)):
        found = preview(target, path, table, wanted)
    plan = found.plan
    values = {
        "file": str(found.file),
        "table": found.table,
        "columns": list(found.columns),
        "rows": plan.rows if plan else None,
        "bad": plan.bad if plan else None,
        "chunks": plan.chunks if plan else None,
        "already": found.already,
        "resumed": found.resumed,
        "rejects": found.rejects,
    }
    columns = (
        Column("file"),
        Column("table"),
        Column("columns"),
        Column("rows", kind=Kind.NUMBER),
        Column("bad", kind=Kind.NUMBER),
        Column("chunks", title="transactions", kind=Kind.NUMBER),
        Column("already", title="imported before", kind=Kind.FLAG),
        Column("resumed", title="begun before", kind=Kind.FLAG),
        Column("rejects"),
    )
    emit(Record(schema="run.import.plan", columns=columns, values=values), asked.output)
