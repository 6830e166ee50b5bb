"""What transactions changed, as a real change stream tells it."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from spanctl.ledger.receipt import Receipt
from spanctl.spanner import admin, receipts, schema
from spanctl.spanner.changes import ModType, RowChange, changes
from spanctl.spanner.client import Database
from spanctl.spanner.committed import StreamState, for_transaction
from spanctl.spanner.keysets import one
from spanctl.spanner.run import Run
from spanctl.spanner.transaction import Transaction
from spanctl.spanner.values import JsonObject
from tests.faults import raw

pytestmark = pytest.mark.emulator

COLUMNS = ("k", "s", "f", "b", "n", "j", "d", "ts", "bo", "a", "ai")
DDL = (
    (
        "CREATE TABLE T (k INT64 NOT NULL, s STRING(MAX), f FLOAT64, b BYTES(MAX), n NUMERIC,"
        " j JSON, d DATE, ts TIMESTAMP OPTIONS (allow_commit_timestamp = true), bo BOOL,"
        " a ARRAY<STRING(MAX)>, ai ARRAY<INT64>) PRIMARY KEY (k)"
    ),
    "CREATE TABLE Quiet (k INT64 NOT NULL) PRIMARY KEY (k)",
    (
        "CREATE TABLE Pairs (b STRING(MAX) NOT NULL, a INT64 NOT NULL, seen TIMESTAMP)"
        " PRIMARY KEY (a, b DESC)"
    ),
)
VALUES: dict[str, Any] = {
    "s": "[x] ü\n",
    "f": 0.1,
    "b": b"\x00\xff",
    "n": Decimal("12345678901234567890.123456789"),
    "j": JsonObject({"a": [1, None]}),
    "d": date(2026, 1, 31),
    "ts": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
    "bo": True,
    "a": ["x", ""],
    "ai": [1, 2**60],
}
NULLS: dict[str, Any] = dict.fromkeys(VALUES)

Do = Callable[[Callable[[Transaction], Any]], Receipt]


@pytest.fixture
def database(emulator: str) -> Iterator[Database]:
    name = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, name)) as database:
        schema.install(database, ["T", "Pairs"])
        yield database
    raw.drop_database(emulator, name)


@pytest.fixture
def do(database: Database) -> Iterator[Do]:
    """Return a function that runs a body as one transaction and returns its receipt."""
    with Run(database, "job") as run:

        def do(body: Callable[[Transaction], Any]) -> Receipt:
            receipt = receipts.get(database, run.step("step", body).txn_id)
            assert receipt is not None
            return receipt

        yield do


def put(k: int, **values: Any) -> Callable[[Transaction], None]:
    row = {**NULLS, **values}
    return lambda txn: txn.insert_or_update("T", COLUMNS, [(k, *row.values())])


def test_insert_of_every_type(database: Database, do: Do) -> None:
    """An inserted row has no before, and an after with the very values, typed."""
    found = for_transaction(database, do(put(1, **VALUES)))
    assert found.state is StreamState.PRESENT
    assert found.complete
    assert found.unwatched == ()
    assert found.rows == (RowChange("T", ModType.INSERT, {"k": 1}, None, VALUES),)
    assert list(found.rows[0].after or {}) == list(COLUMNS[1:])


def test_update_and_nulls(database: Database, do: Do) -> None:
    """An updated row has both, also where values came to be or ceased to be NULL."""
    do(put(1, **VALUES))
    (row,) = for_transaction(database, do(put(1, s="y"))).rows
    assert row == RowChange("T", ModType.UPDATE, {"k": 1}, VALUES, {**NULLS, "s": "y"})


def test_deleted_rows(database: Database, do: Do) -> None:
    """Deleted rows keep their last values, though nothing of them is left in the table."""
    do(lambda txn: [put(k, s=str(k))(txn) for k in range(3)])
    receipt = do(lambda txn: txn.execute_update("DELETE FROM T WHERE k > 0"))
    do(put(1, s="born again"))
    rows = for_transaction(database, receipt).rows
    assert [(row.mod_type, row.keys["k"], row.after) for row in rows] == [
        (ModType.DELETE, 1, None),
        (ModType.DELETE, 2, None),
    ]
    assert [row.before and row.before["s"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_floats_that_are_no_numbers(database: Database, do: Do, value: float) -> None:
    """Infinities and NaN are shown as such, before and after."""
    (inserted,) = for_transaction(database, do(put(1, f=value))).rows
    (deleted,) = for_transaction(database, do(lambda txn: txn.delete("T", one(1)))).rows
    assert repr((inserted.after or {})["f"]) == repr(value)
    assert repr((deleted.before or {})["f"]) == repr(value)


def test_commit_timestamp_columns(database: Database, do: Do) -> None:
    """A column that Spanner filled in shows the commit timestamp, to the microsecond."""
    receipt = do(put(1, ts=receipts.COMMIT_TIMESTAMP))
    (row,) = for_transaction(database, receipt).rows
    assert (row.after or {})["ts"] == receipt.commit_timestamp


def test_the_past_is_not_the_present(database: Database, do: Do) -> None:
    """What is shown is the state of then: later changes of the same row don't leak in."""
    times = [datetime(2026, 1, day, 1, 1, 1, day, UTC) for day in (1, 2, 3)]
    kept = [do(put(1, ts=time)) for time in times]
    shown = [for_transaction(database, receipt).rows[0] for receipt in kept]
    assert [(row.after or {})["ts"] for row in shown] == times
    assert [row.before and row.before["ts"] for row in shown] == [None, *times[:2]]


