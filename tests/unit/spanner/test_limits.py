"""Rows counted against Spanner's limits, and DML cut at its keywords."""

import pickle

import pytest

from spanctl.errors import LimitError
from spanctl.ledger.receipt import StatementKind as Kind
from spanctl.spanner import limits, sql
from spanctl.spanner.catalog import Index, Table
from spanctl.spanner.limits import Write

T = Table(
    name="t",
    columns=(),
    primary_key=("Id", "part"),
    indexes=(
        Index(name="by_a", columns=("a",), storing=("b",)),
        Index(name="by_b", columns=("b",), null_filtered=True),
    ),
)


@pytest.mark.parametrize(
    ("kind", "columns", "expected"),
    [
        (Kind.INSERT, ("id", "part", "a"), 3 + 1),
        (Kind.UPDATE, ("a",), 1 + 2),
        (Kind.UPDATE, ("ID", "Part", "a"), 3),
        (Kind.INSERT_OR_UPDATE, ("id", "part", "a", "b"), 4),
        (Kind.REPLACE, ("id", "part"), 2),
        (Kind.DELETE, (), 1),
    ],
)
def test_a_row_counts_its_columns_its_key_and_its_entries(kind, columns, expected):
    """The key always counts; an insert has entries in each index that leaves no NULLs out."""
    write = Write(kind, "t", columns)
    assert limits.least(write, T) == expected
    assert limits.least(write, T) <= limits.bound(write)
    if kind is not Kind.DELETE:
        assert limits.least(write, T) <= limits.most(T, [*columns, "id", "part"])


def test_what_is_over_a_limit_is_named():
    """The error says which limit, how much, what is to blame and what to do; it pickles."""
    counted = [(Write(Kind.INSERT, "small"), 10, 1), (Write(Kind.UPDATE, "large"), 40_000, 2)]
    limits.refuse_many(counted[:1], 80_000 - 10)
    with pytest.raises(
        LimitError, match=r"at least 80,010 .*takes 80,000: update of 40,000"
    ) as one:
        limits.refuse_many(counted, 0)
    assert one.value.details == {
        "limit": "commit_mutations",
        "allowed": 80_000,
        "counted": 80_010,
    }
    assert "--partitioned" in one.value.hint
    again = pickle.loads(pickle.dumps(one.value))  # noqa: S301 - our own
    assert (str(again), again.details) == (str(one.value), one.value.details)


@pytest.mark.parametrize(
    ("refuse", "limit"),
    [
        (limits.refuse_large_commit, limits.MAX_COMMIT_BYTES),
        (lambda size: limits.refuse_large_request(size, "it"), limits.MAX_REQUEST_BYTES),
        (lambda rows: limits.refuse_large_insert("t", 1, rows), limits.MAX_MUTATIONS),
    ],
)
def test_a_limit_may_be_reached_but_not_passed(refuse, limit):
    """Exactly so much is taken; one more is refused, with what to do."""
    refuse(limit)
    with pytest.raises(LimitError) as caught:
        refuse(limit + 1)
    assert caught.value.details["counted"] == limit + 1
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "target", "columns", "rows"),
    [
        ("INSERT INTO t (a, `b`) VALUES (1, 'x'), (f(2, 3), (4))", "t", ("a", "b"), 2),
        ("INSERT OR UPDATE t (a) VALUES (1) THEN RETURN a, b", "t", ("a",), 1),
        ("INSERT t (a) VALUES (1), (2) ON CONFLICT (a) DO NOTHING", "t", ("a",), None),
        ("INSERT OR IGNORE INTO t (a) VALUES (1), (2)", "t", ("a",), None),
        ("INSERT INTO s.t (a) SELECT a FROM u WHERE b = 1", "s.t", ("a",), None),
        ("UPDATE t AS x SET x.a = f(1, 2), b = (SELECT 1), c = 3 WHERE d", "t", tuple("abc"), None),
        ("UPDATE @{h=1} t SET a = CASE WHEN b THEN 1 ELSE 2 END WHERE true", "t", ("a",), None),
        ("DELETE FROM t x WHERE EXISTS (SELECT 1 FROM u WHERE u.a = x.a)", "t", (), None),
    ],
)
def test_dml_is_cut_at_its_own_keywords(text, target, columns, rows):
    """Commas and keywords inside of parentheses and CASE belong to expressions."""
    described = sql.describe(text)
    parts = sql.clauses(described)
    assert (parts.target, parts.columns, parts.rows) == (target, columns, rows)
    assert (described.columns, described.values) == (columns, rows)


def test_conditions_and_assignments_are_whole():
    """A WHERE ends before THEN RETURN; what is not `column = expression` has no column."""
    parts = sql.clauses(sql.describe("UPDATE t x SET a = 1, (b) = 2 WHERE c > 1 THEN RETURN c"))
    assert parts.alias == "x"
    assert [one.column for one in parts.assignments] == ["a", ""]
    assert parts.where is not None
    assert [token.text for token in parts.where] == ["c", ">", "1"]
    assert sql.clauses(sql.describe("DELETE FROM t")).where is None
