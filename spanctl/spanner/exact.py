"""Exact values where the emulator's change stream is not: read again at the commit's own time.

The emulator drops fractions of seconds, shows a commit timestamp as the year 9999 and a NaN or an
infinity as NULL. Its rows can be read as they were for an hour, so they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from spanctl.errors import NotFoundError, StatementError
from spanctl.spanner.catalog import table as catalog_table
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.values import TypeCode, display

if TYPE_CHECKING:
    from spanctl.spanner.changes import RowChange
    from spanctl.spanner.client import Database

_INEXACT = frozenset({TypeCode.TIMESTAMP, TypeCode.FLOAT64, TypeCode.FLOAT32})
_TICK = timedelta(microseconds=1)

_Key = tuple[str, ...]
_Values = Mapping[str, Any]


def exact(
    database: "Database", rows: Sequence["RowChange"], moment: datetime
) -> tuple["RowChange", ...]:
    """Return the rows with TIMESTAMP and FLOAT columns as they were before and after ``moment``.

    Rows stay as they are where the past can't be read any more, or their key was inexact too.

    Raises:
        SpanctlError: The database could not be read.
    """
    exacts: dict[str, tuple[dict[_Key, _Values], dict[_Key, _Values]]] = {}
    for name in dict.fromkeys(row.table for row in rows):
        ours = [row for row in rows if row.table == name]
        exacts[name] = _before_and_after(database, name, ours, moment)
    return tuple(_mended(row, *exacts[row.table]) for row in rows)


def _before_and_after(
    database: "Database", name: str, rows: Iterable["RowChange"], moment: datetime
) -> tuple[dict[_Key, _Values], dict[_Key, _Values]]:
    try:
        table = catalog_table(database, name)
    except NotFoundError:  # dropped since
        return {}, {}
    columns = [column.name for column in table.columns if column.type.code in _INEXACT]
    columns = [column for column in columns if column not in table.primary_key]
    if not columns:
        return {}, {}
    read = _Reader(database, name, table.primary_key, columns)
    rows = list(rows)
    try:
        return (
            read(moment - _TICK, [row.keys for row in rows if row.before]),
            read(moment, [row.keys for row in rows if row.after]),
        )
    except StatementError:  # the table changed since, or its past is gone: the stream's values stay
        return {}, {}


class _Reader:
    def __init__(
        self, database: "Database", table: str, primary_key: Sequence[str], columns: Sequence[str]
    ) -> None:
        self._database = database
        self._table = table
        self._primary_key = primary_key
        self._columns = columns

    def __call__(self, moment: datetime, keys: Sequence[_Values]) -> dict[_Key, _Values]:
        if not keys:
            return {}
        names = (*self._primary_key, *self._columns)
        wanted = KeySet(keys=[[key[name] for name in self._primary_key] for key in keys])
        found: dict[_Key, _Values] = {}
        for row in self._database.read(self._table, names, wanted, read_timestamp=moment):
            values = dict(zip(names, row, strict=True))
            key = _key({name: values.pop(name) for name in self._primary_key})
            found[key] = values
        return found


def _key(keys: _Values) -> _Key:
    return tuple(f"{name}={display(keys[name])}" for name in sorted(keys))


def _mended(
    row: "RowChange", before: Mapping[_Key, _Values], after: Mapping[_Key, _Values]
) -> "RowChange":
    key = _key(row.keys)
    return replace(
        row,
        before=_overlaid(row.before, before.get(key, {})),
        after=_overlaid(row.after, after.get(key, {})),
    )


def _overlaid(values: _Values | None, exacts: _Values) -> _Values | None:
    if values is None:
        return None
    return {name: exacts.get(name, value) for name, value in values.items()}
