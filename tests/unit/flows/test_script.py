"""Scripts: what may be run together, and parameters that fit."""

import pytest

from spanctl.errors import UsageError
from spanctl.flows.script import Script, SqlMode

SECRET = "hunter2"  # noqa: S105 - looked for in what others see


@pytest.mark.parametrize(
    ("texts", "options", "mode", "count"),
    [
        (["SELECT 1"], {}, SqlMode.QUERIES, 1),
        (["SELECT 1; SELECT 2", "SELECT 3"], {}, SqlMode.QUERIES, 3),
        (["SELECT 1; UPDATE t SET a = 1 WHERE b = 2"], {}, SqlMode.TRANSACTION, 2),
        (["DROP TABLE t"], {"ddl": True}, SqlMode.DDL, 1),
        (["DELETE FROM t WHERE true"], {"partitioned": True}, SqlMode.PARTITIONED, 1),
    ],
)
def test_the_mode_follows_from_the_statements(texts, options, mode, count):
    """Queries alone, DML with or without queries, and what a flag asks for."""
    script = Script.read(texts, **options)
    assert (script.mode, len(script.statements)) == (mode, count)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "no SQL statement"),
        (" -- nothing\n;", {}, "no SQL statement"),
        ("SELECT 1;\nDROP TABLE t", {}, "line 2 is DDL"),
        ("SELECT 1", {"ddl": True}, "every statement must be DDL"),
        ("INSERT INTO t (a) VALUES (1)", {"partitioned": True}, "UPDATE or DELETE"),
        ("DROP TABLE t", {"ddl": True, "partitioned": True}, "can't be run together"),
        ("BEGIN; SELECT 1; COMMIT", {}, r"line 1 \(BEGIN\) can't be run"),
        ("SELECT 'abc", {}, "never closed"),
        ("DELETE FROM `Spanctl_receipts` WHERE true", {}, "changes Spanctl_receipts"),
        ("DELETE FROM `spanctl\\x5freceipts` WHERE true", {}, "holds an escape"),
        ("DROP TABLE `spanctl\\x5fintents`", {"ddl": True}, "holds an escape"),
        (
            "INSERT spanctl_settings (a) WITH spanctl_settings AS (SELECT 1) SELECT * FROM t",
            {},
            "changes spanctl_settings",
        ),
        ("DROP TABLE spanctl_intents", {"ddl": True}, "changes spanctl_intents"),
        ("DROP TABLE IF EXISTS `Spanctl_Intents`", {"ddl": True}, "changes Spanctl_Intents"),
        ("ALTER TABLE spanctl_receipts DROP COLUMN x", {"ddl": True}, "spanctl_receipts"),
        ("ALTER TABLE IF EXISTS spanctl_receipts ADD COLUMN x INT64", {"ddl": True}, "changes"),
        ("ALTER TABLE t RENAME TO spanctl_receipts", {"ddl": True}, "spanctl_receipts"),
        ("DROP INDEX spanctl_receipts_by_time", {"ddl": True}, "spanctl_receipts_by_time"),
        ("ALTER INDEX spanctl_intents_open ADD STORED COLUMN x", {"ddl": True}, "changes"),
        ("CREATE INDEX i ON spanctl_receipts (flow)", {"ddl": True}, "spanctl_receipts"),
        ("ALTER CHANGE STREAM spanctl_changes DROP FOR ALL", {"ddl": True}, "spanctl_changes"),
        (
            "CREATE TABLE t (a INT64, FOREIGN KEY (a) REFERENCES spanctl_receipts (b))",
            {"ddl": True},
            "spanctl_receipts",
        ),
        (
            "CREATE TABLE t (a INT64) PRIMARY KEY (a), INTERLEAVE IN PARENT spanctl_receipts",
            {"ddl": True},
            "spanctl_receipts",
        ),
        ("SELECT @a", {}, "@a has no value"),
    ],
)
def test_what_cannot_be_run_is_refused(text, options, message):
    """Each with one clear line, before anything is sent."""
    with pytest.raises(UsageError, match=message) as caught:
        Script.read([text], **options)
    assert caught.value.hint


