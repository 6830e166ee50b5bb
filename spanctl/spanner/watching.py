"""What the change stream watches, now and at a commit, and the tables' schema at that time."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

STREAM: Final = "spanctl_changes"

_SYSTEM: Final = "('INFORMATION_SCHEMA', 'SPANNER_SYS')"
_NAME: Final = "IF({0}TABLE_SCHEMA = '', '', CONCAT({0}TABLE_SCHEMA, '.'))"
_OURS: Final = "{0}CHANGE_STREAM_SCHEMA = '' AND {0}CHANGE_STREAM_NAME = @stream"
_QUERY: Final = f"""
SELECT 'table' AS what, CONCAT({_NAME.format("")}, TABLE_NAME) AS a,
    PARENT_TABLE_NAME AS b, ON_DELETE_ACTION AS c, 0 AS n
  FROM INFORMATION_SCHEMA.TABLES
  WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN {_SYSTEM}
UNION ALL SELECT 'key', CONCAT({_NAME.format("")}, TABLE_NAME), COLUMN_NAME, SPANNER_TYPE,
    ORDINAL_POSITION
  FROM INFORMATION_SCHEMA.INDEX_COLUMNS
  WHERE INDEX_NAME = 'PRIMARY_KEY' AND TABLE_SCHEMA NOT IN {_SYSTEM}
UNION ALL SELECT 'reference', CONCAT({_NAME.format("k.")}, k.TABLE_NAME),
    CONCAT({_NAME.format("u.")}, u.TABLE_NAME), r.DELETE_RULE, 0
  FROM INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS AS r
  JOIN INFORMATION_SCHEMA.TABLE_CONSTRAINTS AS k
    ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME
  JOIN INFORMATION_SCHEMA.CONSTRAINT_TABLE_USAGE AS u
    ON u.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND u.CONSTRAINT_NAME = r.CONSTRAINT_NAME
UNION ALL SELECT 'stream', '', '', CAST(`ALL` AS STRING), 0
  FROM INFORMATION_SCHEMA.CHANGE_STREAMS WHERE {_OURS.format("")}
UNION ALL SELECT 'watched', CONCAT({_NAME.format("")}, TABLE_NAME), '',
    CAST(ALL_COLUMNS AS STRING), 0
  FROM INFORMATION_SCHEMA.CHANGE_STREAM_TABLES WHERE {_OURS.format("")}
UNION ALL SELECT 'column', CONCAT({_NAME.format("")}, TABLE_NAME), COLUMN_NAME, '', 0
  FROM INFORMATION_SCHEMA.CHANGE_STREAM_COLUMNS WHERE {_OURS.format("")}
UNION ALL SELECT 'option', OPTION_NAME, '', OPTION_VALUE, 0
  FROM INFORMATION_SCHEMA.CHANGE_STREAM_OPTIONS WHERE {_OURS.format("")}
"""  # noqa: S608 - constants
_ANY: Final = f"""
SELECT 'stream' AS what, '' AS a, '' AS b, CAST(`ALL` AS STRING) AS c, 0 AS n
  FROM INFORMATION_SCHEMA.CHANGE_STREAMS
UNION ALL SELECT 'watched', CONCAT({_NAME.format("")}, TABLE_NAME), '',
    CAST(ALL_COLUMNS AS STRING), 0
  FROM INFORMATION_SCHEMA.CHANGE_STREAM_TABLES
UNION ALL SELECT 'column', CONCAT({_NAME.format("")}, TABLE_NAME), COLUMN_NAME, '', 0
  FROM INFORMATION_SCHEMA.CHANGE_STREAM_COLUMNS
