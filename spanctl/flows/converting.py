"""Fields of a file to values of a table's columns, or the reason why not, without the value."""

import difflib
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from spanctl.errors import UsageError
from spanctl.flows.reading import FileFormat
from spanctl.ledger.receipt import StatementKind
from spanctl.spanner.catalog import Column, Table
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.values import (
    TypeCode,
    check_length,
    encode_row,
    json_parser,
    text_parser,
    to_json,
)

_MAX_CHARACTERS = 2_621_440
_MAX_BYTES = 10_485_760


class Mode(StrEnum):
    """What an import does with rows that are already there."""

    INSERT = "insert"
    UPSERT = "upsert"
    UPDATE = "update"

    @property
    def kind(self) -> StatementKind:
        """The kind of mutation that writes a row."""
        return {
            Mode.INSERT: StatementKind.INSERT,
            Mode.UPSERT: StatementKind.INSERT_OR_UPDATE,
            Mode.UPDATE: StatementKind.UPDATE,
        }[self]


Convert = Callable[[Any], Any]


class Converter:
    """Converts the records of one file for one table.

    A field of a CSV is NULL when it is empty and its column may be NULL; an empty field of a NOT
    NULL STRING is the empty string. With ``null`` set, exactly that text is NULL, and an empty
    field is an empty string. In JSON Lines ``null`` is NULL.

    Attributes:
        columns: The table's names of the columns, in the file's order.
    """

    def __init__(
        self,
        table: Table,
        header: Sequence[str],
        *,
        mode: Mode = Mode.INSERT,
        file_format: FileFormat = FileFormat.CSV,
        null: str | None = None,
    ) -> None:
        """Match a header with a table.

        Raises:
            UsageError: The header names a column twice, or one that the table lacks or computes, or
                lacks one that must be written.
        """
        found = matched(table, header, mode)
        self.columns = tuple(column.name for column in found)
        make = _from_json if file_format is FileFormat.JSONL else _from_text
        self._converts: list[Convert] = [make(column, null) for column in found]
        places = {column.name: place for place, column in enumerate(found)}
        self._key = tuple(places[name] for name in table.primary_key if name in places)
        key_types = {found[place].type.code for place in self._key}
        self._plain_key = key_types <= {TypeCode.STRING, TypeCode.INT64}

    def values(self, fields: Sequence[Any]) -> list[Any]:
        """Return a row's values.

        Raises:
            ValueError: Some can't be; the reason names every such column, and no value.
        """
        try:
            return [convert(one) for convert, one in zip(self._converts, fields, strict=True)]
        except ValueError:
            raise ValueError(self._reasons(fields)) from None

    def key(self, row: Sequence[Any]) -> bytes:
        """Return bytes that are equal for equal primary keys."""
        if self._plain_key:
            return repr([row[place] for place in self._key]).encode("utf-8", "surrogatepass")
        return bytes(encode_row(_canonical(row[place]) for place in self._key).SerializeToString())

    def _reasons(self, fields: Sequence[Any]) -> str:
        reasons = []
        for name, convert, one in zip(self.columns, self._converts, fields, strict=True):
            try:
                convert(one)
            except ValueError as error:
                reasons.append(f"{name} {error}")
        return "; ".join(reasons)


