"""Random transactions on random tables, by mutations and by DML, and what they really did."""

import base64
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from google.cloud.spanner_v1 import KeyRange

from spanctl.spanner.client import Database
from spanctl.spanner.keysets import KeySet, encoded_keys
from spanctl.spanner.receipts import COMMIT_TIMESTAMP
from spanctl.spanner.values import to_json
from tests.campaign.trail_schemas import Table

_TICK: Final = timedelta(microseconds=1)

Dice = random.Random
Write = Callable[[Any, Table, Dice], None]


def _keys(table: Table, *keys: Mapping[str, Any]) -> KeySet:
    return encoded_keys([key[name] for name in table.key] for key in keys)


def _whole(table: Table, dice: Dice) -> dict[str, Any]:
    row = {**table.some_key(dice), **table.some_values(dice)}
    stamped = [name for name, kind in table.columns.items() if kind == "TIMESTAMP"]
    if stamped and dice.random() < 0.5:
        row[dice.choice(stamped)] = COMMIT_TIMESTAMP
    return row


def _insert(txn: Any, table: Table, dice: Dice) -> None:
    row = _whole(table, dice)
    txn.insert(table.name, list(row), [list(row.values())])


def _upsert(txn: Any, table: Table, dice: Dice) -> None:
    row = _whole(table, dice)
    txn.insert_or_update(table.name, list(row), [list(row.values())])


def _replace(txn: Any, table: Table, dice: Dice) -> None:
    row = {**table.some_key(dice), **table.some_values(dice, whole=False)}
    txn.replace(table.name, list(row), [list(row.values())])


def _part(txn: Any, table: Table, dice: Dice) -> None:
    row = {**table.some_key(dice), **table.some_values(dice, whole=False)}
    txn.insert_or_update(table.name, list(row), [list(row.values())])


def _delete(txn: Any, table: Table, dice: Dice) -> None:
    txn.delete(table.name, _keys(table, *(table.some_key(dice) for _ in range(dice.randrange(3)))))


def _delete_range(txn: Any, table: Table, dice: Dice) -> None:
    first = next(iter(table.key))
    part = table.some_key(dice)[first]
    # Google's client sends BYTES as they are.
    bound = [base64.b64encode(part).decode() if isinstance(part, bytes) else part]
    txn.delete(table.name, KeySet(ranges=[KeyRange(start_closed=bound, end_closed=bound)]))


def _again(txn: Any, table: Table, dice: Dice) -> None:
    """Delete a row, if it is there, and insert it with the same values or others."""
    row = _whole(table, dice)
    if dice.random() < 0.5:
        names = [*table.key, *table.columns]
        if held := list(txn.read(table.name, names, _keys(table, row))):
            row = dict(zip(names, held[0], strict=True))
    txn.delete(table.name, _keys(table, row))
    txn.insert(table.name, list(row), [list(row.values())])


def _update_nothing(txn: Any, table: Table, dice: Dice) -> None:
    column = dice.choice(list(table.columns))
    txn.execute_update(f"UPDATE {table.quoted} AS r SET r.`{column}` = r.`{column}` WHERE true")  # noqa: S608 - names of ours


def _update(txn: Any, table: Table, dice: Dice) -> None:
    column = dice.choice(list(table.columns))
    first = next(iter(table.key))
    sql = f"UPDATE {table.quoted} AS r SET r.`{column}` = NULL WHERE r.`{first}` = @key"  # noqa: S608
    key, kind = table.some_key(dice)[first], table.key[first]
    txn.execute_update(sql, {"key": key}, _types(kind))


def _delete_dml(txn: Any, table: Table, dice: Dice) -> None:
    first = next(iter(table.key))
    if dice.random() < 0.2:
        txn.execute_update(f"delete from {table.quoted} where false")  # noqa: S608
        return
    sql = f"DELETE FROM {table.quoted} AS r WHERE r.`{first}` = @key"  # noqa: S608
    txn.execute_update(sql, {"key": table.some_key(dice)[first]}, _types(table.key[first]))


