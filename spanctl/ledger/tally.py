"""The statements of a transaction as its receipt lists them: equal ones counted, the list bounded.

A receipt must fit into its column whatever the body does, or it would fail the user's transaction.
"""

from dataclasses import replace
from typing import Final

from spanctl.ledger.receipt import Statement, StatementKind

MAX_ENTRIES: Final = 500
MAX_CHARACTERS: Final = 200_000
"""Of all entries that are told in full: a column of Spanner's takes 2.6 million."""
MAX_SQL: Final = 20_000
"""Characters of one statement's text."""
MAX_COUNTS: Final = 100
"""Row counts that one entry tells singly, where they differ."""
_MAX_GROUPS: Final = 2_000
_FIXED: Final = 200
"""Characters of an entry's names and digest."""

_Key = tuple[StatementKind, tuple[str, ...], str | None, tuple[str, ...]]
_Group = tuple[StatementKind, str | None]
_READING: Final = frozenset({StatementKind.QUERY, StatementKind.READ, StatementKind.OTHER})


class Tally:
    """Counts statements as they are done; what it keeps is bounded."""

    def __init__(self) -> None:
        """Start with nothing done."""
        self._listed: dict[_Key, Statement] = {}
        self._more: dict[_Group, Statement] = {}
        self._characters = 0

    def add(self, statement: Statement, *, once: bool = False) -> None:
        """Count a statement.

        Args:
            statement: What was done, once.
            once: Whether to add up its rows only: for mutations, which all go with one commit.
        """
        key = (statement.kind, statement.tables, statement.digest, statement.parameters)
        if (known := self._listed.get(key)) is not None:
            self._listed[key] = _added(known, statement, once=once)
            return
        short = replace(statement, sql=_shortened(statement.sql))
        size = _size(short)
        if len(self._listed) < MAX_ENTRIES and self._characters + size <= MAX_CHARACTERS:
            self._characters += size
            self._listed[key] = short
        else:
            self._count(statement)

    def _count(self, statement: Statement) -> None:
        table = None if statement.kind in _READING else next(iter(statement.tables), None)
        group = (statement.kind, table)
        if group not in self._more and len(self._more) >= _MAX_GROUPS:
            group = (statement.kind, None)
        known = self._more.get(group)
        times = (known.times if known else 0) + statement.times
        self._more[group] = Statement(
            kind=statement.kind,
            tables=(group[1],) if group[1] else (),
            rows=_sum(known.rows, statement.rows) if known else statement.rows,
            times=times,
            more=True,
        )

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What was done, in the order of first mention; then what is only counted."""
        return (*self._listed.values(), *self._more.values())


def _added(known: Statement, again: Statement, *, once: bool) -> Statement:
    rows = _sum(known.rows, again.rows)
    if once:
        return replace(known, rows=rows)
    return replace(known, rows=rows, times=known.times + 1, counts=_counts(known, again.rows))


def _counts(known: Statement, rows: int | None) -> tuple[int, ...]:
    """Return the row counts of an entry once more is added to it, as it keeps them."""
    if known.rows is None or rows is None:
        return ()
    before = (known.rows,) if known.times == 1 else known.counts
    if before == (rows,):
        return before
    if not before or known.times >= MAX_COUNTS:
        return ()
    if len(before) == 1:
        before *= known.times
    return (*before, rows)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _shortened(sql: str | None) -> str | None:
    if sql is None or len(sql) <= MAX_SQL:
        return sql
    return f"{sql[:MAX_SQL]} ... and {len(sql) - MAX_SQL:,} more characters"


def _size(statement: Statement) -> int:
    words = (*statement.tables, *statement.parameters, statement.sql or "")
    return _FIXED + sum(len(word) + 3 for word in words)
