"""Fields of a file to values of a table's columns, or the reason why not, without the value."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from spanctl.errors import UsageError
from spanctl.flows.columns import Mode, automatic, matched, needed, refuse_missing, writable
from spanctl.flows.reading import EMPTY_TEXT, FileFormat
from spanctl.spanner.catalog import Column, Table
from spanctl.spanner.values import (
    TypeCode,
    check_length,
    display,
    encode_row,
    json_parser,
    text_parser,
    to_json,
)

__all__ = ["OMITTED", "Converter", "Mode"]

_MAX_CHARACTERS = 2_621_440
_MAX_BYTES = 10_485_760
_MOST_SHAPES = 1024
_LONGEST_KEY = 200  # characters of a key, or of names, that are shown

OMITTED: Final = object()
"""In a row of JSON Lines, the column that the line leaves out: it is not written."""

Convert = Callable[[Any], Any]


class Converter:
    """Converts the records of one file for one table.

    A field of a CSV is NULL when it is empty and its column may be NULL; an empty field of a NOT
    NULL STRING is the empty string. With ``null`` set, exactly that text is NULL, and an empty
    field is an empty string. EMPTY_TEXT is an empty STRING or BYTES, and else an empty field.

    In JSON Lines ``null`` is NULL, and each line names its columns itself. One that a line leaves
    out is not written: an insert gives it its DEFAULT, or NULL; in a row that is there it stays as
    it is. With ``omitted_null`` it is NULL wherever it may be.

    Attributes:
        columns: What may be written: of a CSV the columns of its header; of JSON Lines all that
            can be written, those of its first line first.
        named: The columns of the header, or of the first line.
        key_columns: Those of the primary key that are among them.
        sparse: Whether rows may leave columns out.
    """

    def __init__(  # noqa: PLR0913 - how a file is read
        self,
        table: Table,
        header: Sequence[str],
        *,
        mode: Mode = Mode.INSERT,
        file_format: FileFormat = FileFormat.CSV,
        null: str | None = None,
        omitted_null: bool = False,
    ) -> None:
        """Match a header with a table.

        Raises:
            UsageError: The header names a column twice, or one that the table lacks or computes, or
                lacks one that must be written; or an option is for another format.
        """
        found = matched(table, header)
        self.named = tuple(column.name for column in found)
        needs = needed(table, mode)
        self.sparse = file_format is FileFormat.JSONL
        if self.sparse:
            found += [one for one in writable(table) if one.name not in self.named]
            make: Callable[[Column, str | None], Convert] = _from_json
        else:
            if omitted_null:
                msg = "only lines of JSON Lines leave keys out"
                raise UsageError(msg, hint="leave --omitted-null out")
            refuse_missing(table, found, mode)
            make = _from_text
        self.columns = tuple(column.name for column in found)
        self._converts: list[Convert] = [make(column, null) for column in found]
        places = {column.name: place for place, column in enumerate(found)}
        self._key = tuple(places[name] for name in table.primary_key if name in places)
        self.key_columns = tuple(self.columns[place] for place in self._key)
        self._whole_key = len(self._key) == len(table.primary_key)
        key_types = {found[place].type.code for place in self._key}
        self._plain_key = key_types <= {TypeCode.STRING, TypeCode.INT64}
        self._lines = _Lines(table, found, needs, nulls=omitted_null)

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that are written by the rows so far; of a CSV those of its header."""
        if not self.sparse:
            return self.columns
        return tuple(self.columns[place] for place in sorted(self._lines.used))

    def values(self, fields: Sequence[str] | dict[str, Any]) -> list[Any]:
        """Return a row's values in the order of the columns, or OMITTED.

        Raises:
            ValueError: Some can't be; the reason names every such column, and no value.
        """
        if isinstance(fields, dict):
            places, row = self._lines.row(fields)
            try:
                for place, value in zip(places, fields.values(), strict=True):
                    row[place] = self._converts[place](value)
            except ValueError:
                raise ValueError(self._reasons(places, fields.values())) from None
            return row
        try:
            return [convert(one) for convert, one in zip(self._converts, fields, strict=True)]
        except ValueError:
            raise ValueError(self._reasons(range(len(fields)), fields)) from None

    def key_of(self, row: Sequence[Any]) -> list[Any] | None:
        """Return a row's primary key; None where the row leaves a part of it to Spanner."""
        key = [row[place] for place in self._key]
        return key if self._whole_key and OMITTED not in key else None

    def digestible(self, key: Sequence[Any]) -> bytes:
        """Return bytes that are equal for equal primary keys."""
        if self._plain_key:
            return repr(key).encode("utf-8", "surrogatepass")
        return digest(key)

    def shown(self, key: Sequence[Any], columns: Sequence[str] | None = None) -> str:
        """Return a key with its columns, the primary one's by default, for who has the file."""
        named = zip(self.key_columns if columns is None else columns, key, strict=True)
        parts = (f"{name} = {display(value)}" for name, value in named)
        text = ", ".join(parts)
        return text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]} ..."

    def _reasons(self, places: Iterable[int], fields: Iterable[Any]) -> str:
        reasons = []
        for place, one in zip(places, fields, strict=True):
            try:
                self._converts[place](one)
            except ValueError as error:
                reasons.append(f"{self.columns[place]} {error}")
        return "; ".join(reasons)


