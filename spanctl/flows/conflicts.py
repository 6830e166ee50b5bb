"""Keys that are there already, told by the line of the file; the key itself only to its owner."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spanctl.errors import DuplicateKeyError, SpanctlError, StatementError
from spanctl.flows.columns import Mode
from spanctl.flows.converting import OMITTED, digest
from spanctl.flows.rowbatches import digested, keyed
from spanctl.spanner.keysets import encoded_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spanctl.flows.cutting import Chunk
    from spanctl.flows.importjob import ImportJob
    from spanctl.flows.reading import Mark, Record
    from spanctl.spanner.catalog import Index

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
        entry: _Entry | None = None
        with suppress(SpanctlError):
            entry = _entry(job, chunk)
        if entry is not None:
            return _told_entry(job, entry, rest, error)
        unique = ", ".join(one.name for one in job.table.indexes if one.unique)
        what = f"an entry of a unique index ({unique})" if unique else "a primary key"
        msg = (
            f"a row in {lines} has {what} that is in {name}, or on another of them, already; {rest}"
        )
        # Where Spanner makes a part of the key, those modes have nothing to look up.
        whole = len(job.converter.key_columns) == len(job.table.primary_key)
        return DuplicateKeyError(msg, hint=INSTEAD if whole and not unique else "", **error.details)
    place, key = there[0]
    line = chunk.records[place].line
    more = f", and {len(there) - 1:,} more of its chunk" if len(there) > 1 else ""
    columns = ", ".join(job.converter.key_columns)
    msg = f"line {line} has a primary key ({columns}) that {name} has already{more}; {rest}"
    found = DuplicateKeyError(msg, hint=INSTEAD, **error.details, line=line)
    found.quoted = f"line {line}: {job.converter.shown(key)}"
    return found


@dataclass(frozen=True, slots=True)
class _Entry:
    """A row whose entry of a unique index is another row's.

    Attributes:
        line: Its line.
        index: The index.
        key: The index's key.
        first: The line of the other row; None where it is in the table.
    """

    line: int
    index: "Index"
    key: list[Any]
    first: int | None


def _told_entry(
    job: "ImportJob", entry: _Entry, rest: str, error: StatementError
) -> DuplicateKeyError:
    columns = ", ".join(entry.index.columns)
    whose = f"{job.table.name} has" if entry.first is None else f"line {entry.first} has"
    msg = (
        f"line {entry.line} has an entry of a unique index ({entry.index.name}: {columns})"
        f" that {whose} already; {rest}"
    )
    found = DuplicateKeyError(msg, **error.details, line=entry.line)
    found.quoted = f"line {entry.line}: {job.converter.shown(entry.key, entry.index.columns)}"
    return found


def _entry(job: "ImportJob", chunk: "Chunk") -> _Entry | None:
    """Return the first such row of a chunk, of the indexes whose columns are all in the file."""
    left_out: set[int] = set()
    if job.options.mode is Mode.INSERT_ABSENT:
        left_out = {place for place, _ in _there(job, chunk)}
    rows = [
        (record.line, row)
        for place, record in enumerate(chunk.records)
        if place not in left_out and (row := _row(job, record)) is not None
    ]
    found = (
        _entry_of(job, index, rows)
        for index in job.table.indexes
        if index.unique and set(index.columns) <= set(job.converter.columns)
    )
    return min((one for one in found if one), key=lambda one: one.line, default=None)


def _row(job: "ImportJob", record: "Record") -> list[Any] | None:
    if record.fields is None:
        return None
    try:
        return job.converter.values(record.fields)
    except ValueError:
        return None


def _entry_of(
    job: "ImportJob", index: "Index", rows: "Sequence[tuple[int, list[Any]]]"
) -> _Entry | None:
    table, converter = job.table, job.converter
    places = [converter.columns.index(name) for name in index.columns]
    keys = [(line, [row[place] for place in places], converter.key_of(row)) for line, row in rows]
    keys = [
        (line, key, own)
        for line, key, own in keys
        if OMITTED not in key and not (index.null_filtered and None in key)
    ]
    if not keys:
        return None
    wanted = encoded_keys({digest(key): key for _, key, _ in keys}.values())
    columns = [*index.columns, *table.primary_key]
    width, owners = len(index.columns), dict[bytes, tuple[bytes | None, int | None]]()
    for row in job.database.read(table.name, columns, wanted, index=index.name):
        owners[digest(row[:width])] = digest(row[width:]), None
    for line, key, own in keys:
        mine = None if own is None else digest(own)
        owner, first = owners.setdefault(digest(key), (mine, line))
        if first != line and (owner is None or owner != mine):
            return _Entry(line, index, key, first)
    return None


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
