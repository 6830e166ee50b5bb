"""Whether an audit says what a transaction did: every row of it, and *complete* only when it is."""

import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spanctl.audit.trail import trail
from spanctl.errors import ConflictError, SpanctlError
from spanctl.ledger.receipt import Receipt
from spanctl.spanner import admin, receipts, schema
from spanctl.spanner.changes import RowChange, changes
from spanctl.spanner.client import Database
from spanctl.spanner.committed import Changes, StreamState
from spanctl.spanner.run import Run
from spanctl.spanner.watching import STREAM, schema_at
from tests.campaign import ground, trail_schemas, trail_writes
from tests.campaign.model import Case, Form, Side, Stage, Verdict
from tests.campaign.trail_schemas import Table
from tests.campaign.trail_writes import Row, text
from tests.faults import raw

TRANSACTIONS: Final = {Form.FULL: 100, Form.SHORT: 16}
_CASES: Final = {Form.FULL: (12, 2), Form.SHORT: (1, 1)}
_ENOUGH: Final = 30
"""Transactions of which the control gets some wrong for certain."""
_TURN: Final = 12
"""Transactions, at most, between two changes of what is watched: those in between are audited."""

_KINDS: Final = ("init", "init", "all of it", "FOR ALL", "some", "columns", "none")


class Trails:
    """The campaign."""

    name = "trail-truth"
    about = (
        "Random schemas (interleaved tables, foreign keys that cascade or don't, generated and"
        " default columns, arrays, keys of all types, named schemas, reserved words as names) and"
        " random transactions on them, by mutations and by DML: deletes of rows that are absent,"
        " rows deleted and inserted again, `replace`, updates that change nothing. What is watched"
        " changes in between, by `spanctl init` and behind its back, foreign keys are dropped, and"
        " Google's own client writes beside. Each audit is compared with the tables as they were"
        " right before and right after the commit: a row that is shown and is not so, and a trail"
        " that is called complete and is not, are wrong; so is one that isn't called complete"
        " though all that it needs was"
        f" watched by `init`. A case is a database of its own and {TRANSACTIONS[Form.FULL]}"
        " transactions. *naive* takes the stream's records as they come, and what is watched today"
        " for what was watched then."
    )
    lanes = 2

    def cases(self, form: Form) -> Sequence[Case]:
        """Databases, each with its own schema; the last ones are audited naively."""
        number = TRANSACTIONS[form]
        ours, naive = _CASES[form]
        made = [Case(f"database {one}", {"transactions": number}) for one in range(ours)]
        given = {"transactions": max(number, _ENOUGH)}
        return made + [Case(f"naive {one}", given, Side.NAIVE) for one in range(naive)]

    def stage(self) -> contextlib.AbstractContextManager[Stage]:
        """Open an emulator."""
        return ground.stage(_lane)


@contextlib.contextmanager
def _lane(address: str) -> Iterator["World"]:
    yield World(address)


@dataclass
class _Done:
    """A transaction that committed."""

    receipt: Receipt
    truth: Mapping[Any, Row]
    sure: bool  # all tables were watched, by spanctl init