class _Lines:
    """What the keys of JSON objects stand for: worked out once for all lines with the same keys."""

    def __init__(
        self, table: Table, columns: Sequence[Column], needs: Sequence[str], *, nulls: bool
    ) -> None:
        by_name = {one.name: one for one in table.columns}
        self._table = table
        self._places = {one.name.casefold(): place for place, one in enumerate(columns)}
        self._needs = [
            name for name in needs if automatic(by_name[name]) or not by_name[name].nullable
        ]
        self._blank = [_omitted(one, table, nulls=nulls) for one in columns]
        self._known: dict[tuple[str, ...], tuple[int, ...]] = {}
        self.used = {place for place, value in enumerate(self._blank) if value is not OMITTED}

    def row(self, found: Mapping[str, Any]) -> tuple[tuple[int, ...], list[Any]]:
        """Return the places of an object's members, and the row that the others make.

        Raises:
            ValueError: A member is no column, or one twice; or a column is missing.
        """
        names = tuple(found)
        places = self._known.get(names)
        if places is None:
            places = self._place(names)
            self.used.update(places)
            if len(self._known) < _MOST_SHAPES:
                self._known[names] = places
        return places, self._blank.copy()

    def _place(self, names: tuple[str, ...]) -> tuple[int, ...]:
        table, folded = self._table.name, [name.casefold() for name in names]
        if unknown := [name for name in folded if name not in self._places]:
            listed = ", ".join(sorted(name for name in names if name.casefold() in unknown))
            msg = f"has {listed[:_LONGEST_KEY]}, which {table} lacks or computes"
            raise ValueError(msg)
        if len({*folded}) < len(folded):
            msg = "names a column twice"
            raise ValueError(msg)
        if missing := [name for name in self._needs if name.casefold() not in folded]:
            msg = f"lacks {', '.join(missing)}, which {table} needs"
            raise ValueError(msg)
        return tuple(self._places[name] for name in folded)


def _omitted(column: Column, table: Table, *, nulls: bool) -> Any:  # noqa: ANN401 - None, or OMITTED
    if not column.nullable:
        return OMITTED
    if column.name in table.primary_key:
        return OMITTED if automatic(column) else None
    return None if nulls else OMITTED


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
    if column.nullable and column.type.code == TypeCode.BYTES:
        return lambda text: None if text == marker and text is not EMPTY_TEXT else parse(text)
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
        if text == marker and text is not EMPTY_TEXT:
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


def digest(values: Iterable[Any]) -> bytes:
    """Return bytes that are equal for values that Spanner holds equal."""
    return bytes(encode_row(map(_canonical, values)).SerializeToString())


def _canonical(value: Any) -> Any:  # noqa: ANN401 - a value of a key
    """Give values that Spanner holds equal one form: 1.0 and 1, 0.0 and -0.0."""
    if isinstance(value, float):
        return value + 0.0
    plain = to_json(value)
    if isinstance(plain, str) and type(value).__name__ == "Decimal":
        plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
        return "0" if plain == "-0" else plain
    return value