def matched(table: Table, header: Sequence[str], mode: Mode) -> list[Column]:
    """Return the columns that a header names.

    Raises:
        UsageError: The table is the ledger's, or the header names a column twice, or one that the
            table lacks or computes, or lacks one that must be written.
    """
    if is_ledger(table.name):
        msg = f"{table.name} belongs to the ledger, nothing is imported into it"
        raise UsageError(msg)
    columns = [table.column(name) for name in header]
    if unknown := [name for name, one in zip(header, columns, strict=True) if one is None]:
        raise _unknown(table, unknown, header)
    found = [column for column in columns if column is not None]
    names = [column.name for column in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"the header names {', '.join(twice)} twice"
        raise UsageError(msg)
    if computed := [column.name for column in found if column.generated]:
        msg = f"{', '.join(computed)} of {table.name} can't be written: Spanner computes it"
        raise UsageError(msg, hint="leave the column out of the file")
    if foreign := [one for one in found if one.type.code == TypeCode.TYPE_CODE_UNSPECIFIED]:
        listed = ", ".join(f"{one.name} ({one.spanner_type})" for one in foreign)
        msg = f"columns of a type that can't be imported: {listed}"
        raise UsageError(msg, hint="leave the column out of the file")
    needed = [one.name for one in table.columns if one.required and mode is not Mode.UPDATE]
    automatic = {one.name for one in table.columns if one.default is not None or one.identity}
    keys = [name for name in table.primary_key if mode is Mode.UPDATE or name not in automatic]
    if missing := [name for name in dict.fromkeys([*keys, *needed]) if name not in names]:
        msg = f"the header lacks {', '.join(missing)}, which {table.name} needs"
        raise UsageError(msg, hint="add the column to the file")
    return found


def _unknown(table: Table, unknown: Sequence[str], header: Sequence[str]) -> UsageError:
    writable = {one.name.casefold(): one.name for one in table.columns if not one.generated}
    shown = ", ".join(repr(name) for name in unknown[:5]) + (" ..." if len(unknown) > 5 else "")  # noqa: PLR2004 - enough to see it
    near = difflib.get_close_matches(unknown[0].strip().casefold(), writable, n=1)
    if len(header) == 1 and (other := next((c for c in ";\t|" if c in header[0]), None)):
        hint = f"the file may be separated by {other!r}: pass --delimiter"
    elif near:
        hint = f"did you mean {writable[near[0]]}?"
    else:
        hint = f"{table.name} has: {', '.join(writable.values())}"
    return UsageError(f"{table.name} has no column {shown}", hint=hint)


def _limit(column: Column) -> int:
    return column.length or (_MAX_BYTES if _code(column) == TypeCode.BYTES else _MAX_CHARACTERS)


def _code(column: Column) -> int:
    kind = column.type
    return kind.array_element_type.code if kind.code == TypeCode.ARRAY else kind.code


def _sized(column: Column, parse: Convert) -> Convert:
    if _code(column) not in {TypeCode.STRING, TypeCode.BYTES}:
        return parse
    limit = _limit(column)

    def parse_and_check(value: Any) -> Any:  # noqa: ANN401 - what the column's type says
        parsed = parse(value)
        check_length(parsed, limit)
        return parsed

    return parse_and_check


def _from_text(column: Column, null: str | None) -> Convert:
    if column.type.code == TypeCode.STRING:
        return _string(column, null)
    parse = _sized(column, text_parser(column.type))
    marker = "" if null is None else null
    if column.nullable:
        return lambda text: None if text == marker else parse(text)

    def required(text: str) -> Any:  # noqa: ANN401 - what the column's type says
        if text == marker:
            raise ValueError(_NO_NULL)
        return parse(text)

    return required


_NO_NULL = "is NULL, which its column can't be"


def _string(column: Column, null: str | None) -> Convert:
    """Return the conversion of the most frequent type; the file's text was checked when decoded."""
    limit = _limit(column)
    marker = "" if null is None and column.nullable else null

    def string(text: str) -> str | None:
        if text == marker:
            if column_nullable:
                return None
            raise ValueError(_NO_NULL)
        if len(text) > limit:
            check_length(text, limit)
        return text

    column_nullable = column.nullable
    return string


def _from_json(column: Column, _null: str | None) -> Convert:
    parse = _sized(column, json_parser(column.type))
    nullable = column.nullable

    def convert(value: Any) -> Any:  # noqa: ANN401 - what the column's type says
        if value is not None:
            return parse(value)
        if nullable:
            return None
        raise ValueError(_NO_NULL)

    return convert


def _canonical(value: Any) -> Any:  # noqa: ANN401 - a value of a key
    """Give values that Spanner holds equal one form: 1.0 and 1, 0.0 and -0.0."""
    if isinstance(value, float):
        return value + 0.0
    plain = to_json(value)
    if isinstance(plain, str) and type(value).__name__ == "Decimal":
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return value
