"""What takes something away is found by its text, in whatever way it is written."""

import pytest

from spanctl.spanner.destructive import loss
from spanctl.spanner.sql import describe


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DROP TABLE accounts", "drops table accounts"),
        ("drop table if exists `order`", "drops table order"),
        ("/* x */ DROP -- y\n TABLE a.b", "drops table a.b"),
        ("DROP INDEX by_name", "drops index by_name"),
        ("DROP SEARCH INDEX by_text", "drops search index by_text"),
        ("DROP VECTOR INDEX IF EXISTS v", "drops vector index v"),
        ("DROP CHANGE STREAM everything", "drops change stream everything"),
        ("DROP SCHEMA sales", "drops schema sales"),
        ("DROP SEQUENCE s", "drops sequence s"),
        ("DROP VIEW v", "drops view v"),
        ("ALTER TABLE t DROP COLUMN c", "drops column c of t"),
        ("ALTER TABLE t DROP COLUMN IF EXISTS c", "drops column c of t"),
        ("alter table if exists s.t drop `c`", "drops column c of s.t"),
        ("ALTER CHANGE STREAM cs DROP FOR ALL", "ends what change stream cs watches"),
        (
            "ALTER TABLE t ADD ROW DELETION POLICY (OLDER_THAN(made, INTERVAL 1 DAY))",
            "has rows of t deleted by their age",
        ),
        ("ALTER TABLE t REPLACE ROW DELETION POLICY (OLDER_THAN(made, INTERVAL 1 DAY))", "age"),
        ("DELETE FROM t WHERE true", "deletes every row of t"),
        ("DELETE t WHERE TRUE", "deletes every row of t"),
        ("delete from `t` where (true)", "deletes every row of t"),
        ("UPDATE t SET a = 1 WHERE 1 = 1", "changes every row of t"),
        ("@{x=1} UPDATE t SET a = 1 WHERE 1=1 THEN RETURN a", "changes every row of t"),
        ("UPDATE t AS x SET a = 1 WHERE NOT FALSE", "changes every row of t"),
        ("UPDATE t SET a = (SELECT b FROM u WHERE id = 1) WHERE 'a' = 'a'", "changes every row"),
        ("DELETE FROM t WHERE @p", "deletes every row of t"),
        ("DELETE FROM t WHERE @id = 5 OR @all", "deletes every row of t"),
        ("DELETE FROM t WHERE id = 5 OR true", "deletes every row of t"),
        ("DELETE FROM t WHERE (id = 5 AND x > 2) OR (1 < 2)", "deletes every row of t"),
        ("DELETE FROM t WHERE true AND 2 > 1", "deletes every row of t"),
        ("DELETE FROM t WHERE id = id", "deletes every row of t"),
        ("DELETE FROM t WHERE t.id = T.`id`", "deletes every row of t"),
        ("DELETE FROM t WHERE CURRENT_TIMESTAMP() > TIMESTAMP '2000-01-01'", "deletes every row"),
        ("DELETE FROM t WHERE 3 BETWEEN 1 AND 5", "deletes every row of t"),
        ("DELETE FROM t WHERE 1 IN (1, 2)", "deletes every row of t"),
        ("DELETE FROM t WHERE EXISTS (SELECT 1)", "deletes every row of t"),
        ("DELETE FROM t WHERE IF(true, true, false)", "deletes every row of t"),
        ("DELETE FROM t WHERE CASE WHEN 1 = 1 THEN TRUE ELSE FALSE END", "deletes every row"),
        ("DELETE FROM t WHERE NULL IS NULL", "deletes every row of t"),
        ("DELETE FROM t WHERE CAST('1' AS INT64) = 1", "deletes every row of t"),
        ("DELETE FROM t WHERE EXTRACT(YEAR FROM DATE '2020-01-01') = 2020", "deletes every row"),
        ("DELETE FROM t WHERE TIMESTAMP_ADD(@now, INTERVAL 1 DAY) > @now", "deletes every row"),
        ("DELETE FROM t WHERE 1", "deletes every row of t"),
    ],
)
def test_what_is_lost_is_told(sql: str, told: str) -> None:
    """In a few words, with the name."""
    assert told in (loss(describe(sql)) or "")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 WHERE true",
        "INSERT INTO t (a) SELECT a FROM u WHERE true",
        "CREATE TABLE dropped (a INT64) PRIMARY KEY (a)",
        "CREATE INDEX drop_it ON t (a)",
        "ALTER TABLE t ADD COLUMN c INT64",
        "ALTER TABLE t ALTER COLUMN c DROP DEFAULT",
        "ALTER TABLE t ALTER COLUMN c SET DEFAULT (1)",
        "ALTER TABLE t DROP CONSTRAINT fk",
        "ALTER TABLE t DROP ROW DELETION POLICY",
        "ALTER TABLE t ADD COLUMN `drop` INT64",
        "ALTER CHANGE STREAM cs SET FOR ALL",
        "ALTER DATABASE d SET OPTIONS (version_retention_period = '7d')",
        "DELETE FROM t WHERE id = 1",
        "DELETE FROM t WHERE `true`",
        "DELETE FROM t WHERE active",
        "DELETE FROM t WHERE NOT active",
        "UPDATE t SET a = 1 WHERE true AND id = @id",
        "UPDATE t SET a = 1 WHERE id IN UNNEST(@ids)",
        "UPDATE t SET a = 1 WHERE id BETWEEN 1 AND 5",
        "UPDATE t SET a = 1 WHERE a = 1 AND (b = 2 OR c = 3)",
        "UPDATE t SET a = 1 WHERE LOWER(name) = 'x'",
        "UPDATE t SET a = 1 WHERE id IN (SELECT id FROM u)",
        "UPDATE t SET a = 1 WHERE CASE WHEN a = 1 THEN true ELSE false END",
        "DELETE FROM t WHERE a = b",
        "DELETE FROM t WHERE date = @day",
        "DELETE FROM t WHERE day > 3 OR time IS NULL",
        "DELETE FROM t WHERE string = 'x'",
        "DELETE FROM t WHERE CAST(number AS STRING) = '1'",
        "DELETE FROM t WHERE EXTRACT(YEAR FROM made) < 2000",
        "DELETE FROM t WHERE made < TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)",
    ],
)
def test_what_is_chosen_is_not(sql: str) -> None:
    """A column stands in the WHERE, or nothing is dropped."""
    assert loss(describe(sql)) is None
