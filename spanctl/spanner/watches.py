"""Since when each table has been watched: rows of ``spanctl_watches``, written after the DDL.

A row's commit timestamp is later than what it tells of, so that a commit which it covers was
watched for certain. What is altered without ``spanctl init`` has no row until that is next run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spanctl.spanner import ddl
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.receipts import COMMIT_TIMESTAMP
from spanctl.spanner.rows import as_datetime

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.watching import Watched

EVERYTHING: Final = "*"
"""What stands for a stream over the whole database, in place of a table's name."""
_TIMEOUT: Final = 30.0


class State(StrEnum):
    """How much of a table is watched."""

    WHOLE = "whole"
    COLUMNS = "columns"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Mark:
    """One row: from when on a table is watched so."""

    since: datetime
    state: State
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """All rows, each table's oldest first.

    Attributes:
        marks: Table, or :data:`EVERYTHING`, to its rows.
        kept: Whether the ledger keeps them: one of an older version doesn't.
    """

    marks: Mapping[str, tuple[Mark, ...]] = field(default_factory=dict)
    kept: bool = True

    def is_whole(self, table: str, moment: datetime) -> bool:
        """Tell whether the ledger knows that a table was watched whole at a time."""
        return any(_whole(self.marks.get(name, ()), moment) for name in (EVERYTHING, table))

    def whole_after(self, table: str, moment: datetime) -> datetime | None:
        """Return the first time after another from which it knows that a table is watched whole."""
        later = [
            mark.since
            for name in (EVERYTHING, table)
            for mark in self.marks.get(name, ())
            if mark.since > moment and mark.state is State.WHOLE
        ]
        return min(later, default=None)


def _whole(marks: tuple[Mark, ...], moment: datetime) -> bool:
    before = [mark for mark in marks if mark.since <= moment]
    return bool(before) and before[-1].state is State.WHOLE


def history(database: "Database") -> History:
    """Return what the ledger knows of what was watched when.

    Raises:
        SpanctlError: The database could not be read.
    """
    names = ("table_name", "since", "watched", "columns")
    marks: dict[str, list[Mark]] = {}
    for table, since, state, columns in database.read(ddl.WATCHES, names, KeySet(all_=True)):
        mark = Mark(as_datetime(since), State(state), tuple(columns or ()))
        marks.setdefault(table, []).append(mark)
    found = {
        table: tuple(sorted(known, key=lambda mark: mark.since)) for table, known in marks.items()
    }
    return History(found)


def note(database: "Database", watched: "Watched | None") -> None:
    """Write down what is watched now, where that is not what the ledger knows; often nothing.

    Args:
        database: Where.
        watched: What the information schema said a moment ago; None: there is no stream.

    Raises:
        SpanctlError: The database could not be read or written.
    """
    known = history(database)
    if not known.kept:
        return
    now = _states(watched)
    rows = []
    for table in sorted({*known.marks, *now}):
        state, columns = now.get(table, (State.NONE, ()))
        last = known.marks[table][-1] if table in known.marks else None
        if last is None or (last.state, last.columns) != (state, columns):
            row = {"table_name": table, "since": COMMIT_TIMESTAMP, "watched": state.value}
            rows.append(mutation("insert", ddl.WATCHES, {**row, "columns": list(columns)}))
    if rows:
        apply(database, rows, timeout=_TIMEOUT, doing="what is watched was written down")


def _states(watched: "Watched | None") -> dict[str, tuple[State, tuple[str, ...]]]:
    if watched is None:
        return {}
    if watched.everything:
        return {EVERYTHING: (State.WHOLE, ())}
    return {
        table: (State.WHOLE, ()) if columns is None else (State.COLUMNS, tuple(sorted(columns)))
        for table, columns in watched.tables.items()
        if not is_ledger(table)
    }
