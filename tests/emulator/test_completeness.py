"""Whether an audit is called complete, on a real change stream: only when that is proven."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spanctl.errors import NotFoundError, UsageError
from spanctl.ledger.receipt import Receipt, Statement, StatementKind
from spanctl.spanner import admin, receipts, schema, watches
from spanctl.spanner.changes import ModType
from spanctl.spanner.client import Database
from spanctl.spanner.committed import Changes, StreamState, for_transaction, for_transactions
from spanctl.spanner.keysets import KeySet, encoded_keys, one
from spanctl.spanner.operation import TransactionOptions
from spanctl.spanner.run import Run
from spanctl.spanner.transaction import Transaction
from spanctl.spanner.watching import STREAM
from tests.faults import raw

pytestmark = pytest.mark.emulator

DDL = (
    "CREATE SCHEMA shop",
    "CREATE TABLE parent (id INT64, v INT64) PRIMARY KEY (id)",
    (
        "CREATE TABLE child (id INT64, n INT64, v INT64) PRIMARY KEY (id, n),"
        " INTERLEAVE IN PARENT parent ON DELETE CASCADE"
    ),
    (
        "CREATE TABLE grandchild (id INT64, n INT64, m INT64) PRIMARY KEY (id, n, m),"
        " INTERLEAVE IN PARENT child ON DELETE CASCADE"
    ),
    (
        "CREATE TABLE about (id INT64, child INT64, n INT64, CONSTRAINT about_child"
        " FOREIGN KEY (child, n) REFERENCES child (id, n) ON DELETE CASCADE) PRIMARY KEY (id)"
    ),
    (
        "CREATE TABLE loose (id INT64, parent INT64, CONSTRAINT loose_parent"
        " FOREIGN KEY (parent) REFERENCES parent (id)) PRIMARY KEY (id)"
    ),
    (
        "CREATE TABLE itself (id INT64, up INT64, CONSTRAINT itself_up"
        " FOREIGN KEY (up) REFERENCES itself (id) ON DELETE CASCADE) PRIMARY KEY (id)"
    ),
    "CREATE TABLE shop.`order` (id INT64, `select` INT64) PRIMARY KEY (id)",
    (
        "CREATE TABLE shop.line (id INT64, n INT64) PRIMARY KEY (id, n),"
        " INTERLEAVE IN PARENT shop.`order` ON DELETE CASCADE"
    ),
    (
        "CREATE TABLE sharded (id INT64, shard INT64 AS (MOD(id, 3)) STORED, v INT64)"
        " PRIMARY KEY (shard, id)"
    ),
    (
        "CREATE TABLE times (moment TIMESTAMP OPTIONS (allow_commit_timestamp = true), v FLOAT64)"
        " PRIMARY KEY (moment)"
    ),
)

Do = Callable[[Callable[[Transaction], Any]], Receipt]


@pytest.fixture
def database(emulator: str) -> Iterator[Database]:
    name = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, name)) as database:
        schema.install(database)
        yield database
    raw.drop_database(emulator, name)


@pytest.fixture
def do(database: Database) -> Iterator[Do]:
    with Run(database, "job") as run:

        def do(body: Callable[[Transaction], Any]) -> Receipt:
            receipt = receipts.get(database, run.step("step", body).txn_id)
            assert receipt is not None
            return receipt

        yield do


def fill(txn: Transaction) -> None:
    txn.insert("parent", ("id", "v"), [(1, 1), (2, 2)])
    txn.insert("child", ("id", "n"), [(1, 1), (1, 2)])
    txn.insert("grandchild", ("id", "n", "m"), [(1, 1, 1)])
    txn.insert("about", ("id", "child", "n"), [(1, 1, 2)])


FAMILY = ("parent", "child", "grandchild", "about")
DELETES: dict[str, Callable[[Transaction], Any]] = {
    "dml": lambda txn: txn.execute_update("DELETE FROM parent WHERE id = 1"),
    "mutation": lambda txn: txn.delete("Parent", one(1)),
    "encoded": lambda txn: txn.delete("parent", encoded_keys([[1]])),
    "everything": lambda txn: txn.delete("parent", KeySet(all_=True)),
    "replace": lambda txn: txn.replace("parent", ("id", "v"), [(1, 1)]),
    "again": lambda txn: (
        txn.delete("parent", one(1)),
        txn.insert("parent", ("id", "v"), [(1, 1)]),
    ),
}


def reasons(found: Changes) -> list[str]:
    return [str(gap) for gap in found.gaps]


@pytest.mark.parametrize("missing", FAMILY[1:])
@pytest.mark.parametrize("how", DELETES)
def test_a_cascade_into_a_table_that_is_not_watched(
    database: Database, do: Do, missing: str, how: str
) -> None:
    """However the parent's row goes, and on whatever level the table is: it is named."""
    schema.install(database, [name for name in FAMILY if name != missing])
    do(fill)
    found = for_transaction(database, do(DELETES[how]))
    assert not found.complete
    assert missing in found.unwatched
    (reason,) = [text for text in reasons(found) if text.startswith(f"{missing}:")]
    assert reason.startswith(f"{missing}: not watched; deletes in ")