def test_keys_out_of_column_order(database: Database, do: Do) -> None:
    """A key whose columns are not in the table's order still finds its exact values."""
    time = datetime(2026, 1, 1, 0, 0, 0, 5, UTC)
    receipt = do(lambda txn: txn.insert("Pairs", ("a", "b", "seen"), [(1, "x", time)]))
    (row,) = for_transaction(database, receipt).rows
    assert (row.keys, row.after) == ({"b": "x", "a": 1}, {"seen": time})


@pytest.mark.parametrize("body", [lambda _: None, lambda txn: txn.execute_sql("SELECT 1")])
def test_no_row_touched(database: Database, do: Do, body: Callable[[Transaction], Any]) -> None:
    """A transaction that changed nothing is complete with no rows: that is known, not guessed."""
    found = for_transaction(database, do(body))
    assert (found.state, found.complete, found.rows) == (StreamState.PRESENT, True, ())


def test_table_not_watched(database: Database, do: Do) -> None:
    """Tables that the stream doesn't watch are named; the watched ones are shown all the same."""

    def body(txn: Transaction) -> None:
        txn.insert("quiet", ("k",), [(1,)])
        txn.insert("t", ("k", "s"), [(1, "x")])

    found = for_transaction(database, do(body))
    assert found.unwatched == ("Quiet",)
    assert [row.table for row in found.rows] == ["T"]


def test_reading_a_table_is_not_writing_it(database: Database, do: Do) -> None:
    """An unwatched table that was only read is no gap in the trail."""
    receipt = do(lambda txn: txn.execute_sql("SELECT k FROM Quiet"))
    assert for_transaction(database, receipt).unwatched == ()
    sql = "INSERT INTO T (k, s) SELECT k, 'x' FROM Quiet"
    assert for_transaction(database, do(lambda txn: txn.execute_update(sql))).unwatched == ()


def test_concurrent_transactions_are_told_apart(database: Database) -> None:
    """Each of many concurrent transactions gets exactly its own rows."""
    made: dict[str, int] = {}

    def work(number: int) -> None:
        with Run(database, f"job-{number}") as run:
            for step in range(3):
                k = number * 10 + step
                made[run.step("step", put(k, s=str(k))).txn_id] = k

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 12
    for txn_id, k in made.items():
        receipt = receipts.get(database, txn_id)
        assert receipt is not None
        found = for_transaction(database, receipt)
        assert [row.keys for row in found.rows] == [{"k": k}]
        assert found.complete


