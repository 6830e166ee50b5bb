"""Statements: split, described, masked."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.errors import UsageError
from spanctl.ledger.receipt import StatementKind as Kind
from spanctl.spanner import sql

SECRET = "hunter2"  # noqa: S105 - looked for in masked text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" ;; -- nothing; here\n", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("-- a;b\nSELECT ';' /* ; */ ; # c;\nSELECT 2", ["SELECT ';'", "SELECT 2"]),
        ("SELECT 'it\\'s; x'; SELECT 2", ["SELECT 'it\\'s; x'", "SELECT 2"]),
        ("SELECT r'\\'; ', rb\"\\\"; \"; S", ["SELECT r'\\'; ', rb\"\\\"; \"", "S"]),
        ("SELECT '''a';\n''b''', \"\"\";\"\"\"; S", ["SELECT '''a';\n''b''', \"\"\";\"\"\"", "S"]),
        ("SELECT `a;b`; S", ["SELECT `a;b`", "S"]),
        ("SELECT 1 /* /* ; */; S", ["SELECT 1", "S"]),
        ("EXPLAIN SELECT 'a;b'; CALL f('x;y'); S", ["EXPLAIN SELECT 'a;b'", "CALL f('x;y')", "S"]),
        ("SELECT 1--1;\n; S", ["SELECT 1", "S"]),
        ("SELECT '', ''; S", ["SELECT '', ''", "S"]),
    ],
)
def test_a_text_is_split_at_its_semicolons(text, parts):
    """Semicolons in strings, names and comments end nothing."""
    assert [statement.text for statement in sql.statements(text)] == parts


def test_statements_know_their_lines():
    """Each statement says where it begins, for error messages."""
    found = sql.statements("-- one\nSELECT '''\n\n''';\n\n  SELECT 2")
    assert [statement.line for statement in found] == [2, 6]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("SELECT 'abc", 1),
        ('SELECT 1;\nSELECT "abc', 2),
        ("SELECT\n\n`abc", 3),
        ("SELECT /* x", 1),
        ("SELECT '''a''", 1),
        ("SELECT 'a\nb'", 1),
    ],
)
def test_what_is_never_closed_is_refused_with_its_line(text, line):
    """An open quotation or comment is a usage error that names the line, not the text."""
    with pytest.raises(UsageError, match=f"line {line} ") as caught:
        sql.statements(text)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "tables"),
    [
        ("SELECT 1", Kind.QUERY, ()),
        ("select a from T", Kind.QUERY, ("T",)),
        ("(SELECT a FROM t) UNION ALL (SELECT a FROM u)", Kind.QUERY, ("t", "u")),
        (
            "WITH c AS (SELECT * FROM t) SELECT * FROM c, `s`.u AS x, x.arr",
            Kind.QUERY,
            ("t", "s.u"),
        ),
        ("SELECT EXTRACT(YEAR FROM d), a IS DISTINCT FROM b FROM t", Kind.QUERY, ("t",)),
        ("SELECT * FROM UNNEST([1]) AS a, t, UNNEST([2])", Kind.QUERY, ("t",)),
        (
            "SELECT * FROM t@{FORCE_INDEX=i} a JOIN@{JOIN_METHOD=HASH_JOIN} u ON a.k = u.k",
            Kind.QUERY,
            ("t", "u"),
        ),
        (
            "SELECT * FROM t WHERE k IN (SELECT k FROM u) ORDER BY a, b FOR UPDATE",
            Kind.QUERY,
            ("t", "u"),
        ),
        ("SELECT a FROM t GROUP BY a, b", Kind.QUERY, ("t",)),
        ("FROM t |> WHERE x > 1 |> JOIN u USING (k)", Kind.QUERY, ("t", "u")),
        ("@{OPTIMIZER_VERSION=1} SELECT * FROM t", Kind.QUERY, ("t",)),
        ("SELECT 'FROM x' FROM t", Kind.QUERY, ("t",)),
        ("SELECT `from` FROM `from`", Kind.QUERY, ("from",)),
        ("SELECT * FROM t, T", Kind.QUERY, ("t",)),
        ("INSERT INTO t (a) VALUES (1)", Kind.INSERT, ("t",)),
        ("INSERT t(a) SELECT a FROM u", Kind.INSERT, ("t", "u")),
        ("INSERT OR IGNORE INTO t (a) VALUES (1)", Kind.INSERT, ("t",)),
        ("INSERT OR UPDATE t (a) VALUES (1)", Kind.INSERT_OR_UPDATE, ("t",)),
        (
            "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1",
            Kind.INSERT_OR_UPDATE,
            ("t",),
        ),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING", Kind.INSERT, ("t",)),
        ("/* x */ update `s`.t set a = 1 where true", Kind.UPDATE, ("s.t",)),
        ("UPDATE t SET a = (SELECT b FROM u LIMIT 1) WHERE true", Kind.UPDATE, ("t", "u")),
        ("DELETE FROM t WHERE true", Kind.DELETE, ("t",)),
        ("DELETE t WHERE true", Kind.DELETE, ("t",)),
        ("CREATE TABLE IF NOT EXISTS t (a INT64) PRIMARY KEY (a)", Kind.DDL, ("t",)),
        ("CREATE UNIQUE NULL_FILTERED INDEX i ON s.t(a)", Kind.DDL, ("s.t",)),
        ("ALTER TABLE t ADD COLUMN b STRING(36) DEFAULT ('x')", Kind.DDL, ("t",)),
        ("DROP TABLE IF EXISTS t", Kind.DDL, ("t",)),
        ("GRANT SELECT ON TABLE t TO ROLE r", Kind.DDL, ("t",)),
        ("CALL f('x')", Kind.OTHER, ()),
        ("BEGIN", Kind.OTHER, ()),
        ("", Kind.OTHER, ()),
    ],
)
def test_kinds_and_tables(text, kind, tables):
    """What a statement does and to which tables is read from its words."""
    described = sql.describe(text)
    assert (described.kind, described.tables) == (kind, tables)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("SELECT 'hunter2', \"hunter2\", b'hunter2', rb'''hunter2'''", "SELECT ?, ?, ?, ?"),
        ("SELECT -1.5e3, .5, 0xFF, 1.", "SELECT -?, ?, ?, ?"),
        ("SELECT DATE 'hunter2' -- hunter2\n  , a1 /* hunter2 */ # hunter2", "SELECT DATE ? , a1"),
        ("EXPLAIN SELECT 'hunter2'", "EXPLAIN SELECT ?"),
        ("CALL f('hunter2')", "CALL f(?)"),
        ("SELECT @p, @@x, t.a FROM t", "SELECT @p, @@x, t.a FROM t"),
        (
            "ALTER TABLE t ADD b STRING(36) DEFAULT ('hunter2')",
            "ALTER TABLE t ADD b STRING(36) DEFAULT (?)",
        ),
    ],
)
def test_literals_are_masked(text, masked):
    """No literal and no comment is left in the masked text; a schema keeps its numbers."""
    assert sql.describe(text).masked == masked


@given(st.text(alphabet="'\"`\\\n;-#/*rb xé1.@", max_size=40))
def test_no_text_breaks_the_splitter(text):
    """Any text is split or refused, and what is split is in the text."""
    try:
        found = sql.statements(text)
    except UsageError:
        return
    assert all(statement.text in text for statement in found)


@given(st.text(alphabet=st.characters(exclude_characters="'\\\n", codec="utf-8"), max_size=30))
def test_no_string_literal_survives_masking(value):
    """Whatever a string literal holds, its text is not in the masked statement."""
    described = sql.describe(f"SELECT a FROM t WHERE k = 'zq{value}qz'")  # noqa: S608 - never run
    assert described.masked == "SELECT a FROM t WHERE k = ?"


def test_a_long_statement_is_cut_in_the_receipt_but_not_in_its_digest():
    """A statement of megabytes leaves at most 4 KiB of masked text, and the digest of it all."""
    rows = ", ".join(f"({n}, '{SECRET}')" for n in range(100_000))
    text = f"INSERT INTO t (a) VALUES {rows}"  # noqa: S608 - never run
    described = sql.describe(text)
    assert len(described.masked) <= 4096
    assert SECRET not in described.masked
    assert described.digest == hashlib.sha256(text.encode()).hexdigest()


def test_parameters_are_named_once_in_order():
    """System variables, hints and strings hold no parameters."""
    described = sql.describe("@{a=1} SELECT @b, @a, @`c`, @b, @@d, '@e' -- @f")
    assert described.parameters == ("b", "a", "c")


@pytest.mark.parametrize(
    ("text", "returning"),
    [
        ("INSERT INTO t (a) VALUES (1) THEN RETURN a", True),
        ("INSERT INTO t (a) VALUES (1) THEN RETURN WITH ACTION a", True),
        ("UPDATE t SET a = CASE WHEN b THEN 1 END WHERE true", False),
        ("SELECT 1", False),
    ],
)
def test_dml_that_returns_rows_is_told(text, returning):
    """THEN RETURN decides how a statement is sent."""
    assert sql.describe(text).returning is returning


def test_a_description_is_remembered():
    """The hot path asks for the same texts again and again: they are described once."""
    assert sql.describe("SELECT 1 FROM t") is sql.describe("SELECT 1 FROM t")