def test_parameters_are_typed():
    """Each is read as its type; without a value it is NULL; names are matched in any case."""
    script = Script.read(
        ["SELECT @a, @B; SELECT @c, @d"],
        ["A:INT64=7", "b:STRING(3)=a=b", 'c:ARRAY<STRING>=["x"]', "d:DATE"],
    )
    values, types = script.bound(script.statements[0])
    assert values == {"a": 7, "B": "a=b"}
    assert list(types) == ["a", "B"]
    assert script.bound(script.statements[1])[0] == {"c": ["x"], "d": None}


@pytest.mark.parametrize(
    "given",
    [
        ["a=7"],
        ["a"],
        [":INT64=7"],
        ["a b:INT64=7"],
        ["a:TEXT=7"],
        ["a:INT64=hunter2"],
        ["a:INT64="],
        ["a:STRING(3)=hunter2"],
        ["a:INT64=7", "A:INT64=8"],
        ["a:INT64=7", "b:INT64=hunter2"],
        ["a:INT64=7", "b:INT64=8"],
    ],
)
def test_bad_parameters_are_refused_without_their_value(given):
    """Unknown types, missing types, wrong values, doubles and leftovers: named, not repeated."""
    with pytest.raises(UsageError) as caught:
        Script.read(["SELECT @a"], given)
    assert SECRET not in f"{caught.value.message} {caught.value.hint} {caught.value.details}"


def test_what_others_see_holds_no_value():
    """Neither literals nor values are in what Prefect gets, nor in the script's own repr."""
    text = f"UPDATE t SET a = '{SECRET}' WHERE b = @p -- {SECRET}"  # noqa: S608 - never run
    script = Script.read([text], [f"p:STRING={SECRET}"])
    assert SECRET not in str(script.public())
    assert script.public()["parameters"] == [{"name": "p", "type": "STRING"}]
    assert SECRET not in repr(script.parameters)


def test_other_values_are_another_write():
    """The arguments that a key stands for hold every value, JSON arrays included."""
    scripts = [
        Script.read(["UPDATE t SET a = @p WHERE b = 1"], [f"p:{value}"])
        for value in ("JSON=[1]", "JSON=[2]", "STRING=[1]", "JSON=null", "JSON")
    ]
    assert len({repr(script.arguments) for script in scripts}) == 5


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE t ADD COLUMN spanctl_txn_id STRING(36)",
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS spanctl_receipts STRING(36)",
        "ALTER TABLE t DROP COLUMN spanctl_receipts",
        "ALTER INDEX i ADD STORED COLUMN spanctl_receipts",
        "CREATE TABLE t (spanctl_receipts INT64, spanctl_b INT64) PRIMARY KEY (spanctl_receipts)",
        "CREATE INDEX i ON t (spanctl_receipts) STORING (spanctl_intents)",
        "CREATE TABLE spanctl_notes (id INT64) PRIMARY KEY (id)",
        "CREATE TABLE s.spanctl_receipts (id INT64) PRIMARY KEY (id)",
        "DROP TABLE spanctl_notes",
        "CREATE CHANGE STREAM spanctl_mine FOR t (spanctl_receipts)",
    ],
)
def test_the_users_own_names_may_begin_as_the_ledgers(sql: str) -> None:
    """Only the ledger's own tables, indexes and stream are its own; a column is its table's."""
    assert Script.read([sql], ddl=True).mode is SqlMode.DDL


def test_dml_of_the_users_own_tables() -> None:
    """A table that is named like the ledger's is written; the ledger's isn't."""
    assert Script.read(["UPDATE spanctl_notes SET spanctl_receipts = 1 WHERE TRUE"])
    assert Script.read(["DELETE FROM s.spanctl_receipts WHERE TRUE"])
    with pytest.raises(UsageError, match="changes spanctl_receipts"):
        Script.read(["DELETE FROM `spanctl_receipts` WHERE TRUE"])
