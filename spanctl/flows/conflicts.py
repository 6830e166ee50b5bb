"""Keys that are there already, told by the line of the file; the key itself only to its owner."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from spanctl.errors import DuplicateKeyError, SpanctlError, StatementError
from spanctl.flows.columns import Mode
from spanctl.flows.rowbatches import digested, keyed
from spanctl.spanner.keysets import encoded_keys

if TYPE_CHECKING:
    from spanctl.flows.cutting import Chunk
    from spanctl.flows.importjob import ImportJob
    from spanctl.flows.reading import Mark

INSTEAD = "pass --mode insert-absent to leave such rows out, or --mode upsert to overwrite them"


def in_table(
    job: "ImportJob", chunk: "Chunk", error: StatementError, done: int
) -> DuplicateKeyError:
    """Return the error for a chunk that was refused because rows of it are there already.

    Args:
        job: The import.
        chunk: What was refused.
        error: What Spanner answered.
        done: Rows that are committed.
    """
    lines = f"lines {chunk.records[0].line} to {chunk.records[-1].line}"
    rest = f"{lines} are not written, {done:,} other rows are committed"
    there: list[tuple[int, list[Any]]] = []
    if job.options.mode is Mode.INSERT:
        with suppress(SpanctlError):  # the refusal stands, whether its line can be named or not
            there = _there(job, chunk)
    name = job.table.name
    if not there:
        unique = ", ".join(one.name for one in job.table.indexes if one.unique)
        what = f"an entry of a unique index ({unique})" if unique else "a primary key"
        msg = (
            f"a row in {lines} has {what} that is in {name}, or on another of them, already; {rest}"
        )
        hint = "" if unique else INSTEAD
        return DuplicateKeyError(msg, hint=hint, **error.details)
    place, key = there[0]
    line = chunk.records[place].line
    more = f", and {len(there) - 1:,} more of its chunk" if len(there) > 1 else ""
    columns = ", ".join(job.converter.key_columns)
    msg = f"line {line} has a primary key ({columns}) that {name} has already{more}; {rest}"
    found = DuplicateKeyError(msg, hint=INSTEAD, **error.details, line=line)
    found.quoted = f"line {line}: {job.converter.shown(key)}"
    return found


def _there(job: "ImportJob", chunk: "Chunk") -> list[tuple[int, list[Any]]]:
    keys = list(keyed(job.converter, (record.fields for record in chunk.records)))
    if not keys:
        return []
    table = job.table
    wanted = encoded_keys(key for _, key in keys)
    found = digested(job.converter, job.database.read(table.name, table.primary_key, wanted))
    return [(place, key) for place, key in keys if job.converter.digestible(key) in found]


def shown_at(job: "ImportJob", mark: "Mark") -> str:
    """Return the line and the key of one record, for the eyes of whoever has the file."""
    record = next(job.source.records(mark))
    found = next(keyed(job.converter, [record.fields]), None)
    return f"line {record.line}: {job.converter.shown(found[1])}" if found else ""