def test_window_over_several_transactions(database: Database, do: Do) -> None:
    """A window yields the records of all transactions in it, receipts included, and no others."""
    before, first, last = do(put(1)), do(put(2)), do(put(3))
    do(put(4))
    found = list(changes(database, first.commit_timestamp, last.commit_timestamp))
    keys = sorted(row.keys["k"] for one in found if one.table == "T" for row in one.rows)
    assert keys == [2, 3]
    ours = {row.keys["txn_id"] for one in found for row in one.rows if one.table != "T"}
    assert ours == {first.txn_id, last.txn_id}
    assert before.txn_id not in ours
    assert len({one.server_transaction_id for one in found}) == 2


def test_older_than_the_stream(database: Database, do: Do) -> None:
    """A commit that the stream doesn't reach back to is expired, not empty."""
    receipt = do(put(1))
    admin.execute_ddl(database.target, ["DROP CHANGE STREAM spanctl_changes"])
    absent = for_transaction(database, receipt)
    assert (absent.state, absent.complete, absent.rows) == (StreamState.ABSENT, False, ())
    assert schema.watched(database) == ()
    schema.install(database, ["T"])
    expired = for_transaction(database, receipt)
    assert (expired.state, expired.complete, expired.rows) == (StreamState.EXPIRED, False, ())


def test_stream_without_the_receipts(database: Database, do: Do) -> None:
    """A stream that doesn't watch the receipts proves nothing: absent, never a guess."""
    ddl = "ALTER CHANGE STREAM spanctl_changes SET FOR T"
    admin.execute_ddl(database.target, [ddl])
    found = for_transaction(database, do(put(1)))
    assert (found.state, found.rows) == (StreamState.ABSENT, ())


def stream(database: Database, over: str) -> None:
    """Make the stream anew without spanctl: the emulator breaks an ALTER of several tables."""
    admin.execute_ddl(
        database.target,
        ["DROP CHANGE STREAM spanctl_changes", f"CREATE CHANGE STREAM spanctl_changes FOR {over}"],
    )


def test_stream_over_some_columns(database: Database, do: Do) -> None:
    """A table of which only some columns are watched is not shown whole; they are named."""
    stream(database, "spanctl_receipts, T(s, f)")
    schema.install(database)
    assert schema.watched(database) == ("T(f, s)",)
    found = for_transaction(database, do(put(1, s="x")))
    assert [str(gap) for gap in found.gaps] == ["T: only its columns f, s were watched"]
    assert not found.complete


def test_single_columns_become_whole_on_request_only(database: Database, do: Do) -> None:
    """``init`` of another table leaves single columns alone; of this one, it watches all of it."""
    stream(database, "spanctl_receipts, T(s)")
    schema.install(database, ["Pairs"])
    assert schema.watched(database) == ("Pairs", "T(s)")
    schema.install(database, ["t"])
    assert schema.watched(database) == ("Pairs", "T")
    assert for_transaction(database, do(put(1, s="x"))).complete


def test_stream_over_everything(database: Database, do: Do) -> None:
    """A stream over the whole database leaves no table out, from when the ledger knows of it."""
    stream(database, "ALL")
    insert = lambda k: lambda txn: txn.insert("Quiet", ("k",), [(k,)])  # noqa: E731
    before = do(insert(1))
    status = schema.install(database, ["T"])
    assert (status.executed, status.watched) == ((), ("Pairs", "Quiet", "T"))
    after = for_transaction(database, do(insert(2)))
    assert (after.complete, after.gaps) == (True, ())
    assert [(row.table, row.keys) for row in after.rows] == [("Quiet", {"k": 2})]
    (gap,) = for_transaction(database, before).gaps
    assert gap.table == "Quiet"
    assert "known to be watched only since" in gap.why


def test_table_dropped_since(database: Database, do: Do) -> None:
    """The stream still tells what happened to a table that is gone."""
    receipt = do(put(1, s="x"))
    admin.execute_ddl(
        database.target,
        ["ALTER CHANGE STREAM spanctl_changes SET FOR spanctl_receipts, Pairs", "DROP TABLE T"],
    )
    found = for_transaction(database, receipt)
    assert [(row.keys, (row.after or {})["s"]) for row in found.rows] == [({"k": 1}, "x")]


def test_empty_window(database: Database, do: Do) -> None:
    """A window in which nothing committed holds nothing."""
    receipt = do(put(1))
    after = receipt.commit_timestamp + timedelta(microseconds=1)
    assert [one for one in changes(database, after, after) if one.rows] == []