@pytest.mark.parametrize("how", DELETES)
def test_a_cascade_of_which_all_is_watched(database: Database, do: Do, how: str) -> None:
    """Then it is complete, and every row of every level is there."""
    schema.install(database, FAMILY)
    do(fill)
    found = for_transaction(database, do(DELETES[how]))
    assert (found.complete, reasons(found)) == (True, [])
    gone = {(row.table, *row.keys.values()) for row in found.rows if row.mod_type == "DELETE"}
    below = {("child", 1, 1), ("child", 1, 2), ("grandchild", 1, 1, 1), ("about", 1)}
    parents = {("parent", 1), ("parent", 2)} if how == "everything" else {("parent", 1)}
    assert gone == (below if how in {"replace", "again"} else below | parents)


def test_a_cascade_from_another_schema(database: Database, do: Do) -> None:
    """A child in a named schema is found, though its parent's name is told without one."""
    child = (
        "CREATE TABLE shop.note (id INT64, n INT64) PRIMARY KEY (id, n),"
        " INTERLEAVE IN PARENT parent ON DELETE CASCADE"
    )
    admin.execute_ddl(database.target, [child])
    schema.install(database, FAMILY)
    do(fill)
    do(lambda txn: txn.insert("shop.note", ("id", "n"), [(1, 1)]))
    found = for_transaction(database, do(DELETES["dml"]))
    assert reasons(found) == ["shop.note: not watched; deletes in parent cascade into it"]


def test_a_cascade_into_the_table_itself(database: Database, do: Do) -> None:
    """Rows that refer to rows of their own table are gone with them, all levels of them."""
    schema.install(database, ["itself"])
    do(lambda txn: txn.insert("itself", ("id", "up"), [(1, None), (2, 1), (3, 2)]))
    found = for_transaction(database, do(lambda txn: txn.delete("itself", one(1))))
    assert (found.complete, len(found.rows)) == (True, 3)


def test_deletes_that_cascade_into_nothing(database: Database, do: Do) -> None:
    """A foreign key without a cascade, a row that isn't there, DML of no row: all complete."""
    schema.install(database, ["parent"])
    do(lambda txn: txn.insert("parent", ("id", "v"), [(1, 1)]))
    for body in (
        lambda txn: txn.delete("parent", KeySet(keys=[[7], [8]])),
        lambda txn: txn.execute_update("DELETE FROM child WHERE id = 7"),
        lambda txn: txn.execute_update("DELETE FROM parent WHERE false"),
    ):
        found = for_transaction(database, do(body))
        assert (found.complete, found.rows, found.unchanged) == (True, (), 0)
    schema.install(database, FAMILY)
    assert for_transaction(database, do(lambda txn: txn.delete("parent", one(1)))).complete


def test_a_foreign_key_that_is_gone_since(database: Database, do: Do) -> None:
    """What counts is the schema of then, not today's."""
    schema.install(database, ["parent", "child", "grandchild"])
    do(fill)
    receipt = do(DELETES["dml"])
    admin.execute_ddl(database.target, ["ALTER TABLE about DROP CONSTRAINT about_child"])
    found = for_transaction(database, receipt)
    assert (found.complete, found.unwatched) == (False, ("about",))


