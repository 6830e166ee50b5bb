"""The columns that a file's header, or a line of JSON Lines, names in a table."""

import difflib
from collections.abc import Iterable, Sequence
from enum import StrEnum

from spanctl.errors import UsageError
from spanctl.ledger.receipt import StatementKind
from spanctl.spanner.catalog import Column, Table
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.values import TypeCode

_SHOWN = 5


class Mode(StrEnum):
    """What an import does with rows that are already there."""

    INSERT = "insert"
    INSERT_ABSENT = "insert-absent"
    UPSERT = "upsert"
    UPDATE = "update"

    @property
    def kind(self) -> StatementKind:
        """The kind of mutation that writes a row."""
        return {
            Mode.INSERT: StatementKind.INSERT,
            Mode.INSERT_ABSENT: StatementKind.INSERT,
            Mode.UPSERT: StatementKind.INSERT_OR_UPDATE,
            Mode.UPDATE: StatementKind.UPDATE,
        }[self]

    @property
    def looks_up(self) -> bool:
        """Whether a row is looked up by its key, so that the file must name all of it."""
        return self in {Mode.INSERT_ABSENT, Mode.UPDATE}


def matched(table: Table, header: Sequence[str]) -> list[Column]:
    """Return the columns that a header names.

    Raises:
        UsageError: The table is the ledger's, or the header names a column twice, or one that the
            table lacks or computes, or of a type that can't be imported.
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
    if foreign := [one for one in found if not _known(one)]:
        listed = ", ".join(f"{one.name} ({one.spanner_type})" for one in foreign)
        msg = f"columns of a type that can't be imported: {listed}"
        raise UsageError(msg, hint="leave the column out of the file")
    return found


def needed(table: Table, mode: Mode) -> list[str]:
    """Return the columns that every row must name: parts of its key, and what can't be NULL.

    Raises:
        UsageError: The mode looks rows up by their key, and Spanner computes a part of that.
    """
    columns = {one.name: one for one in table.columns}
    computed = [name for name in table.primary_key if columns[name].generated]
    if computed and mode is Mode.INSERT_ABSENT:
        msg = f"Spanner computes {', '.join(computed)}, so no row of {table.name} can be looked up"
        raise UsageError(msg, hint="pass --mode insert or --mode upsert")
    keys = [
        name
        for name in table.primary_key
        if name not in computed and (mode.looks_up or not automatic(columns[name]))
    ]
    required = [one.name for one in table.columns if one.required and mode is not Mode.UPDATE]
    return list(dict.fromkeys([*keys, *required]))


def refuse_missing(table: Table, found: Iterable[Column], mode: Mode) -> None:
    """Refuse a header that lacks a column which every row needs.

    Raises:
        UsageError: It does.
    """
    names = {one.name for one in found}
    if missing := [name for name in needed(table, mode) if name not in names]:
        msg = f"the header lacks {', '.join(missing)}, which {_needs(table, mode)}"
        raise UsageError(msg, hint="add the column to the file")


def _needs(table: Table, mode: Mode) -> str:
    return f"--mode {mode} needs" if mode is Mode.INSERT_ABSENT else f"{table.name} needs"


def automatic(column: Column) -> bool:
    """Tell whether Spanner gives a column a value where an insert doesn't name it."""
    return column.generated or column.identity or column.default is not None


def writable(table: Table) -> list[Column]:
    """Return the columns that a file may name."""
    return [one for one in table.columns if not one.generated and _known(one)]


def _known(column: Column) -> bool:
    return column.type.code != TypeCode.TYPE_CODE_UNSPECIFIED


def _unknown(table: Table, unknown: Sequence[str], header: Sequence[str]) -> UsageError:
    names = {one.name.casefold(): one.name for one in table.columns if not one.generated}
    shown = ", ".join(repr(name) for name in unknown[:_SHOWN])
    shown += " ..." if len(unknown) > _SHOWN else ""
    near = difflib.get_close_matches(unknown[0].strip().casefold(), names, n=1)
    if len(header) == 1 and (other := next((c for c in ";\t|" if c in header[0]), None)):
        hint = f"the file may be separated by {other!r}: pass --delimiter"
    elif near:
        hint = f"did you mean {names[near[0]]}?"
    else:
        hint = f"{table.name} has: {', '.join(names.values())}"
    return UsageError(f"{table.name} has no column {shown}", hint=hint)