"""  # noqa: S608 - constants
_CAPTURE: Final = "value_capture_type"
_BOTH: Final = ("OLD_AND_NEW_VALUES", "NEW_ROW_AND_OLD_VALUES")
_EXCLUDING: Final = ("exclude_insert", "exclude_update", "exclude_delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a change stream watches, or several do together.

    Attributes:
        everything: Whether it watches the whole database, tables to come included.
        tables: Table to its watched columns; None for a table that is watched whole.
        leaving_out: Options by which it leaves something out of what it watches.
    """

    everything: bool = False
    tables: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    leaving_out: tuple[str, ...] = ()

    def is_whole(self, table: str) -> bool:
        """Tell whether all columns of a table, by its name in the catalog, are watched."""
        return self.everything or (table in self.tables and self.tables[table] is None)

    def has(self, table: str, column: str) -> bool:
        """Tell whether a column of a table, both by their names in the catalog, is watched."""
        return self.is_whole(table) or column in (self.tables.get(table) or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of a database at one time, and what was watched of them.

    Attributes:
        names: Folded name to a table's name in the catalog, with its schema in front.
        keys: Table to the columns of its primary key, in order, each with its type's name.
        cascades: Table to those from which a row is deleted with its own.
        references: Of these pairs (table, referenced table) those of a foreign key; whether a
            delete cascades over it is said by ``cascades``.
        watched: What the change stream watches; None: there is no stream.
    """

    names: Mapping[str, str]
    keys: Mapping[str, Mapping[str, str]]
    cascades: Mapping[str, tuple[str, ...]]
    references: frozenset[tuple[str, str]]
    watched: Watched | None

    def table(self, name: str) -> str | None:
        """Return the catalog's name of a table, given in whatever case and quotation."""
        return self.names.get(name.replace("`", "").casefold())


def schema_at(database: "Database", moment: datetime | None = None) -> Schema:
    """Return the schema as it was at a time, now by default.

    Raises:
        StatementError: That long ago can't be read any more.
        SpanctlError: The database could not be read.
    """
    found: defaultdict[str, list[tuple[str, str, str, int]]] = defaultdict(list)
    for what, *entry in database.query(_QUERY, {"stream": STREAM}, read_timestamp=moment):
        found[what].append(tuple(entry))
    keys: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for table, column, kind, _ in sorted(found["key"], key=itemgetter(3)):
        keys[table][column] = kind
    cascades: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for table, parent, rule, _ in found["table"]:
        # The name of the parent is told without its schema, which may be another one.
        for other in [one for one, *_ in found["table"] if parent and rule == "CASCADE"]:
            if parent in {other, other.rpartition(".")[2]}:
                cascades[other][table] = None
    for table, other, rule, _ in found["reference"]:
        if rule == "CASCADE":
            cascades[other][table] = None
    return Schema(
        names={name.casefold(): name for name, *_ in found["table"]},
        keys=keys,
        cascades={table: tuple(tables) for table, tables in cascades.items()},
        references=frozenset((table, other) for table, other, *_ in found["reference"]),
        watched=_watched(found),
    )


def by_any(database: "Database") -> Watched:
    """Return what is watched by any change stream, those of others included.

    Raises:
        SpanctlError: The database could not be read.
    """
    found: defaultdict[str, list[tuple[str, str, str, int]]] = defaultdict(list)
    for what, *entry in database.query(_ANY):
        found[what].append(tuple(entry))
    return _watched(found) or Watched()


def _watched(found: Mapping[str, list[tuple[str, str, str, int]]]) -> Watched | None:
    if not found["stream"]:
        return None
    wholes = {table for table, _, whole, _ in found["watched"] if whole == "true"}
    columns: defaultdict[str, list[str]] = defaultdict(list)
    for table, column, *_ in found["column"]:
        columns[table].append(column)
    return Watched(
        everything=any(everything == "true" for _, _, everything, _ in found["stream"]),
        tables={
            table: None if table in wholes else tuple(columns[table])
            for table, *_ in found["watched"]
        },
        leaving_out=_leaving_out({name: value for name, _, value, _ in found["option"]}),
    )


def _leaving_out(options: Mapping[str, str]) -> tuple[str, ...]:
    found = [
        name for name, value in options.items() if name in _EXCLUDING and value.lower() == "true"
    ]
    if (capture := options.get(_CAPTURE, _BOTH[0])) not in _BOTH:
        found.append(f"{_CAPTURE} = {capture}")
    return tuple(sorted(found))