def test_a_name_that_hides_the_table(database: Database, do: Do) -> None:
    """A common table expression of the target's name leaves the target what it is."""
    schema.install(database, ["parent"])
    do(lambda txn: txn.insert("parent", ("id", "v"), [(1, 1)]))
    sql = "INSERT INTO loose (id) WITH loose AS (SELECT id FROM parent) SELECT id FROM loose"
    found = for_transaction(database, do(lambda txn: txn.execute_update(sql)))
    assert (found.complete, reasons(found)) == (False, ["loose: not watched"])


def test_watched_later(database: Database, do: Do) -> None:
    """A table that was watched only after the commit is not shown, and the trail says so."""
    schema.install(database, ["parent"])
    late = lambda txn: txn.insert("loose", ("id",), [(1,)])  # noqa: E731
    receipt = do(lambda txn: (late(txn), txn.insert("parent", ("id", "v"), [(1, 1)])))
    assert reasons(for_transaction(database, receipt)) == ["loose: not watched"]
    stream = "ALTER CHANGE STREAM spanctl_changes SET FOR ALL"
    admin.execute_ddl(database.target, [stream])
    assert reasons(for_transaction(database, receipt)) == ["loose: not watched"]
    schema.install(database, ["loose"])
    (reason,) = reasons(for_transaction(database, receipt))
    assert reason.startswith("loose: watched only since ")
    assert for_transaction(database, do(DELETES["dml"])).complete


def test_altered_behind_its_back(database: Database, do: Do) -> None:
    """What was not watched at the commit is missing, also when it was before and is again."""
    schema.install(database, ["parent", "loose"])
    admin.execute_ddl(
        database.target,
        [f"DROP CHANGE STREAM {STREAM}", f"CREATE CHANGE STREAM {STREAM} FOR spanctl_receipts"],
    )
    receipt = do(lambda txn: txn.insert("parent", ("id",), [(1,)]))
    admin.execute_ddl(database.target, [f"ALTER CHANGE STREAM {STREAM} SET FOR ALL"])
    assert reasons(for_transaction(database, receipt)) == ["parent: not watched"]
    admin.execute_ddl(database.target, [f"ALTER CHANGE STREAM {STREAM} SET FOR parent"])
    found = for_transaction(database, do(lambda txn: txn.insert("parent", ("id",), [(2,)])))
    assert (found.state, found.complete) == (StreamState.ABSENT, False)


def test_watched_without_the_ledger_knowing(database: Database, do: Do) -> None:
    """A stream that somebody else made is believed once ``init`` has written it down."""
    admin.execute_ddl(
        database.target,
        [
            f"DROP CHANGE STREAM {STREAM}",
            f"CREATE CHANGE STREAM {STREAM} FOR spanctl_receipts, parent, loose",
        ],
    )
    before = do(lambda txn: txn.insert("parent", ("id",), [(1,)]))
    (reason,) = reasons(for_transaction(database, before))
    assert reason == "parent: not known since when it is watched; run: spanctl init"
    schema.install(database)
    (reason,) = reasons(for_transaction(database, before))
    assert reason.startswith("parent: known to be watched only since ")
    after = for_transaction(database, do(lambda txn: txn.insert("parent", ("id",), [(2,)])))
    assert (after.complete, len(after.rows)) == (True, 1)


@pytest.mark.parametrize("option", ["value_capture_type = 'NEW_VALUES'"])
def test_a_stream_that_leaves_something_out(database: Database, do: Do, option: str) -> None:
    """What the stream's options leave out is missing; they are named."""
    schema.install(database, ["parent"])
    admin.execute_ddl(database.target, [f"ALTER CHANGE STREAM {STREAM} SET OPTIONS ({option})"])
    (reason,) = reasons(for_transaction(database, do(fill_parent)))
    assert reason.startswith("the stream leaves out what its options say: value_capture_type")


