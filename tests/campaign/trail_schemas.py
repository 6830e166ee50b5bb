"""Random tables: interleaved, referring, generated, defaulting, in schemas, with hostile names."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from spanctl.spanner.values import JsonObject

_NAMES: Final = ("order", "accounts", "select", "Items", "group", "ledger", "from", "Lines", "by")
_COLUMNS: Final = ("v", "select", "Group", "note", "order", "amount", "hash", "limit")
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)

Dice = random.Random


def _float(dice: Dice) -> float:
    return dice.choice([0.5, -0.0, 0.0, math.nan, math.inf, -math.inf, dice.random()])


def _moment(dice: Dice) -> datetime:
    return _EPOCH + timedelta(microseconds=dice.choice([0, 1, 2, 1_000_000]))


def _text(dice: Dice) -> str:
    return dice.choice(["", "NULL", "null", "ü\n'\"`", "x" * dice.randrange(4)])


def _list(make: Callable[[Dice], Any]) -> Callable[[Dice], Any]:
    return lambda dice: [make(dice) for _ in range(dice.randrange(3))]


MAKERS: Final[Mapping[str, Callable[[Dice], Any]]] = {
    "INT64": lambda dice: dice.choice([0, -1, 2**62, dice.randrange(100)]),
    "STRING(MAX)": _text,
    "FLOAT64": _float,
    "TIMESTAMP": _moment,
    "BOOL": lambda dice: dice.random() < 0.5,
    "BYTES(MAX)": lambda dice: dice.choice([b"", b"\x00\xff", b"NULL"]),
    "NUMERIC": lambda dice: Decimal(dice.randrange(10**6)).scaleb(-9),
    "DATE": lambda dice: date(2026, 1, 1 + dice.randrange(28)),
    "JSON": lambda dice: JsonObject({"a": [dice.randrange(9), None]}),
    "ARRAY<INT64>": lambda dice: [dice.choice([None, 1, 2]) for _ in range(dice.randrange(3))],
    "ARRAY<STRING(MAX)>": _list(_text),
    "ARRAY<FLOAT64>": _list(_float),
    "ARRAY<TIMESTAMP>": _list(_moment),
    "ARRAY<BYTES(MAX)>": _list(lambda dice: dice.choice([b"", b"\x01"])),
}
"""Type to what makes a value of it."""

_KEYS: Final[Mapping[str, tuple[Any, ...]]] = {
    "INT64": (1, 2, 3, 4),
    "STRING(MAX)": ("a", "NULL", "", "ü"),
    "DATE": (date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)),
    "BYTES(MAX)": (b"\x00", b"\xff", b"a"),
    "TIMESTAMP": tuple(_EPOCH + timedelta(microseconds=one) for one in (0, 1, 2, 1_000_000)),
    "FLOAT64": (0.5, math.nan, math.inf, -1.5),
}
"""Type to the few values that keys have, so that they meet."""
_COMMON: Final = ("INT64", "INT64", "INT64", "STRING(MAX)")


@dataclass
class Table:
    """One random table.

    Attributes:
        name: Its name, with its schema in front.
        key: The columns of its key to their types.
        columns: Those that can be written besides, to their types.
        more: DDL of columns that can't be written, or have a default.
        parent: The table that it is interleaved in.
        refers: The column by which it refers to another table, and that table.
        cascade: Whether deletes in those come along.
    """

    name: str
    key: dict[str, str]
    columns: dict[str, str]
    more: list[str] = field(default_factory=list)
    parent: "Table | None" = None
    refers: "tuple[str, Table] | None" = None
    cascade: bool = True

    @property
    def quoted(self) -> str:
        """The name as SQL."""
        return ".".join(f"`{part}`" for part in self.name.split("."))

    @property
    def constraint(self) -> str:
        """The name of its foreign key."""
        return f"refers_{self.name.rpartition('.')[2]}"

    @property
    def ddl(self) -> str:
        """What creates it."""
        lines = [f"`{name}` {kind}" for name, kind in self.key.items()]
        for name, kind in self.columns.items():
            option = " OPTIONS (allow_commit_timestamp = true)" if kind == "TIMESTAMP" else ""
            lines.append(f"`{name}` {kind}{option}")
        lines += self.more
        rule = " ON DELETE CASCADE" if self.cascade else ""
        if self.refers:
            column, other = self.refers
            (theirs,) = other.key
            named = f"CONSTRAINT {self.constraint} FOREIGN KEY (`{column}`)"
            lines.append(f"{named} REFERENCES {other.quoted} (`{theirs}`){rule}")
        key = ", ".join(f"`{name}`" for name in self.key)
        inside = f", INTERLEAVE IN PARENT {self.parent.quoted}{rule}" if self.parent else ""
        return f"CREATE TABLE {self.quoted} ({', '.join(lines)}) PRIMARY KEY ({key}){inside}"

    def some_key(self, dice: Dice) -> dict[str, Any]:
        """Return one of its few keys."""
        return {name: dice.choice(_KEYS[kind]) for name, kind in self.key.items()}

    def some_values(self, dice: Dice, *, whole: bool = True) -> dict[str, Any]:
        """Return values for all of its columns, or for some."""
        names = [name for name in self.columns if whole or dice.random() < 0.5]
        return {name: self.some_value(dice, name) for name in names}

    def some_value(self, dice: Dice, column: str) -> Any:
        """Return a value for a column."""
        if self.refers and self.refers[0] == column:
            return dice.choice([None, *_KEYS[self.columns[column]][:3]])
        return None if dice.random() < 0.2 else MAKERS[self.columns[column]](dice)


def tables(dice: Dice) -> list[Table]:
    """Return some tables in an order in which they can be created."""
    names = dice.sample(_NAMES, 7)
    made: list[Table] = []
    for number, name in enumerate(names):
        schema = "other." if dice.random() < 0.3 else ""
        made.append(_table(dice, f"{schema}{name}", made, number))
    return made


def _table(dice: Dice, name: str, before: list[Table], number: int) -> Table:
    columns = {
        column: dice.choice(list(MAKERS)) for column in dice.sample(_COLUMNS, dice.randrange(1, 4))
    }
    if dice.random() < 0.2 and name.casefold() not in {one.casefold() for one in columns}:
        columns[name.rpartition(".")[2]] = "INT64"  # a column of the table's own name
    table = Table(name, {"id": dice.choice([*_COMMON, *_KEYS])}, columns)
    table.cascade = dice.random() < 0.8
    kind = dice.choice(["plain", "child", "child", "refers", "refers", "itself"])
    parents = [one for one in before if len(one.key) < 3]
    targets = [one for one in before if len(one.key) == 1 and _plain(one)]
    if kind == "child" and parents:
        parent = dice.choice(parents)
        schema, _, _ = parent.name.rpartition(".")
        table.name = f"{schema}.{name.rpartition('.')[2]}" if schema else name.rpartition(".")[2]
        table.parent = parent
        table.key = {**parent.key, f"k{number}": "INT64"}
    elif (kind == "refers" and targets) or (kind == "itself" and _plain(table)):
        other = table if kind == "itself" else dice.choice(targets)
        table.columns["referred"] = other.key["id"]
        table.refers = ("referred", other)
    if dice.random() < 0.3:
        table.more.append("`given` INT64 DEFAULT (7)")
    if dice.random() < 0.3 and next(iter(table.key.values())) == "INT64":
        stored = dice.choice([" STORED", ""])
        first = next(iter(table.key))
        table.more.append(
            f"`made` STRING(MAX) AS (TO_BASE64(SHA1(CAST(`{first}` AS STRING)))){stored}"
        )
    return table


def _plain(table: Table) -> bool:
    return table.key.get("id") in {"INT64", "STRING(MAX)"}


def ddl(made: list[Table]) -> list[str]:
    """Return all DDL."""
    schemas = dict.fromkeys(one.name.split(".")[0] for one in made if "." in one.name)
    return [*(f"CREATE SCHEMA `{name}`" for name in schemas), *(one.ddl for one in made)]
