"""The runbook behind ``spanctl run import``: a file into a table, in transactions that resume.

The flow has two tasks, one that checks the whole file and one that writes it; a task carries many
chunks, because a task a chunk costs more than the chunk.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from spanctl.clock import monotonic
from spanctl.errors import UsageError
from spanctl.flows.columns import Mode
from spanctl.flows.converting import Converter
from spanctl.flows.cutting import rows_per_chunk
from spanctl.flows.importjob import ImportJob
from spanctl.flows.importplan import UNLIMITED, ImportOptions, ImportPlan
from spanctl.flows.importprogress import ImportProgress, Phase, Progress, reporting
from spanctl.flows.importresult import ImportResult, done, done_before
from spanctl.flows.importwriter import Written, write
from spanctl.flows.reading import FileFormat, Source
from spanctl.flows.runbooks import Standing, in_task, passing, record, standing, whole
from spanctl.flows.validating import Checked, Rejects

if TYPE_CHECKING:
    from spanctl.spanner.catalog import Table
    from spanctl.spanner.client import Database, Target

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
class Preview:
    """What an import would do, once the file was checked.

    Attributes:
        file: The file.
        table: The table.
        columns: The columns that would be written; of a CSV in the file's order.
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
    record("finish", provenance, written.finish, str(place.target.database))
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
    omitted_null: bool = False,
    quoted_empty: bool = False,
) -> ImportResult:
    """Import a CSV or JSON Lines file into a table; see :class:`ImportOptions`.

    Raises:
        UsageError: File and table don't fit together, or rows are bad; nothing was written.
        NotFoundError: There is no such file or table.
        KeyReusedError: The idempotency key was used for another import.
        ConflictError: It was begun with other options, or the file changed meanwhile.
        DuplicateKeyError: A key is in the file twice, and nothing was written; or it is in the
            table already, and the chunks before its own are committed.
        StatementError: Spanner refused a chunk; those before it are committed.
        SpanctlError: The database could not be reached; the same call goes on where it ended.
    """
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
        omitted_null=omitted_null,
        quoted_empty=quoted_empty,
    )
    place = standing("import")
    database = shared(place.target)
    file = Path(path)
    with _source(file, options) as source:
        found = _table(database, table, source)
        job = ImportJob(database, source, found, options, idempotency_key=place.idempotency_key)
        if job.finished is not None:
            return done_before(job, job.finished, monotonic() - started)
        checked = _check(whole(job))
        written = _write(whole(job), whole(place))
        return done(job, checked, written, monotonic() - started)


def _choice(choices: type[Choice], text: str) -> Choice:
    try:
        return choices(text)
    except ValueError:
        msg = f"{text!r} is none of {', '.join(choices)}"
        raise UsageError(msg) from None


def _source(path: Path, options: ImportOptions, *, digested: bool = True) -> Source:
    return Source(
        path,
        file_format=options.file_format,
        delimiter=options.delimiter,
        quoted_empty=options.quoted_empty,
        digested=digested,
    )


def _table(database: "Database", name: str, source: Source) -> "Table":
    from spanctl.spanner import catalog

    found = catalog.table(database, name)
    # Of JSON Lines, a later line may leave out what the first one names.
    named = source.columns if source.format is FileFormat.CSV else ()
    columns = [column.name for one in named if (column := found.column(one)) is not None]
    return catalog.with_identities(database, found, columns)


def refuse_misfit(target: "Target", path: Path, table: str, options: ImportOptions) -> None:
    """Refuse what the file's header and the table tell at a glance; no row is looked at.

    Raises:
        UsageError: File, table and options don't fit together.
        NotFoundError: There is no such file or table.
        ConflictError: Another file stands where bad rows go.
        SpanctlError: The database could not be read.
    """
    from spanctl.spanner.client import shared

    with _source(path, options, digested=False) as source:
        found = _table(shared(target), table, source)
        converter = Converter(
            found,
            source.columns,
            mode=options.mode,
            file_format=source.format,
            null=options.null,
            omitted_null=options.omitted_null,
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
    from spanctl.spanner.client import shared

    database = shared(target)
    with _source(path, options) as source:
        found = _table(database, table, source)
        job = ImportJob(database, source, found, options, idempotency_key=idempotency_key)
        already = job.finished is not None
        checked = None if already else job.validate(Progress(Phase.CHECKING, source))
        return Preview(
            file=path,
            table=job.table.name,
            columns=job.converter.written if checked else job.converter.named,
            plan=job.plan,
            already=already,
            resumed=job.resumed,
            rejects=checked.rejects if checked else None,
        )
