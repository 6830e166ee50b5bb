"""What tables a database has, and their columns, from its information schema."""

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spanctl.errors import ConflictError, NotFoundError
from spanctl.spanner.types import length_limit, type_from_name
from spanctl.spanner.values import Type

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

POSTGRESQL: Final = "POSTGRESQL"
_SYSTEM: Final = "('INFORMATION_SCHEMA', 'SPANNER_SYS')"
_TABLES: Final = f"""SELECT TABLE_SCHEMA, TABLE_NAME, PARENT_TABLE_NAME
  FROM INFORMATION_SCHEMA.TABLES
  WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN {_SYSTEM}"""  # noqa: S608 - a constant
_COLUMNS: Final = """SELECT COLUMN_NAME, SPANNER_TYPE, IS_NULLABLE, IS_GENERATED, COLUMN_DEFAULT,
    ORDINAL_POSITION, IS_IDENTITY
  FROM INFORMATION_SCHEMA.COLUMNS
  WHERE TABLE_SCHEMA = @schema AND TABLE_NAME = @name
  ORDER BY ORDINAL_POSITION"""
_INDEXES: Final = """SELECT i.INDEX_NAME, i.INDEX_TYPE, i.IS_UNIQUE, i.IS_NULL_FILTERED,
    c.COLUMN_NAME, c.ORDINAL_POSITION
  FROM INFORMATION_SCHEMA.INDEXES AS i JOIN INFORMATION_SCHEMA.INDEX_COLUMNS AS c
  ON i.TABLE_SCHEMA = c.TABLE_SCHEMA AND i.TABLE_NAME = c.TABLE_NAME
    AND i.INDEX_NAME = c.INDEX_NAME
  WHERE i.TABLE_SCHEMA = @schema AND i.TABLE_NAME = @name
  ORDER BY i.INDEX_NAME, c.ORDINAL_POSITION"""
_DIALECT: Final = """SELECT option_value FROM information_schema.database_options
  WHERE option_name = 'database_dialect'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name.
        type: Its type; of an unspecified code when spanctl doesn't know the type.
        spanner_type: Its type as Spanner writes it: ``STRING(36)``.
        nullable: Whether it may be NULL.
        generated: Whether Spanner computes it, so that it can't be written.
        default: The SQL of its default; None when there is none.
        identity: Whether Spanner numbers it when it is left out.
        length: Limit of a STRING in characters, of a BYTES in bytes; None when there is none.
        ordinal: Its place in the table, from 1.
    """

    name: str
    type: Type
    spanner_type: str
    nullable: bool
    generated: bool = False
    default: str | None = None
    identity: bool = False
    length: int | None = None
    ordinal: int = 0

    @property
    def required(self) -> bool:
        """Whether an insert must name it."""
        automatic = self.generated or self.identity or self.default is not None
        return not (self.nullable or automatic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A secondary index.

    Attributes:
        name: Its name.
        columns: Its key columns, in order; the table's key follows them.
        storing: The columns that it stores besides.
        unique: Whether its key is unique.
        null_filtered: Whether rows with a NULL in its key have no entry.
    """

    name: str
    columns: tuple[str, ...]
    storing: tuple[str, ...] = ()
    unique: bool = False
    null_filtered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        name: Its name as it was created, with its schema in front where it has one.
        columns: Its columns, in order.
        primary_key: The names of its key's columns, in order.
        parent: The table that it is interleaved in; None when there is none.
        indexes: Its secondary indexes.
    """

    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    parent: str | None = None
    indexes: tuple[Index, ...] = ()

    def column(self, name: str) -> Column | None:
        """Return a column by its name, whatever its case; None when there is none."""
        folded = name.casefold()
        return next((column for column in self.columns if column.name.casefold() == folded), None)


def dialect(database: "Database") -> str:
    """Return the database's dialect: ``GOOGLE_STANDARD_SQL`` or ``POSTGRESQL``.

    Raises:
        SpanctlError: The database could not be read.
    """
    return str(next(iter(database.query(_DIALECT)))[0])


def refuse_postgresql(database: "Database") -> None:
    """Refuse a database of the PostgreSQL dialect by name.

    Raises:
        ConflictError: It is one.
        SpanctlError: The database could not be read.
    """
    if dialect(database) == POSTGRESQL:
        name = database.target.database
        msg = f"{name} has the PostgreSQL dialect; spanctl works with GoogleSQL only"
        hint = "choose a GoogleSQL database: spanctl context set database=NAME"
        raise ConflictError(msg, hint=hint)


def tables(database: "Database") -> list[str]:
    """Return the names of all tables, sorted, those of the ledger included.

    Raises:
        ConflictError: The database is of the PostgreSQL dialect.
        SpanctlError: The database could not be read.
    """
    refuse_postgresql(database)
    return sorted(_qualified(schema, name) for schema, name, _ in database.query(_TABLES))


def table(database: "Database", name: str) -> Table:
    """Return a table by its name, in whatever case; ``schema.name`` in a named schema.

    Raises:
        NotFoundError: There is no such table; the hint suggests one with a similar name.
        ConflictError: The database is of the PostgreSQL dialect.
        SpanctlError: The database could not be read.
    """
    refuse_postgresql(database)
    known = {
        _qualified(schema, bare).casefold(): (str(schema), str(bare), parent)
        for schema, bare, parent in database.query(_TABLES)
    }
    found = known.get(name.replace("`", "").casefold())
    if found is None:
        raise _unknown(name, database, [_qualified(*entry[:2]) for entry in known.values()])
    schema, bare, parent = found
    place = {"schema": schema, "name": bare}
    columns = tuple(_column(*row) for row in database.query(_COLUMNS, place))
    keys: dict[str, list[str]] = {}
    stored: dict[str, list[str]] = {}
    unique: set[str] = set()
    filtered: set[str] = set()
    primary = ""
    for index, kind, is_unique, is_filtered, column, ordinal in database.query(_INDEXES, place):
        (stored if ordinal is None else keys).setdefault(index, []).append(column)
        unique.update([index] if is_unique else [])
        filtered.update([index] if is_filtered else [])
        primary = index if kind == "PRIMARY_KEY" else primary
    return Table(
        name=_qualified(schema, bare),
        columns=columns,
        primary_key=tuple(keys.pop(primary, ())),
        parent=parent or None,
        indexes=tuple(
            Index(
                name=index,
                columns=tuple(names),
                storing=tuple(stored.get(index, ())),
                unique=index in unique,
                null_filtered=index in filtered,
            )
            for index, names in keys.items()
        ),
    )


def _qualified(schema: str, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def _unknown(name: str, database: "Database", names: list[str]) -> NotFoundError:
    by_folded = {known.casefold(): known for known in names}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    hint = f"did you mean {by_folded[near[0]]}?" if near else "create it first"
    return NotFoundError(f"there is no table {name} in {database.target.database}", hint=hint)


def _column(  # noqa: PLR0913, PLR0917, RUF100 - one row of the information schema
    name: str,
    spanner_type: str,
    nullable: str,
    generated: str,
    default: str | None,
    ordinal: int,
    identity: str,
) -> Column:
    try:
        kind, length = type_from_name(spanner_type), length_limit(spanner_type)
    except ValueError:  # a type of the future, or TOKENLIST: the rest of the table still works
        kind, length = Type(), None
    return Column(
        name=name,
        type=kind,
        spanner_type=spanner_type,
        nullable=nullable == "YES",
        generated=generated == "ALWAYS",
        default=default,
        identity=identity == "YES",
        length=length,
        ordinal=ordinal,
    )