class World:
    """One lane."""

    def __init__(self, address: str) -> None:
        """Remember the emulator."""
        self._address = address

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Make a database, let things happen to it, and judge what audits say of them."""
        made = trail_schemas.tables(dice)
        name = raw.create_database(self._address, trail_schemas.ddl(made))
        try:
            with (
                Database(raw.target(self._address, name)) as database,
                raw.database(self._address, name) as google,
                Run(database, case.name) as run,
            ):
                schema.install(database, _some(made, dice))
                life = _Life(database, google, run, made, dice, naive=case.side is Side.NAIVE)
                life.live(case.given["transactions"])
                return life.verdict()
        finally:
            raw.drop_database(self._address, name)


def _some(made: Sequence[Table], dice: random.Random) -> list[str]:
    names = [table.name for table in made]
    return names if dice.random() < 0.5 else dice.sample(names, dice.randrange(len(names)))


class _Life:
    """What happens to one database."""

    def __init__(  # noqa: PLR0913 - all that it works with
        self,
        database: Database,
        google: Any,
        run: Run,
        made: Sequence[Table],
        dice: random.Random,
        *,
        naive: bool,
    ) -> None:
        self._database, self._google, self._run = database, google, run
        self._made, self._dice, self._naive = made, dice, naive
        self._sure = False
        self._wrong: list[str] = []
        self._counted: Counter[str] = Counter()

    def verdict(self) -> Verdict:
        """Return what was found."""
        why = "; ".join(self._wrong[:5])
        return Verdict(wrong=len(self._wrong), counted=dict(self._counted), why=why)

    def live(self, transactions: int) -> None:
        """Commit, watch other tables, audit."""
        earlier: list[_Done] = []
        while self._counted["transactions"] < transactions:
            self._sure = self._all_watched()
            left = transactions - self._counted["transactions"]
            turn = self._turn(min(left, self._dice.randrange(3, _TURN)))
            for one in turn:
                self._audit(one)
            earlier += turn
            self._watch()
            for one in self._dice.sample(earlier, min(3, len(earlier))):
                self._audit(one)

    def _turn(self, number: int) -> list[_Done]:
        done: list[_Done] = []
        while len(done) < number:
            if self._dice.random() < 0.3:
                self._write_beside()
            if self._dice.random() < 0.05:
                self._write_null()
            body = trail_writes.transaction(self._made, self._dice)
            try:
                result = self._run.step(ground.STEP, body)
            except SpanctlError:  # a row that is there, one that isn't, a parent that lacks
                self._counted["transactions refused"] += 1
                continue
            self._counted["transactions"] += 1
            receipt = receipts.get(self._database, result.txn_id)
            assert receipt is not None
            moment = receipt.commit_timestamp
            truth = trail_writes.truth(self._database, self._made, moment)
            done.append(_Done(receipt, truth, self._sure))
        return done

    def _write_beside(self) -> None:
        table = self._dice.choice(self._made)
        with contextlib.suppress(Exception), self._google.batch() as batch:
            row = {**table.some_key(self._dice), **table.some_values(self._dice)}
            if not any(isinstance(value, bytes) for value in row.values()):
                batch.insert_or_update(table.name, list(row), [list(row.values())])
                self._counted["raw writes"] += 1

    def _write_null(self) -> None:
        frail = [table for table in self._made if trail_writes.has_frail_array(table)]
        watched = schema_at(self._database).watched
        if not frail or watched is None:
            return
        table = self._dice.choice(frail)
        if watched.tables.get(table.name, ()) is not None and not watched.everything:
            return
        with contextlib.suppress(ConflictError):
            self._run.step(ground.STEP, lambda txn: trail_writes.with_null(txn, table, self._dice))
            self._wrong.append(f"a NULL in an array of {table.name} was let through")
        self._counted["NULLs in arrays refused"] += 1

    # -- what is watched

    def _all_watched(self) -> bool:
        known = set(schema.watched(self._database))
        return self._by_init and known >= {table.name for table in self._made}

    _by_init = True

    def _watch(self) -> None:
        """Watch something else, as spanctl does it or behind its back."""
        names = [table.name for table in self._made]
        kind = self._dice.choice(_KINDS)
        self._counted["changes of what is watched"] += 1
        self._by_init = kind in {"init", "all of it"}
        if self._dice.random() < 0.2:
            self._drop_reference()
        if kind == "all of it":
            schema.install(self._database, names)
        elif kind == "init":
            schema.install(self._database, _some(self._made, self._dice))
        else:
            self._alter(kind)
            if self._dice.random() < 0.5:
                schema.install(self._database)
                self._by_init = True

    def _drop_reference(self) -> None:
        """Drop a foreign key: what was deleted before has cascaded over it all the same."""
        for table in self._made:
            if table.refers:
                statement = f"ALTER TABLE {table.quoted} DROP CONSTRAINT {table.constraint}"
                admin.execute_ddl(self._database.target, [statement])
                table.refers = None
                self._counted["foreign keys dropped"] += 1
                return

    def _alter(self, kind: str) -> None:
        tables = [table for table in self._made if self._dice.random() < 0.7]
        watched = [receipts.TABLE, *(table.quoted for table in tables)]
        if kind == "columns":
            for place, table in enumerate(tables, 1):
                if self._dice.random() < 0.4:
                    watched[place] += f"(`{next(iter(table.columns))}`)"
        over = "ALL" if kind == "FOR ALL" else ", ".join(watched)
        options = "OPTIONS (value_capture_type = 'OLD_AND_NEW_VALUES')"
        statements = [f"DROP CHANGE STREAM {STREAM}"]
        if kind != "none":
            statements.append(f"CREATE CHANGE STREAM {STREAM} FOR {over} {options}")
        if schema_at(self._database).watched is None:
            del statements[0]
        if statements:
            admin.execute_ddl(self._database.target, statements)

    # -- the judge

    def _audit(self, done: _Done) -> None:
        if self._naive:
            found = naively(self._database, done.receipt)
        else:
            found = trail(self._database, None, done.receipt.txn_id).changes
        assert found is not None
        self._counted["audits"] += 1
        self._counted["audits called complete"] += found.complete
        shown = {_place(row, self._made): row for row in found.rows}
        kinds = [one.kind.value for one in done.receipt.statements]
        where = f"{done.receipt.txn_id[:8]} {kinds}"
        for place, row in shown.items():
            true = done.truth.get(place)
            if (why := _difference(row, true, whole=found.complete)) is not None:
                self._wrong.append(f"{where}: {place}: {why}")
        missing = [place for place in done.truth if place not in shown]
        if found.complete and missing:
            self._wrong.append(f"{where}: called complete without {missing[0]}")
        if found.complete and len(shown) != len(found.rows):
            self._wrong.append(f"{where}: a row is shown twice")
        expired = found.state is not StreamState.PRESENT
        if done.sure and not found.complete and not expired and not self._naive:
            gaps = [str(gap) for gap in found.gaps]
            self._wrong.append(f"{where}: not called complete: {gaps}")


def _place(row: RowChange, made: Sequence[Table]) -> Any:
    (table,) = [one for one in made if one.name == row.table]
    return row.table, tuple(text(row.keys[name]) for name in table.key)


def _difference(shown: RowChange, true: Row | None, *, whole: bool) -> str | None:
    """Return what is wrong about a row that is shown; None when it is as it was.

    Where single columns are watched, only ``whole`` asks for the others.
    """
    if true is None:
        return f"shown as {shown.mod_type}, and it did not change"
    if shown.mod_type != true.kind:
        return f"shown as {shown.mod_type}, and it was an {true.kind}"
    sides = ((shown.before, true.before), (shown.after, true.after))
    for told, held in sides:
        if (told is None) is not (held is None):
            return "one side is missing"
        for name, value in (told or {}).items():
            if name in (held or {}) and text(value) != (held or {})[name]:
                return f"{name} is shown as {text(value)}, and was {(held or {})[name]}"
    changed = {
        name
        for name in {*(true.before or {}), *(true.after or {})}
        if (true.before or {}).get(name) != (true.after or {}).get(name)
    }
    if whole and (lost := changed - {*(shown.before or {}), *(shown.after or {})}):
        return f"the change of {sorted(lost)} is not shown"
    return None


# -- the control


def naively(database: Database, receipt: Receipt) -> Changes:
    """Audit as one would at first: today's watch list, tables as named, records as they come."""
    watched = schema_at(database).watched
    if watched is None:
        return Changes(state=StreamState.ABSENT)
    moment = receipt.commit_timestamp
    try:
        records = list(changes(database, moment, moment))
    except SpanctlError:
        return Changes(state=StreamState.EXPIRED)
    rows = tuple(row for one in records if one.table != receipts.TABLE for row in one.rows)
    written = {one.tables[0] for one in receipt.statements if one.tables}
    known = {table.casefold() for table, columns in watched.tables.items() if columns is None}
    whole = watched.everything or {table.casefold() for table in written} <= known
    return Changes(state=StreamState.PRESENT, rows=rows, counted=bool(records) and whole)
