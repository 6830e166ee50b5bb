"""Which table DML changes, and how names are written: what every guard goes by."""

import pytest

from spanctl.errors import UsageError
from spanctl.ledger.receipt import StatementKind as Kind
from spanctl.spanner import sql


@pytest.mark.parametrize(
    "text",
    [
        r"UPDATE `spanctl\x5freceipts` SET reason = 'x' WHERE true",
        r"DELETE FROM s.`\u0074` WHERE true",
        r"INSERT INTO t (`\x76`) VALUES (1)",
        r"UPDATE c SET v = `\x76` + 1 WHERE k = 1",
        r"UPDATE c SET v = `\x72and`() WHERE true",
        r"SELECT * FROM `a\`b`",
        r"SELECT @`\x70`",
        r"DROP TABLE `spanctl\137receipts`",
        r"ALTER CHANGE STREAM `spanctl\U0000005fchanges` DROP FOR ALL",
    ],
)
def test_a_name_with_an_escape_is_refused(text: str) -> None:
    """It would be another name to Spanner than to whoever reads it, for DDL as for the rest."""
    with pytest.raises(UsageError, match=r"name in line 2 .* escape") as refused:
        sql.describe(f"\n{text}")
    assert "without the escape" in str(refused.value.hint)
    with pytest.raises(UsageError, match="escape"):
        sql.statements(text)


def test_escapes_elsewhere_are_none_in_names() -> None:
    """Strings, comments and patterns keep theirs."""
    text = "UPDATE t SET v = 'a\\x5f`\\x5f`' WHERE REGEXP_CONTAINS(s, r'\\d') -- `\\x5f`"
    assert sql.describe(text).target == "t"


@pytest.mark.parametrize(
    ("text", "kind", "target", "tables"),
    [
        (
            "INSERT INTO secret (id) WITH secret AS (SELECT id FROM seen) SELECT id FROM secret",
            Kind.INSERT,
            "secret",
            ("secret", "seen"),
        ),
        (
            "INSERT INTO Secret (id) WITH `SECRET` AS (SELECT id FROM seen) SELECT * FROM secret",
            Kind.INSERT,
            "Secret",
            ("Secret", "seen"),
        ),
        (
            "INSERT OR UPDATE t (a) (WITH t AS (SELECT 1 AS a) SELECT a FROM t)",
            Kind.INSERT_OR_UPDATE,
            "t",
            ("t",),
        ),
        (
            "INSERT s.t (a) WITH t AS (SELECT 1 AS a), u AS (SELECT * FROM v) SELECT a FROM t, u",
            Kind.INSERT,
            "s.t",
            ("s.t", "v"),
        ),
        (
            "UPDATE t SET a = (WITH t AS (SELECT 1 AS b) SELECT b FROM t) WHERE true",
            Kind.UPDATE,
            "t",
            ("t",),
        ),
        (
            "DELETE t WHERE k IN (WITH t AS (SELECT k FROM u) SELECT k FROM t)",
            Kind.DELETE,
            "t",
            ("t", "u"),
        ),
        ("INSERT UPDATE INTO t (k) VALUES (1)", Kind.INSERT_OR_UPDATE, "t", ("t",)),
        ("insert update t (k) VALUES (1)", Kind.INSERT_OR_UPDATE, "t", ("t",)),
        ("INSERT update (k) VALUES (1)", Kind.INSERT, "update", ("update",)),
        ("INSERT INTO update (k) VALUES (1)", Kind.INSERT, "update", ("update",)),
        ("INSERT IGNORE t (k) VALUES (1)", Kind.INSERT, "t", ("t",)),
        ("INSERT OR REPLACE INTO t (k) VALUES (1)", Kind.REPLACE, "t", ("t",)),
        ("INSERT REPLACE INTO t (k) VALUES (1)", Kind.REPLACE, "t", ("t",)),
        ("DELETE insert t WHERE true", Kind.DELETE, "insert", ("insert",)),
        ("UPDATE update SET a = 1 WHERE true", Kind.UPDATE, "update", ("update",)),
        ("@5 DELETE @{a=b} FROM t@{c=d} WHERE true", Kind.DELETE, "t", ("t",)),
        ("SELECT 1 FROM t", Kind.QUERY, "", ("t",)),
        ("DROP TABLE t", Kind.DDL, "", ("t",)),
    ],
)
def test_what_dml_changes(text: str, kind: Kind, target: str, tables: tuple[str, ...]) -> None:
    """The table after the first words is changed, whatever else is of its name."""
    told = sql.describe(text)
    assert (told.kind, told.target, told.tables) == (kind, target, tables)


@pytest.mark.parametrize("mark", ["--", "#"])
def test_a_comment_ends_with_its_line(mark: str) -> None:
    """A carriage return ends a line to Spanner, so it does here: what follows is read."""
    text = "UPDATE --\rspanctl_receipts SET a = 1 WHERE true /*\nt SET a = 1 WHERE b --*/"
    assert sql.describe(text.replace("--", mark)).target == "spanctl_receipts"
    text = "UPDATE -- x\r\nt SET a = 1 WHERE true"
    assert sql.describe(text.replace("--", mark)).target == "t"


@pytest.mark.parametrize("text", ["UPDATE", "UPDATE (t) SET a = 1 WHERE true", "DELETE\u200bt"])
def test_dml_of_which_no_table_can_be_read(text: str) -> None:
    """What can't be read can't be guarded: it is refused."""
    with pytest.raises(UsageError, match=r"table .* can't be read"):
        sql.describe(text)
    with pytest.raises(UsageError, match=r"line 3 changes can't be read"):
        sql.statements(f"SELECT 1;\n\n{text}")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("INSERT t (k) VALUES (1), (2)", 2),
        ("INSERT OR IGNORE t (k) VALUES (1), (2)", None),
        ("INSERT IGNORE INTO t (k) VALUES (1), (2)", None),
    ],
)
def test_rows_that_may_be_passed_over(text: str, values: int | None) -> None:
    """They aren't counted as inserted, in either spelling."""
    assert sql.describe(text).values == values
