"""Whether the change stream shows all that a transaction changed: said only when it is proven."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from spanctl.errors import SpanctlError, UsageError
from spanctl.ledger.receipt import Receipt, Statement, StatementKind
from spanctl.spanner import admin
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.sql import describe

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.exact import Exact
    from spanctl.spanner.watches import History
    from spanctl.spanner.watching import Schema, Watched

_READING: Final = frozenset({StatementKind.QUERY, StatementKind.READ})
_REMOVING: Final = frozenset({StatementKind.DELETE, StatementKind.REPLACE, StatementKind.OTHER})
_OUTSIDE: Final = {StatementKind.DDL: "DDL", StatementKind.PARTITIONED_DML: "partitioned DML"}
_AGAIN: Final = "run: spanctl init"
_TABLE: Final = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?([\w.`]+)")
_REFERENCE: Final = re.compile(
    r"FOREIGN KEY\s*\([^)]*\)\s*REFERENCES\s+([\w.`]+)\s*\([^)]*\)(\s+ON DELETE CASCADE)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that a trail doesn't show, or that it may not show.

    Attributes:
        why: What is missing or not known, in words.
        table: The table; None where it is not about one.
        watchable: Whether ``spanctl init --table`` would watch the table from now on.
    """

    why: str
    table: str | None = None
    watchable: bool = False

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.table}: {self.why}" if self.table else self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What there is to judge by.

    Attributes:
        then: The schema at the commit; None where that can't be read any more.
        now: The schema of today.
        history: What the ledger knows of what was watched since when.
    """

    then: "Schema | None"
    now: "Schema"
    history: "History"


def may_replace(receipt: Receipt) -> bool:
    """Tell whether a transaction may have inserted a row in the place of one that was there."""
    return any(s.kind in _REMOVING for s in _writes(receipt))


def gaps(
    database: "Database", receipt: Receipt, evidence: Evidence, exact: "Exact"
) -> tuple[Gap, ...]:
    """Return what is missing of a transaction in the change stream, or may be; empty for nothing.

    Args:
        database: Where.
        receipt: The transaction's.
        evidence: What there is to judge by.
        exact: The rows that the stream told of, with what was read of them.

    Raises:
        SpanctlError: The database could not be read.
    """
    for statement in receipt.statements:
        if (kind := _OUTSIDE.get(statement.kind)) is not None:
            why = f"{kind} is no part of this transaction: its changes are not among these"
            return (Gap(why=why),)
    return tuple(dict.fromkeys(_Judge(database, receipt, evidence, exact).gaps()))


def _writes(receipt: Receipt) -> Iterator[Statement]:
    """Yield the statements that may have changed something."""
    return (s for s in receipt.statements if s.kind not in _READING and s.rows != 0)


def _target(statement: Statement) -> str:
    """Return the table that a statement changed, or an empty text.

    Its text says so, where it is kept; what an older spanctl read there need not be right.
    """
    if statement.sql is None:
        return statement.tables[0] if statement.tables else ""
    try:
        return describe(statement.sql).target
    except UsageError:
        return ""


class _Judge:
    def __init__(
        self, database: "Database", receipt: Receipt, evidence: Evidence, exact: "Exact"
    ) -> None:
        self._database = database
        self._receipt = receipt
        self._evidence = evidence
        self._exact = exact
        self._moment = receipt.commit_timestamp

    def gaps(self) -> Iterator[Gap]:
        written: dict[str, bool] = {}  # table: whether rows of it may have been deleted
        for statement in _writes(self._receipt):
            name = _target(statement)
            if statement.kind is StatementKind.OTHER or not name:
                yield Gap(why="which tables a statement changed is not known")
            elif is_ledger(name):
                yield Gap(table=name, why="the ledger's own rows are not shown")
            elif (table := self._named(name)) is None:
                yield Gap(table=name, why="the schema of then has no table of that name")
            else:
                removes = statement.kind in _REMOVING
                written[table] = written.get(table, False) or removes
        options = self._watched_options()
        if written and options:
            yield Gap(why=f"the stream leaves out what its options say: {', '.join(options)}")
        for table in sorted(self._exact.unsure):
            why = "whether inserted rows replaced others can't be read any more"
            yield Gap(table=table, why=why)
        yield from self._followed(written)

    def _named(self, name: str) -> str | None:
        """Return a table as the catalog of then names it, or as well as that can be told."""
        if self._evidence.then is None:
            return self._evidence.now.table(name) or name
        return self._evidence.then.table(name)

    def _watched_options(self) -> tuple[str, ...]:
        watched = self._evidence.then.watched if self._evidence.then else None
        return watched.leaving_out if watched else ()

    def _followed(self, written: dict[str, bool]) -> Iterator[Gap]:
        """Yield the gaps of tables that were written, and of those that deletes cascade into."""
        sources: dict[str, str] = {}
        told: set[str] = set()
        followed: set[str] = set()
        waiting = list(written)
        while waiting:
            table = waiting.pop(0)
            gap, source = self._gap(table), sources.get(table)
            if gap is not None and table not in told:
                told.add(table)
                cascade = "" if table in written else f"; deletes in {source} cascade into it"
                yield replace(gap, why=f"{gap.why}{cascade}")
            removed = written.get(table, False) or source is not None
            emptied = removed if gap is not None else table in self._exact.emptied
            if emptied and table not in followed:
                followed.add(table)
                for child in self._cascades(table):
                    sources.setdefault(child, table)
                    waiting.append(child)
        if followed and self._evidence.then is None:
            names = ", ".join(sorted(followed))
            why = f"where deletes in {names} cascaded to then can't be read any more"
            yield Gap(why=why)

    def _cascades(self, table: str) -> list[str]:
        schema = self._evidence.then
        if schema is None:
            return []
        found = list(schema.cascades.get(table, ()))
        referring = [child for child, parent in schema.references if parent == table]
        if referring and self._database.target.is_emulated:
            found += _emulated(self._database, table, referring)
        return list(dict.fromkeys(found))

    def _gap(self, table: str) -> Gap | None:
        then, now, history = self._evidence.then, self._evidence.now, self._evidence.history
        watchable = now.watched is None or not now.watched.is_whole(table)
        if then is None:
            # That it is watched now, and was by what the ledger knows, proves nothing of then: what
            # others alter and put back leaves no mark.
            why = "the schema of then can't be read any more"
            return Gap(table=table, why=why, watchable=watchable)
        if then.watched is None or not then.watched.is_whole(table):
            why = self._unwatched(table, then.watched)
            return Gap(table=table, why=why, watchable=watchable)
        if history.is_whole(table, self._moment):
            return None
        if not history.kept:
            why = f"not known since when it is watched: this ledger doesn't keep it; {_AGAIN}"
        elif (since := history.whole_after(table, self._moment)) is not None:
            why = f"known to be watched only since {_text(since)}"
        else:
            why = f"not known since when it is watched; {_AGAIN}"
        return Gap(table=table, why=why, watchable=watchable)

    def _unwatched(self, table: str, watched: "Watched | None") -> str:
        columns = watched.tables.get(table) if watched else None
        if columns:
            return f"only its columns {', '.join(columns)} were watched"
        if columns is not None:
            return "only its keys were watched"
        later = self._evidence.history.whole_after(table, self._moment)
        return f"watched only since {_text(later)}" if later else "not watched"


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


def _emulated(database: "Database", table: str, referring: list[str]) -> list[str]:
    """Return those of the referring tables into which deletes cascade.

    The emulator says NO ACTION of every foreign key: its DDL tells, as far as they are still there.
    """
    try:
        statements = admin.read_ddl(database.target, database.rpc.credentials)
    except SpanctlError:
        return referring
    cascading: dict[tuple[str, str], bool] = {}
    for statement in statements:
        if (created := _TABLE.match(statement)) is None:
            continue
        for parent, rule in _REFERENCE.findall(statement):
            pair = (_folded(created[1]), _folded(parent))
            cascading[pair] = cascading.get(pair, False) or bool(rule)
    return [child for child in referring if cascading.get((_folded(child), _folded(table)), True)]


def _folded(name: str) -> str:
    return name.replace("`", "").casefold()
