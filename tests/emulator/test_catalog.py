"""Tables as the database has them."""

import pytest

from spanctl.errors import ConflictError, NotFoundError
from spanctl.spanner import catalog
from spanctl.spanner.client import Database
from spanctl.spanner.rpc import Target
from spanctl.spanner.values import TypeCode, type_name

pytestmark = pytest.mark.emulator

DDL = (
    (
        "CREATE TABLE Parent (id INT64 NOT NULL, b BYTES(4), c STRING(10) DEFAULT ('x'),"
        " g STRING(20) AS (c || 'g') STORED, n NUMERIC NOT NULL, a ARRAY<STRING(3)>)"
        " PRIMARY KEY(id)"
    ),
    (
        "CREATE TABLE Child (id INT64 NOT NULL, k STRING(MAX) NOT NULL) PRIMARY KEY(id, k DESC),"
        " INTERLEAVE IN PARENT Parent ON DELETE CASCADE"
    ),
    "CREATE UNIQUE INDEX byc ON Parent(c) STORING (b)",
    "CREATE SCHEMA s",
    "CREATE TABLE s.T2 (a INT64) PRIMARY KEY(a)",
)


@pytest.fixture
def opened(emulator, database):
    with Database(Target(database=database(*DDL), emulator_host=emulator)) as made:
        yield made


def test_a_table_is_found_whatever_its_case(opened):
    """The table comes with its own name, columns in order, key, parent and indexes."""
    parent = catalog.table(opened, "PARENT")
    assert parent.name == "Parent"
    assert [column.name for column in parent.columns] == ["id", "b", "c", "g", "n", "a"]
    assert parent.primary_key == ("id",)
    assert parent.parent is None
    assert parent.indexes == (
        catalog.Index(name="byc", columns=("c",), storing=("b",), unique=True),
    )
    child = catalog.table(opened, "child")
    assert (child.primary_key, child.parent) == (("id", "k"), "Parent")


def test_columns_say_what_can_be_written(opened):
    """Types, lengths, NULL, defaults and generated columns are told."""
    columns = {column.name: column for column in catalog.table(opened, "Parent").columns}
    assert {name: type_name(column.type) for name, column in columns.items()} == {
        "id": "INT64",
        "b": "BYTES",
        "c": "STRING",
        "g": "STRING",
        "n": "NUMERIC",
        "a": "ARRAY<STRING>",
    }
    assert (columns["b"].length, columns["c"].length, columns["a"].length) == (4, 10, 3)
    assert [name for name, column in columns.items() if column.required] == ["id", "n"]
    assert columns["g"].generated
    assert columns["c"].default == "'x'"
    assert columns["id"].type.code == TypeCode.INT64


def test_a_named_schema_is_part_of_the_name(opened):
    """A table in a named schema is found by its qualified name."""
    assert catalog.table(opened, "s.t2").name == "s.T2"
    assert catalog.tables(opened) == ["Child", "Parent", "s.T2"]


def test_an_unknown_table_brings_a_suggestion(opened):
    """A misspelt table is an error that says which one was probably meant."""
    with pytest.raises(NotFoundError) as caught:
        catalog.table(opened, "Parnet")
    assert caught.value.hint == "did you mean Parent?"


def test_a_postgresql_database_is_refused_by_name(emulator):
    """The PostgreSQL dialect is named in the refusal."""
    from google.cloud.spanner_admin_database_v1 import DatabaseDialect

    from spanctl.resources import DatabaseName
    from tests.faults import raw
    from tests.faults.emulator import INSTANCE, PROJECT, new_name

    raw.create_database(emulator, ())
    name = new_name()
    with raw.client(emulator) as made:
        found = made.instance(INSTANCE)
        found.database(name, database_dialect=DatabaseDialect.POSTGRESQL).create().result(30)
    target = Target(database=DatabaseName(PROJECT, INSTANCE, name), emulator_host=emulator)
    with Database(target) as opened:
        assert catalog.dialect(opened) == "POSTGRESQL"
        for ask in (catalog.tables, lambda database: catalog.table(database, "t")):
            with pytest.raises(ConflictError, match="PostgreSQL"):
                ask(opened)