def fill_parent(txn: Transaction) -> None:
    txn.insert("parent", ("id", "v"), [(1, 1)])


def test_the_ledgers_own_rows(database: Database) -> None:
    """They are not shown, and it is not said that they were."""
    found = list(database.query("SELECT txn_id FROM spanctl_receipts LIMIT 1"))
    receipt = receipts.get(database, found[0][0])
    assert receipt is not None
    told = for_transaction(database, receipt)
    assert reasons(told) == ["spanctl_settings: the ledger's own rows are not shown"]


def test_the_history(database: Database) -> None:
    """It has a row for each table whose watching changed, later than the DDL; no other."""
    schema.install(database, ["parent"])
    schema.install(database, ["parent"])
    marks = watches.history(database).marks
    assert {name: [one.state.value for one in found] for name, found in marks.items()} == {
        "parent": ["whole"]
    }
    admin.execute_ddl(database.target, [f"DROP CHANGE STREAM {STREAM}"])
    schema.install(database, ["shop.order"])
    marks = watches.history(database).marks
    assert {name: [one.state.value for one in found] for name, found in marks.items()} == {
        "parent": ["whole", "none"],
        "shop.order": ["whole"],
    }
    created = [one.since for one in marks["shop.order"]]
    ((begun,),) = database.query("SELECT CURRENT_TIMESTAMP()")
    assert created[0] < begun


def test_names_that_need_quotation(database: Database, do: Do) -> None:
    """Named schemas and reserved words are watched like any others, in whatever case."""
    status = schema.install(database, ["Shop.Order", "shop.`line`"])
    assert status.watched == ("shop.line", "shop.order")
    assert schema.plan(database, ["shop.order"]) == []
    do(lambda txn: txn.insert("shop.order", ("id", "select"), [(1, 1)]))
    do(lambda txn: txn.insert("shop.line", ("id", "n"), [(1, 1)]))
    sql = "UPDATE shop.`order` SET `select` = 2 WHERE id = 1"
    found = for_transaction(database, do(lambda txn: txn.execute_update(sql)))
    (row,) = found.rows
    assert (found.complete, row.table, row.before, row.after) == (
        True,
        "shop.order",
        {"select": 1},
        {"select": 2},
    )
    sql = "DELETE FROM `shop`.`order` WHERE true"
    found = for_transaction(database, do(lambda txn: txn.execute_update(sql)))
    assert (found.complete, {row.table for row in found.rows}) == (
        True,
        {"shop.order", "shop.line"},
    )


@pytest.mark.parametrize(
    "name", ["shop.nothing", "no.order", "shop", "a b", "`", "x; DROP TABLE t"]
)
def test_tables_that_are_none(database: Database, name: str) -> None:
    """What names no table is not found, and nothing is executed."""
    with pytest.raises(NotFoundError) as refused:
        schema.plan(database, [name])
    assert "shop.order" in refused.value.hint


@pytest.mark.parametrize("name", ["spanctl_receipts", "SPANCTL_watches"])
def test_tables_of_the_ledger(database: Database, name: str) -> None:
    """The ledger's own are not to be watched."""
    with pytest.raises(UsageError, match="belongs to the ledger"):
        schema.plan(database, [name])


# -- rows


def test_a_row_that_was_there_before(database: Database, do: Do) -> None:
    """Deleted and inserted again, or replaced: an update, from what it was to what it is."""
    schema.install(database, FAMILY)
    do(lambda txn: txn.insert("parent", ("id", "v"), [(1, 1), (2, 2), (3, 3)]))

    def body(txn: Transaction) -> None:
        txn.delete("parent", one(1))
        txn.insert("parent", ("id", "v"), [(1, 7)])
        txn.replace("parent", ("id", "v"), [(2, 8), (4, 4)])
        txn.replace("parent", ("id", "v"), [(3, 3)])

    found = for_transaction(database, do(body))
    told = sorted((row.keys["id"], row.mod_type, row.before, row.after) for row in found.rows)
    assert told == [
        (1, ModType.UPDATE, {"v": 1}, {"v": 7}),
        (2, ModType.UPDATE, {"v": 2}, {"v": 8}),
        (4, ModType.INSERT, None, {"v": 4}),
    ]
    assert (found.unchanged, found.complete) == (1, True)


