"""From a result and a format to text on stdout."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from spanctl.printable import printable
from spanctl_cli.output import stdout
from spanctl_cli.output.model import Column, Format, Kind, Listing, Record, Shape
from spanctl_cli.output.values import dumps, jsonable, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

_BATCH = 200
_TO_QUOTE = re.compile(r'[",\r\n]')
_SHAPE: ContextVar[Shape] = ContextVar("shape", default=Shape())  # noqa: B039 - it is frozen


@contextlib.contextmanager
def shaped(shape: Shape) -> Iterator[None]:
    """Write what the block emits in this shape."""
    token = _SHAPE.set(shape)
    try:
        yield
    finally:
        _SHAPE.reset(token)


def emit(
    result: Listing | Record, output_format: Format | None = None, *, fields: str | None = None
) -> None:
    """Write a result to stdout.

    Args:
        result: What to write; a listing's rows are iterated once, and streamed by ``jsonl``,
            ``csv``, ``name`` and piped tables.
        output_format: The format; a table when left out.
        fields: Comma-separated names of the fields to show, as given to ``--fields``; those of
            the :class:`Shape` in force when left out.

    Raises:
        UsageError: ``fields`` names a field that the result lacks.
        SpanctlError: stdout can't be written.
    """
    shape = _SHAPE.get()
    chosen = output_format or Format.TABLE
    picked = picked_fields(fields if fields is not None else shape.fields)
    if picked is not None:
        result = result.picked(picked)
    elif chosen is Format.WIDE:
        result = result.widened()
    if chosen.is_table and stdout.stdout_is_terminal():
        from spanctl_cli.output.rendering import drawn

        stdout.write(drawn(result, header=shape.header))
        return
    lines = _LINES[chosen](result, shape)
    while batch := list(islice(lines, _BATCH)):
        stdout.write("".join(batch))


def stream(
    listing: Listing,
    output_format: Format | None,
    draw: "Callable[[Mapping[str, Any]], RenderableType]",
) -> None:
    """Write rows as they come: each at once, on a terminal drawn by ``draw``.

    Ends early when the reader of the pipe went away. JSON is one document, and so written last.
    """
    shape = _SHAPE.get()
    chosen = output_format or Format.TABLE
    picked = picked_fields(shape.fields)
    if picked is not None:
        listing = listing.picked(picked)
    elif chosen is Format.WIDE:
        listing = listing.widened()
    if chosen.is_table and picked is None and stdout.stdout_is_terminal():
        from spanctl_cli.output.rendering import drawn

        for row in listing.rows:
            stdout.write(drawn(replace(listing, rows=(), view=partial(_one, draw, row))))
        return
    for line in _LINES[chosen](listing, shape):
        stdout.write(line)
        if stdout.reader_gone():
            return


def _one(
    draw: "Callable[[Mapping[str, Any]], RenderableType]", row: Mapping[str, Any]
) -> "list[RenderableType]":
    return [draw(row)]


def picked_fields(fields: str | None) -> list[str] | None:
    """Return the names in the value of ``--fields``; None for all fields."""
    if fields is None:
        return None
    return [name.strip() for name in fields.split(",") if name.strip()]


def emit_event(schema: str, values: Mapping[str, Any], output_format: Format | None = None) -> None:
    """Write one event of a live command at once: a line under ``jsonl``, nothing under others."""
    if output_format is Format.JSONL:
        stdout.write(_json_line(schema, values))


def _schema(noun: str) -> str:
    return f"spanctl.{noun}/v1"


def _cells(columns: Sequence[Column], row: Mapping[str, Any]) -> dict[str, Any]:
    return {column.key: row.get(column.key) for column in columns}


def _json_line(schema: str, values: Mapping[str, Any]) -> str:
    line = dumps({"schema": _schema(schema), **values}, ascii_only=not stdout.holds_unicode())
    return f"{line}\n"


def document(result: Listing | Record) -> dict[str, Any]:
    """Return the versioned JSON document of a result."""
    return {"schema": _schema(result.schema), **_members(result)}


def _members(result: Listing | Record) -> dict[str, Any]:
    if isinstance(result, Listing):
        return {
            **{key: jsonable(value) for key, value in result.facts.items()},
            "items": [jsonable(_cells(result.columns, row)) for row in result.rows],
        }
    members: dict[str, Any] = jsonable(_cells(result.columns, result.values))
    for section in result.sections:
        content = _members(section.content)
        flat = isinstance(section.content, Listing) and not section.content.facts
        members[section.key] = content["items"] if flat else content
    return members


def _json(result: Listing | Record, _: Shape) -> Iterator[str]:
    yield dumps(document(result), indent=2, ascii_only=not stdout.holds_unicode()) + "\n"


def _jsonl(result: Listing | Record, _: Shape) -> Iterator[str]:
    if isinstance(result, Record):
        yield _json_line(result.schema, _members(result))
        return
    for row in result.rows:
        yield _json_line(result.schema, _cells(result.columns, row))


def _rows(result: Listing | Record) -> Iterable[Mapping[str, Any]]:
    return result.rows if isinstance(result, Listing) else (result.values,)


def _csv(result: Listing | Record, shape: Shape) -> Iterator[str]:
    """Write RFC 4180, where None is an empty field and empty text is quoted."""
    shown = printable if stdout.stdout_is_terminal() else str

    def line(cells: Iterable[Any]) -> str:
        return ",".join(_csv_cell(cell, shown) for cell in cells) + "\n"

    if shape.header:
        yield line(column.key for column in result.columns)
    for row in _rows(result):
        yield line(row.get(column.key) for column in result.columns)


def _csv_cell(value: Any, shown: Callable[[str], str]) -> str:  # noqa: ANN401 - a cell of any type
    cell = shown(plain(value))
    if value == "" or _TO_QUOTE.search(cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _name(result: Listing | Record, _: Shape) -> Iterator[str]:
    if not result.columns:
        return
    key = next((c.key for c in result.columns if c.kind is Kind.ID), result.columns[0].key)
    for row in _rows(result):
        yield f"{printable(plain(row.get(key)))}\n"


def _tabs(cells: Iterable[str]) -> str:
    return "\t".join(map(printable, cells)) + "\n"


def _table(result: Listing | Record, shape: Shape) -> Iterator[str]:
    columns = [column for column in result.columns if not column.extra]
    if isinstance(result, Listing):
        if shape.header:
            yield _tabs(column.key for column in columns)
        for row in result.rows:
            yield _tabs(plain(row.get(column.key)) for column in columns)
        return
    if shape.header:
        yield _tabs(("field", "value"))
    for column in columns:
        yield _tabs((column.key, plain(result.values.get(column.key))))
    for section in result.sections:
        yield f"\n{section.key}\n"
        yield from _table(section.content, shape)


_LINES = {
    Format.TABLE: _table,
    Format.WIDE: _table,
    Format.JSON: _json,
    Format.JSONL: _jsonl,
    Format.CSV: _csv,
    Format.NAME: _name,
}
