"""Rows as they were right before and right after a commit, read again at those times.

A row that was deleted and inserted again, or replaced, comes from the stream as an INSERT: only a
read of the past tells it from a new one. The emulator's stream also drops fractions of seconds (in
keys, too), shows a commit timestamp as the year 9999 and a NaN or an infinity as NULL.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from spanctl.errors import StatementError
from spanctl.spanner.changes import ModType, RowChange
from spanctl.spanner.keysets import KeySet, encoded_keys
from spanctl.spanner.values import to_json

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_TICK: Final = timedelta(microseconds=1)
_INEXACT: Final = ("TIMESTAMP", "FLOAT64", "FLOAT32")
_KEYS: Final = 1000  # in one read: well below what a request may hold

_Key = tuple[str, ...]
_Row = dict[str, Any]
_Rows = dict[_Key, _Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """The rows that a transaction really changed.

    Attributes:
        rows: Those, each as what happened to it.
        unchanged: So many were written as they had been.
        emptied: Tables that lost rows for certain or perhaps, if only to get them back.
        unsure: Of these tables nobody can tell any more whether rows were new or replaced others.
    """

    rows: tuple[RowChange, ...]
    unchanged: int = 0
    emptied: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()


def exact(
    database: "Database",
    rows: Sequence[RowChange],
    moment: datetime,
    keys: Mapping[str, Mapping[str, str]],
    *,
    replacing: bool,
) -> Exact:
    """Return what the stream's rows of one transaction come to.

    Args:
        database: Where to read the past.
        rows: The rows as the stream tells them.
        moment: The commit timestamp.
        keys: Table to the columns of its primary key then, each with its type's name; without
            those that can't be read any more.
        replacing: Whether an INSERT may be of a row that was there: something was deleted, or
            replaced.

    Raises:
        SpanctlError: The database could not be read.
    """
    changed: list[RowChange] = []
    unsure = set()
    emptied = set()
    for name in dict.fromkeys(row.table for row in rows):
        ours = [row for row in rows if row.table == name]
        doubtful = replacing and any(row.mod_type is ModType.INSERT for row in ours)
        if database.target.is_emulated or doubtful:
            try:
                ours, again = _reread(database, name, ours, moment, keys.get(name))
            except _UnreadableError:
                again = doubtful
                unsure |= {name} if doubtful else set()
            emptied |= {name} if again else set()
        emptied |= {name} if any(row.mod_type is ModType.DELETE for row in ours) else set()
        changed += ours
    kept = tuple(row for row in changed if not is_same(row))
    return Exact(
        rows=kept,
        unchanged=len(changed) - len(kept),
        emptied=frozenset(emptied),
        unsure=frozenset(unsure),
    )


def is_same(row: RowChange) -> bool:
    """Tell whether a row was written as it had been."""
    if row.before is None or row.after is None:
        return False
    return all(
        name in row.before and canonical(row.before[name]) == canonical(value)
        for name, value in row.after.items()
    )


def canonical(value: Any) -> str:  # noqa: ANN401 - a value of any Spanner type
    """Return a text that is the same for values of one column that Spanner holds for the same.

    NaN equals NaN, 0.0 differs from -0.0, and JSON is compared by its text.
    """
    return repr(to_json(value))


class _UnreadableError(Exception):
    """The past can't be read: it is gone, or the table is."""


def _reread(
    database: "Database",
    table: str,
    rows: Sequence[RowChange],
    moment: datetime,
    key: Mapping[str, str] | None,
) -> tuple[list[RowChange], bool]:
    """Return a table's rows as they were; and whether one of its INSERTs replaced a row."""
    if key is None:
        raise _UnreadableError
    names = [name for row in rows for name in (row.after or row.before or {})]
    read = _Reader(database, table, tuple(key), tuple(dict.fromkeys(names)))
    emulated = database.target.is_emulated
    if emulated and any(kind.startswith(_INEXACT) for kind in key.values()):
        return _compared(table, tuple(key), rows, read(moment - _TICK, None), read(moment, None))
    wanted = [row for row in rows if emulated or row.mod_type is ModType.INSERT]
    before = read(moment - _TICK, [row.keys for row in wanted])
    after = read(moment, [row.keys for row in wanted]) if emulated else None
    told = [
        _told(row, before, after, tuple(key)) if emulated or row.mod_type is ModType.INSERT else row
        for row in rows
    ]
    pairs = zip(rows, told, strict=True)
    again = any(
        old.mod_type is ModType.INSERT and new.mod_type is ModType.UPDATE for old, new in pairs
    )
    return told, again


class _Reader:
    def __init__(
        self, database: "Database", table: str, key: Sequence[str], columns: Sequence[str]
    ) -> None:
        self._database = database
        self._table = table
        self._key = key
        self._names = (*key, *(name for name in columns if name not in key))

    def __call__(self, moment: datetime, keys: Sequence[Mapping[str, Any]] | None) -> _Rows:
        """Read rows by key, or all of them."""
        if keys is None:
            return self._read(moment, KeySet(all_=True))
        found: _Rows = {}
        for start in range(0, len(keys), _KEYS):
            some = keys[start : start + _KEYS]
            wanted = encoded_keys([row[name] for name in self._key] for row in some)
            found |= self._read(moment, wanted)
        return found

    def _read(self, moment: datetime, keys: KeySet) -> _Rows:
        try:
            rows = self._database.read(self._table, self._names, keys, read_timestamp=moment)
            found = [dict(zip(self._names, row, strict=True)) for row in rows]
        except StatementError:
            raise _UnreadableError from None
        return {_key(row, self._key): row for row in found}


def _key(row: Mapping[str, Any], key: Iterable[str]) -> _Key:
    return tuple(canonical(row[name]) for name in key)


def _told(row: RowChange, before: _Rows, after: _Rows | None, key: Sequence[str]) -> RowChange:
    """Return one of the stream's rows by what was there before, and after where that was read."""
    place = _key(row.keys, key)
    names = row.after if row.after is not None else row.before or {}
    old = before.get(place)
    if after is None:
        if old is None:
            return row
        return replace(row, mod_type=ModType.UPDATE, before={name: old[name] for name in names})
    new = after.get(place)
    if old is None and new is None:
        return row
    return RowChange(row.table, _kind(old, new), row.keys, _part(old, names), _part(new, names))


def _kind(old: _Row | None, new: _Row | None) -> ModType:
    if old is None:
        return ModType.INSERT
    return ModType.DELETE if new is None else ModType.UPDATE


def _part(row: _Row | None, names: Iterable[str]) -> dict[str, Any] | None:
    return None if row is None else {name: row[name] for name in names}


def _compared(
    table: str, key: Sequence[str], rows: Sequence[RowChange], before: _Rows, after: _Rows
) -> tuple[list[RowChange], bool]:
    """Return what differs between two states of a whole table whose keys the stream blurs.

    As many rows as the stream tells of beyond those were written as they had been.
    """
    names = [name for row in rows for name in (row.after or row.before or {})]
    found = []
    for place in dict.fromkeys([*before, *after]):
        old, new = before.get(place), after.get(place)
        whole = old or new or {}
        keys = {name: whole[name] for name in key}
        row = RowChange(table, _kind(old, new), keys, _part(old, names), _part(new, names))
        if not is_same(row):
            found.append(row)
    same = [replace(row, mod_type=ModType.UPDATE, before={}, after={}) for row in rows]
    again = any(row.mod_type is ModType.INSERT for row in rows)
    return [*found, *same[: len(rows) - len(found)]], again