@pytest.mark.parametrize(
    "body",
    [
        lambda txn: txn.execute_update("UPDATE parent SET v = v WHERE true"),
        lambda txn: txn.update("parent", ("id", "v"), [(1, 1)]),
        lambda txn: txn.insert_or_update("parent", ("id", "v"), [(1, 1)]),
    ],
)
def test_a_row_that_stays_as_it_was(
    database: Database, do: Do, body: Callable[[Transaction], Any]
) -> None:
    """It is no change, however it was written; that it was written is counted."""
    schema.install(database, ["parent"])
    do(lambda txn: txn.insert("parent", ("id", "v"), [(1, 1)]))
    found = for_transaction(database, do(body))
    assert (found.rows, found.unchanged, found.complete) == ((), 1, True)


def test_keys_that_are_generated(database: Database, do: Do) -> None:
    """A generated part of the key is told with the rest of it, and rows are found by it."""
    schema.install(database, ["sharded"])
    do(lambda txn: txn.insert("sharded", ("id", "v"), [(4, 1), (5, 1)]))

    def body(txn: Transaction) -> None:
        txn.delete("sharded", one(1, 4))
        txn.insert("sharded", ("id", "v"), [(4, 2), (6, 2)])

    found = for_transaction(database, do(body))
    told = sorted((row.keys["shard"], row.keys["id"], row.mod_type.value) for row in found.rows)
    assert told == [(0, 6, "INSERT"), (1, 4, "UPDATE")]
    assert found.complete


def test_keys_that_the_stream_blurs(database: Database, do: Do) -> None:
    """Keys that are times are told to the microsecond, a commit timestamp as what it became."""
    schema.install(database, ["times"])

    def body(txn: Transaction) -> None:
        txn.insert("times", ("moment", "v"), [(receipts.COMMIT_TIMESTAMP, float("nan"))])

    first = do(body)
    later = first.commit_timestamp.replace(
        microsecond=(first.commit_timestamp.microsecond + 1) % 10**6
    )
    do(lambda txn: txn.insert("times", ("moment", "v"), [(later, 0.5)]))
    (row,) = for_transaction(database, first).rows
    assert (row.keys, repr(row.after)) == ({"moment": first.commit_timestamp}, "{'v': nan}")
    sql = "UPDATE times SET v = 1 WHERE v = 0.5"
    found = for_transaction(database, do(lambda txn: txn.execute_update(sql)))
    assert [(row.keys, row.before, row.after) for row in found.rows] == [
        ({"moment": later}, {"v": 0.5}, {"v": 1.0})
    ]


def test_several_transactions_are_read_at_once(database: Database, do: Do) -> None:
    """Those that the stream doesn't reach back to are expired, the others are there."""
    old = do(lambda txn: txn.insert("parent", ("id",), [(1,)]))
    schema.install(database, ["parent"])
    new = [do(lambda txn, k=k: txn.insert("parent", ("id",), [(k,)])) for k in (2, 3)]
    found = for_transactions(database, [*new, old])
    assert found[old.txn_id].state is StreamState.EXPIRED
    assert [[row.keys["id"] for row in found[one.txn_id].rows] for one in new] == [[2], [3]]


def test_what_is_no_part_of_the_transaction(database: Database) -> None:
    """DDL and partitioned DML are only told of by their entries: those are never complete."""
    schema.install(database, ["parent"])
    with Run(database, "outside") as run:

        def body(txn: Transaction) -> Any:
            kind = StatementKind.PARTITIONED_DML
            txn.note(Statement(kind=kind, tables=("parent",), rows=1))
            return {"phase": "finished"}

        done = run.step("pdml", body, options=TransactionOptions(keep_result=True))
    receipt = receipts.get(database, done.txn_id)
    assert receipt is not None
    (reason,) = reasons(for_transaction(database, receipt))
    assert reason.startswith("partitioned DML is no part of this transaction")
