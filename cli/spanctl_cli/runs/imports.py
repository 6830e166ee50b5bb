"""``spanctl run import``: a file into a table, in transactions that resume."""

from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spanctl.clock import monotonic
from spanctl.errors import NotFoundError, UsageError
from spanctl_cli import live
from spanctl_cli.context import AppContext
from spanctl_cli.live import Progress, View
from spanctl_cli.output import Column, Kind, Record, emit, text
from spanctl_cli.runs import Asked, counted, elapsed, refuse_detached
from spanctl_cli.runs.in_process import execute, facts_of, invocation, prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from spanctl.flows.importing import ImportOptions, ImportProgress, ImportResult

_INSTEAD = "put nohup before it and & behind it; whatever ends it, the same command goes on"
_COLUMNS = (
    Column("flow_run", title="flow run", kind=Kind.ID),
    Column("file"),
    Column("table"),
    Column("mode"),
    Column("rows", title="rows in the file", kind=Kind.NUMBER),
    Column("written", title="written now", kind=Kind.NUMBER),
    Column("present", title="by other runs", kind=Kind.NUMBER),
    Column("bad", title="left out", kind=Kind.NUMBER),
    Column("skipped", title="there before", kind=Kind.NUMBER),
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
    refuse_detached(asked, "an import", _INSTEAD)
    if options["path"] in {"-", "/dev/stdin"}:
        msg = "stdin can't be imported: an import reads its rows twice, and again to go on"
        raise UsageError(msg, hint="save the rows in a file first")
    if not Path(options["path"]).is_file():
        msg = f"there is no file {options['path']}"
        raise NotFoundError(msg, hint="check the path")
    prepare(app)
    asking = invocation(app, asked)
    if asked.dry_run:
        _preview(app, asked, options)
        return
    from spanctl.flows.importing import import_file, refuse_misfit, reporting
    from spanctl.spanner.client import Target

    target = Target.from_settings(app.settings())
    refuse_misfit(target, Path(options["path"]), options["table"], _chosen(options))
    started = monotonic()
    with live.view(asked.output, quiet=app.quiet) as view:
        teller = _Teller(view)
        with _telling_interruption(app, teller), reporting(teller):
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
    run = str(finished.flow_run)
    if result.already:
        more = "another key imports it" if asked.idempotency_key else "--new imports it"
        app.note(f"already imported by {result.imported_by}, 0 written; {more} once more")
    elif result.present:
        told = f"{result.written:,} rows written by this run, {result.present:,} by others"
        if result.imported_by != run:
            told = f"{told}; flow run {result.imported_by} finished the import"
        app.note(told)
    # The finish itself holds no row: the chunks are found under the run that wrote them.
    looked_at = run if result.written else result.imported_by or result.txn_id
    app.note(f"next: spanctl audit {looked_at}")


class _Teller:
    """Passes progress on to a view, and keeps the last of it."""

    def __init__(self, view: View) -> None:
        self.last: ImportProgress | None = None
        self._view = view

    def __call__(self, progress: "ImportProgress") -> None:
        self.last = progress
        by_rows = progress.total_rows is not None
        self._view.progress(
            Progress(
                done=progress.rows if by_rows else progress.bytes,
                total=progress.total_rows or progress.total_bytes,
                unit="rows" if by_rows else "bytes",
                rate=progress.rows_per_second,
                left=progress.seconds_left,
                doing=progress.phase.value,
            )
        )


@contextmanager
def _telling_interruption(app: AppContext, teller: _Teller) -> "Iterator[None]":
    """Say what is in when Ctrl-C or SIGTERM came outside of the writing, which says so itself."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        last = teller.last
        if last is None or last.total_rows is None:
            app.note("nothing was written by this run; the same command goes on")
        elif not any("rows are in" in note for note in getattr(interruption, "__notes__", ())):
            told = f"at least {last.rows:,} of {last.total_rows:,} rows are in"
            app.note(f"{told}; the same command goes on from there")
        raise


def _ending(result: "ImportResult") -> "Iterable[RenderableType]":
    from rich.text import Text

    told = [
        f"{counted(result.written, 'row')} written",
        counted(result.chunks_written, "transaction"),
        *([f"{counted(result.present, 'row')} written by other runs"] if result.present else []),
        *([f"{counted(result.skipped, 'row')} there before"] if result.skipped else []),
        *([f"{result.bad:,} left out, see {result.rejects}"] if result.bad else []),
        f"{result.seconds:.1f} s",
    ]
    line = Text("✓ ", style="green")
    line.append("Imported " if result.written else "Nothing to do ", style="bold")
    line.append(text(" · ".join(told)))
    yield line


def _chosen(options: dict[str, Any]) -> "ImportOptions":
    from spanctl.flows.importing import FileFormat, ImportOptions, Mode

    others = {name: value for name, value in options.items() if name not in {"path", "table"}}
    form, rejects = others.pop("file_format"), others.pop("rejects")
    return ImportOptions(
        mode=Mode(others.pop("mode")),
        file_format=FileFormat(form) if form else None,
        rejects=Path(rejects) if rejects else None,
        **others,
    )


def _preview(app: AppContext, asked: Asked, options: dict[str, Any]) -> None:
    from spanctl.flows.importing import preview, reporting
    from spanctl.spanner.client import Target

    target = Target.from_settings(app.settings())
    with live.view(asked.output, quiet=app.quiet) as view, reporting(_Teller(view)):
        found = preview(
            target,
            Path(options["path"]),
            options["table"],
            _chosen(options),
            idempotency_key=asked.idempotency_key,
        )
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
