"""The runbook behind ``spanctl run import``: a file into a table, in transactions that resume.

The flow has two tasks, one that checks the whole file and one that writes it; a task carries many
chunks, because a task a chunk costs more than the chunk.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from spanctl.clock import monotonic
from spanctl.errors import UsageError
from spanctl.flows.converting import Converter, Mode
from spanctl.flows.cutting import rows_per_chunk
from spanctl.flows.importjob import ImportJob
from spanctl.flows.importplan import UNLIMITED, ImportOptions, ImportPlan
from spanctl.flows.importprogress import ImportProgress, Phase, Progress, reporting
from spanctl.flows.importwriter import Written, write
from spanctl.flows.reading import FileFormat, Source
from spanctl.flows.runbooks import Standing, in_task, passing, record, standing, whole
from spanctl.flows.validating import Checked, Rejects
from spanctl.ledger.receipt import Receipt

if TYPE_CHECKING:
    from spanctl.spanner.client import Target

__all__ = [
    "UNLIMITED",
    "FileFormat",
    "ImportOptions",
    "ImportProgress",
    "ImportResult",
    "Mode",
    "Phase",
    "Preview",
    "import_file",
    "preview",
    "refuse_misfit",
    "reporting",
]

Choice = TypeVar("Choice", bound=StrEnum)

_TAG = "spanctl-import"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import did.

    Attributes:
        file: The file.
        table: The table.
        mode: What happened to rows that were there.
        sha256: SHA-256 of the file, hexadecimal.
        rows: Rows of the file.
        written: Rows written by this run.
        present: Rows that other runs of this import have written, earlier or meanwhile.
        bad: Rows that were left out.
        chunks: Transactions of the whole import.
        chunks_written: Those of this run.
        imported_by: Id of the root flow run that finished it.
        already: Whether it had finished before, so that nothing was done.
        resumed: Whether an earlier run had begun it.
        rejects: The file that names the rows left out; None when there are none.
        seconds: From start to end of this run.
        txn_id: The transaction that says that all chunks are in.
        operations: Common part of the operation keys of its transactions.
    """

    file: Path
    table: str
    mode: Mode
    sha256: str
    rows: int
    written: int
    present: int
    bad: int
    chunks: int
    chunks_written: int
    imported_by: str | None
    already: bool
    resumed: bool
    rejects: Path | None
    seconds: float
    txn_id: str
    operations: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an import would do, once the file was checked.

    Attributes:
        file: The file.
        table: The table.
        columns: The columns that would be written, in the file's order.
        plan: How the file would be cut.
        already: Whether it has finished before, so that nothing would be done.
        resumed: Whether an earlier run had begun it.
        rejects: The file that names bad rows; None when there are none.
    """

    file: Path
    table: str
    columns: tuple[str, ...]
    plan: ImportPlan | None
    already: bool
    resumed: bool
    rejects: Path | None


@task(name="check", cache_policy=NO_CACHE, persist_result=False)
def _check(job: ImportJob) -> Checked | None:
    return job.validate(Progress(Phase.CHECKING, job.source))


@task(
    name="write",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=2,
    retry_condition_fn=passing,
)
def _write(job: ImportJob, place: Standing) -> Written:
    provenance, again = in_task(place.provenance, _TAG)
    total = job.plan.rows if job.plan else None
    tell = Progress(Phase.WRITING, job.source, total)
    written = write(job, provenance, again=again, tell=tell)
    record("finish", provenance, written.finish)
    return written


@flow(name="import", persist_result=False)
def import_file(  # noqa: PLR0913 - a command's options
    path: str,
    table: str,
    *,
    mode: str = "insert",
    file_format: str | None = None,
    delimiter: str | None = None,
    null: str | None = None,
    chunk_rows: int | None = None,
    parallel: int = 1,
    skip_bad: int = 0,
    rejects: str | None = None,
    new: bool = False,
) -> ImportResult:
    """Import a CSV or JSON Lines file into a table; see :class:`ImportOptions`.

    Raises:
        UsageError: File and table don't fit together, or rows are bad; nothing was written.
        NotFoundError: There is no such file or table.
        KeyReusedError: The idempotency key was used for another import.
        ConflictError: It was begun with other options, or the file changed meanwhile.
        StatementError: Spanner refused a chunk; those before it are committed.
        SpanctlError: The database could not be reached; the same call goes on where it ended.
    """
    from spanctl.spanner import catalog
    from spanctl.spanner.client import shared

    started = monotonic()
    options = ImportOptions(
        mode=_choice(Mode, mode),
        file_format=_choice(FileFormat, file_format) if file_format else None,
        delimiter=delimiter,
        null=null,
        chunk_rows=chunk_rows,
        parallel=parallel,
        skip_bad=skip_bad,
        rejects=Path(rejects) if rejects else None,
        new=new,
    )
    place = standing("import")
    database = shared(place.target)
    file = Path(path)
    with Source(file, file_format=options.file_format, delimiter=options.delimiter) as source:
        found = catalog.table(database, table)
        job = ImportJob(database, source, found, options, idempotency_key=place.idempotency_key)
        if job.finished is not None:
            return _already(job, job.finished, monotonic() - started)
        checked = _check(whole(job))
        written = _write(whole(job), whole(place))
        return _done(job, checked, written, monotonic() - started)


def _choice(choices: type[Choice], text: str) -> Choice:
    try:
        return choices(text)
    except ValueError:
        msg = f"{text!r} is none of {', '.join(choices)}"
        raise UsageError(msg) from None


def refuse_misfit(target: "Target", path: Path, table: str, options: ImportOptions) -> None:
    """Refuse what the file's header and the table tell at a glance; no row is looked at.

    Raises:
        UsageError: File, table and options don't fit together.
        NotFoundError: There is no such file or table.
        ConflictError: Another file stands where bad rows go.
        SpanctlError: The database could not be read.
    """
    from spanctl.spanner import catalog
    from spanctl.spanner.client import shared

    with Source(
        path, file_format=options.file_format, delimiter=options.delimiter, digested=False
    ) as source:
        found = catalog.table(shared(target), table)
        converter = Converter(
            found,
            source.columns,
            mode=options.mode,
            file_format=source.format,
            null=options.null,
        )
        rows_per_chunk(found, converter.columns, options.chunk_rows)
        Rejects(source, options.rejects).refuse_other()


def preview(
    target: "Target",
    path: Path,
    table: str,
    options: ImportOptions,
    *,
    idempotency_key: str | None = None,
) -> Preview:
    """Check a file against a table as an import would, and write nothing to the database.

    Raises:
        SpanctlError: As :func:`import_file` raises before its first write.
    """
    from spanctl.spanner import catalog
    from spanctl.spanner.client import shared

    database = shared(target)
    with Source(path, file_format=options.file_format, delimiter=options.delimiter) as source:
        found = catalog.table(database, table)
        job = ImportJob(database, source, found, options, idempotency_key=idempotency_key)
        already = job.finished is not None
        checked = None if already else job.validate(Progress(Phase.CHECKING, source))
        return Preview(
            file=path,
            table=job.table.name,
            columns=job.converter.columns,
            plan=job.plan,
            already=already,
            resumed=job.resumed,
            rejects=checked.rejects if checked else None,
        )


def _done(
    job: ImportJob,
    checked: Checked | None,
    written: Written,
    seconds: float,
) -> ImportResult:
    plan = job.settled
    return ImportResult(
        file=job.source.path,
        table=job.table.name,
        mode=job.options.mode,
        sha256=job.source.sha256,
        rows=plan.rows,
        written=written.rows,
        present=written.present,
        bad=plan.bad,
        chunks=plan.chunks,
        chunks_written=written.chunks,
        imported_by=written.finished_by,
        already=False,
        resumed=job.resumed,
        rejects=checked.rejects if checked else None,
        seconds=seconds,
        txn_id=written.finish.txn_id,
        operations=job.operations,
    )


def _already(job: ImportJob, finish: Receipt, seconds: float) -> ImportResult:
    kept = json.loads(finish.result or "{}")
    rows, bad = int(kept.get("rows", 0)), int(kept.get("bad", 0))
    return ImportResult(
        file=job.source.path,
        table=job.table.name,
        mode=job.options.mode,
        sha256=job.source.sha256,
        rows=rows,
        written=0,
        present=rows - bad,
        bad=bad,
        chunks=int(kept.get("chunks", 0)),
        chunks_written=0,
        imported_by=finish.provenance.root_run,
        already=True,
        resumed=False,
        rejects=None,
        seconds=seconds,
        txn_id=finish.txn_id,
        operations=job.operations,
    )
