"""A NULL in an array of a watched table, of which the emulator would die."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from spanctl.errors import ConflictError
from spanctl.spanner import schema
from spanctl.spanner.client import Database
from spanctl.spanner.partitioned import execute_partitioned
from spanctl.spanner.run import Run
from tests.faults import raw

pytestmark = pytest.mark.emulator

TYPES = {
    "STRING(MAX)": "a",
    "BYTES(MAX)": b"a",
    "BOOL": True,
    "FLOAT64": 0.5,
    "FLOAT32": 0.5,
    "TIMESTAMP": datetime(2026, 1, 1, tzinfo=UTC),
}
COLUMNS = ", ".join(f"a{number} ARRAY<{name}>" for number, name in enumerate(TYPES))
DEFAULTS = "good ARRAY<STRING(9)> DEFAULT (['a']), bad ARRAY<STRING(9)> DEFAULT (['a', NULL])"
DDL = (
    f"CREATE TABLE Watched (k INT64, {COLUMNS}, whole ARRAY<INT64>) PRIMARY KEY (k)",
    f"CREATE TABLE Free (k INT64, {COLUMNS}) PRIMARY KEY (k)",
    f"CREATE TABLE Ready (k INT64, {DEFAULTS}) PRIMARY KEY (k)",
    "CREATE TABLE `order` (k INT64, `order` ARRAY<STRING(MAX)>) PRIMARY KEY (k)",
)


@pytest.fixture
def database(emulator: str) -> Iterator[Database]:
    name = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, name)) as database:
        schema.install(database, ["Watched", "order", "Ready"])
        yield database
    raw.drop_database(emulator, name)


@pytest.fixture
def do(database: Database) -> Iterator[Callable[..., Any]]:
    with Run(database, "job") as run:
        yield lambda body: run.step("step", body)


@pytest.mark.parametrize("number", range(len(TYPES)))
def test_by_mutation(database: Database, do: Callable[..., Any], number: int) -> None:
    """It is refused by the names of table and column, and nothing is written."""
    column, value = f"a{number}", list(TYPES.values())[number]
    with pytest.raises(ConflictError, match=f"array {column} of Watched") as refused:
        do(lambda txn: txn.insert_or_update("watched", ("k", column), [(1, [value, None])]))
    assert "don't watch" in refused.value.hint
    assert list(database.query("SELECT k FROM Watched")) == []
    do(lambda txn: txn.insert("Watched", ("k", column), [(1, [value]), (2, []), (3, None)]))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO Watched (k, a0) VALUES (1, ['a', NULL])",
        "INSERT INTO Watched (k, a0) SELECT 1, ARRAY_AGG(x) FROM UNNEST(['a', NULL]) AS x",
        "INSERT OR UPDATE INTO watched (k, a3) VALUES (1, [CAST(NULL AS FLOAT64)])",
        "INSERT INTO `order` (k, `order`) VALUES (1, ['a', NULL])",
    ],
)
def test_by_dml(database: Database, do: Callable[..., Any], sql: str) -> None:
    """However it comes about, it is found in the transaction, before the commit."""
    with pytest.raises(ConflictError, match="ends the emulator"):
        do(lambda txn: txn.execute_update(sql))
    assert list(database.query("SELECT k FROM Watched")) == []


@pytest.mark.parametrize("watching", ["Free", "Free (a1, a0)", "ALL"])
def test_by_a_change_stream_of_the_user_s_own(
    database: Database, do: Callable[..., Any], watching: str
) -> None:
    """The emulator dies of any stream that watches it, not of the ledger's alone."""
    with raw.database(database.target.emulator_host or "", database.target.database.database) as it:
        it.update_ddl([f"CREATE CHANGE STREAM own FOR {watching}"]).result(30)
    with pytest.raises(ConflictError, match="array a0 of Free"):
        do(lambda txn: txn.insert("Free", ("k", "a0"), [(1, ["a", None])]))
    with pytest.raises(ConflictError, match="array a1 of Free"):
        do(lambda txn: txn.execute_update("INSERT INTO Free (k, a1) VALUES (2, [b'a', NULL])"))
    if watching.endswith(")"):
        do(lambda txn: txn.insert("Free", ("k", "a5"), [(1, [None])]))
    do(lambda txn: txn.insert("Free", ("k", "a0"), [(3, ["a"])]))
    assert list(database.query("SELECT k FROM Free WHERE k = 3")) == [(3,)]


@pytest.mark.parametrize("how", ["insert", "insert_or_update", "replace"])
def test_by_a_default_of_a_column_left_out(
    database: Database, do: Callable[..., Any], how: str
) -> None:
    """A default that holds a NULL is found before the commit; others do no harm."""
    with pytest.raises(ConflictError, match="array bad of Ready"):
        do(lambda txn: getattr(txn, how)("ready", ("k",), [(1,)]))
    do(lambda txn: getattr(txn, how)("Ready", ("k", "BAD"), [(1, ["b"])]))
    do(lambda txn: txn.update("Ready", ("k", "good"), [(1, ["c"])]))
    assert list(database.query("SELECT * FROM Ready")) == [(1, ["c"], ["b"])]


def test_by_partitioned_dml(database: Database, do: Callable[..., Any]) -> None:
    """It is tried in a transaction first, which is rolled back."""
    do(lambda txn: txn.insert("Watched", ("k", "a0"), [(1, ["a"])]))
    with pytest.raises(ConflictError, match="array a0 of Watched"):
        execute_partitioned(database, "UPDATE Watched SET a0 = [CAST(NULL AS STRING)] WHERE true")
    count = execute_partitioned(
        database, "UPDATE Watched SET a0 = @a WHERE k = 1", {"a": ["b"]}, assume_idempotent=True
    )
    assert count == 1
    assert list(database.query("SELECT a0 FROM Watched")) == [(["b"],)]


def test_what_does_no_harm(database: Database, do: Callable[..., Any]) -> None:
    """Tables that aren't watched and arrays of other types take it; the emulator goes on."""
    do(lambda txn: txn.insert("Free", ("k", "a0"), [(1, ["a", None])]))
    do(lambda txn: txn.execute_update("INSERT INTO Free (k, a1) VALUES (2, [b'a', NULL])"))
    do(lambda txn: txn.insert("Watched", ("k", "whole"), [(1, [1, None])]))
    assert len(list(database.query("SELECT k FROM Free"))) == 2


def test_a_table_that_holds_one_is_not_watched(database: Database, do: Callable[..., Any]) -> None:
    """The next change of that row would end the emulator: ``init`` refuses, and names it."""
    do(lambda txn: txn.insert("Free", ("k", "a0"), [(1, ["a", None])]))
    with pytest.raises(ConflictError, match="array a0 of Free"):
        schema.install(database, ["Free"])
    assert schema.watched(database) == ("Ready", "Watched", "order")
    do(lambda txn: txn.execute_update("DELETE FROM Free WHERE true"))
    assert schema.install(database, ["Free"]).watched == ("Free", "Ready", "Watched", "order")


def test_the_receipt_tells_only_what_the_body_did(
    database: Database, do: Callable[..., Any]
) -> None:
    """The look into the table is not among the statements."""
    from spanctl.spanner import receipts

    done = do(lambda txn: txn.execute_update("INSERT INTO Watched (k, a0) VALUES (1, ['a'])"))
    receipt = receipts.get(database, done.txn_id)
    assert receipt is not None
    assert [one.kind.value for one in receipt.statements] == ["insert"]