def _insert_dml(txn: Any, table: Table, dice: Dice) -> None:
    key = table.some_key(dice)
    verb = dice.choice(["INSERT INTO", "insert or update into", "INSERT OR IGNORE INTO", "INSERT"])
    names = ", ".join(f"`{name}`" for name in key)
    places = ", ".join(f"@k{number}" for number in range(len(key)))
    values = {f"k{number}": value for number, value in enumerate(key.values())}
    types = {f"k{number}": _types(kind)["key"] for number, kind in enumerate(table.key.values())}
    txn.execute_update(f"{verb} {table.quoted} ({names}) VALUES ({places})", values, types)


def _read(txn: Any, table: Table, dice: Dice) -> None:
    txn.execute_sql(f"SELECT COUNT(*) FROM {table.quoted} -- {dice.random()}")  # noqa: S608


def _types(kind: str) -> dict[str, Any]:
    from spanctl.spanner.types import type_from_name

    return {"key": type_from_name(kind)}


_WRITES: Final[Sequence[Write]] = (
    *(_insert, _insert, _upsert, _upsert, _upsert, _replace, _part, _delete, _delete_range),
    *(_again, _again, _update_nothing, _update, _delete_dml, _insert_dml, _insert_dml, _read),
)


def transaction(made: Sequence[Table], dice: Dice) -> Callable[[Any], None]:
    """Return the body of a random transaction; run again, it does the same."""
    seed = dice.random()
    writes = [
        (dice.choice(_WRITES), dice.choice(made)) for _ in range(dice.choice([1, 1, 2, 3, 4]))
    ]

    def body(txn: Any) -> None:
        own = random.Random(seed)  # noqa: S311 - no secret
        for write, table in writes:
            write(txn, table, own)

    return body


def with_null(txn: Any, table: Table, dice: Dice) -> None:
    """Write a NULL into an array, where there is one that can't bear it."""
    row = _whole(table, dice)
    for name, kind in table.columns.items():
        if kind.startswith("ARRAY") and "INT64" not in kind:
            row[name] = [None]
    txn.insert_or_update(table.name, list(row), [list(row.values())])


def has_frail_array(table: Table) -> bool:
    """Tell whether a NULL in one of its arrays ends an emulator that watches it."""
    return any(one.startswith("ARRAY") and "INT64" not in one for one in table.columns.values())


# -- the truth


@dataclass(frozen=True)
class Row:
    """What really happened to one row: its columns before and after, as comparable texts."""

    table: str
    key: tuple[str, ...]
    before: Mapping[str, str] | None
    after: Mapping[str, str] | None

    @property
    def kind(self) -> str:
        """What that is called."""
        if self.before is None:
            return "INSERT"
        return "DELETE" if self.after is None else "UPDATE"


def text(value: Any) -> str:
    """Return a value so that two which Spanner tells apart differ."""
    return repr(to_json(value))


def truth(database: Database, made: Sequence[Table], moment: datetime) -> dict[Any, Row]:
    """Return what a commit changed, by reading every table right before it and right after."""
    found: dict[Any, Row] = {}
    for table in made:
        old, new = (_rows(database, table, when) for when in (moment - _TICK, moment))
        for key in {*old, *new}:
            if old.get(key) != new.get(key):
                row = Row(table.name, key, old.get(key), new.get(key))
                found[table.name, key] = row
    return found


def _rows(database: Database, table: Table, moment: datetime) -> dict[Any, dict[str, str]]:
    given = ["given"] if any("`given`" in one for one in table.more) else []
    names = [*table.key, *table.columns, *given]
    found = {}
    for row in database.read(table.name, names, KeySet(all_=True), read_timestamp=moment):
        values = {name: text(value) for name, value in zip(names, row, strict=True)}
        key = tuple(values.pop(name) for name in table.key)
        found[key] = values
    return found
