"""What a receipt lists of its statements: equal ones counted, all others within bounds."""

import dataclasses

import pytest

from spanctl.ledger import tally
from spanctl.ledger.receipt import Statement, StatementKind, changed_rows
from spanctl.spanner import receipts

_COLUMN = 2_621_440
"""Characters that a STRING(MAX) column takes."""


def update(text: str = "UPDATE t SET a = @a", rows: int = 1, table: str = "t") -> Statement:
    return Statement(
        kind=StatementKind.UPDATE,
        tables=(table,),
        digest=text,
        sql=text,
        parameters=("a",),
        rows=rows,
    )


def query(text: str) -> Statement:
    return Statement(kind=StatementKind.QUERY, tables=("t",), digest=text, sql=text)


def told(*statements: Statement) -> tuple[Statement, ...]:
    counted = tally.Tally()
    for one in statements:
        counted.add(one)
    return counted.statements


def test_equal_statements_are_one_wherever_they_are() -> None:
    """Also where others come in between, as in a loop that reads and writes."""
    read, write = told(*[query("SELECT 1"), update()] * 10_000)
    assert (read.times, read.rows, write.times, write.rows) == (10_000, None, 10_000, 10_000)
    assert changed_rows((read, write)) == (1,) * 10_000


@pytest.mark.parametrize(
    "counts", [(2,), (1, 1, 1), (1, 2, 1), (0, 5), (3, 3, 4, 4), tuple(range(tally.MAX_COUNTS))]
)
def test_row_counts_are_kept_one_by_one(counts: tuple[int, ...]) -> None:
    """What a replay tells is what the first run told, statement by statement."""
    (one,) = told(*(update(rows=rows) for rows in counts))
    assert one.row_counts == counts
    assert Statement.from_json(one.to_json()) == one


def test_very_many_different_counts_are_told_as_their_sum() -> None:
    """The sum stays right."""
    counts = range(10 * tally.MAX_COUNTS)
    (one,) = told(*(update(rows=rows) for rows in counts))
    assert one.row_counts == (sum(counts),)
    assert one.times == len(counts)


@pytest.mark.parametrize("parts", [1, 400, 20_000])
def test_the_list_fits_its_column_whatever_is_executed(parts: int) -> None:
    """Different statements beyond the bounds are counted by kind and table, with all their rows."""
    long = "x\n" * parts
    texts = [f"UPDATE {number} {long}" for number in range(2_000)]
    several = [update(text, 2, f"t{number % 7}") for number, text in enumerate(texts)]
    listed = told(*several, *(query(text) for text in texts))
    assert len(receipts.statements_text(listed)) < _COLUMN
    assert sum(one.times for one in listed) == 4_000
    assert sum(changed_rows(listed)) == 4_000
    written = {one.tables[0] for one in listed if one.kind is StatementKind.UPDATE}
    assert written == {f"t{number}" for number in range(7)}
    more = [one for one in listed if one.more]
    assert {one.kind for one in more} == {StatementKind.UPDATE, StatementKind.QUERY}
    assert not any(one.sql or one.digest or one.parameters for one in more)
    assert all(Statement.from_json(one.to_json()) == one for one in listed)


def test_tables_without_end_are_bounded_too() -> None:
    """Not even a table of its own for each statement makes the list outgrow its column."""
    listed = told(*(update("UPDATE", table=f"{'t' * 120}{n}") for n in range(20_000)))
    assert len(receipts.statements_text(listed)) < _COLUMN
    assert sum(one.times for one in listed) == sum(changed_rows(listed)) == 20_000


def test_a_long_statement_is_shortened_and_says_so() -> None:
    """Its digest stays that of the whole text."""
    text = "SELECT " + "a" * 900_000
    (one,) = told(query(text))
    assert one.sql is not None
    assert one.sql.endswith(f"and {len(text) - tally.MAX_SQL:,} more characters")
    assert one.digest == text


def test_mutations_are_added_up() -> None:
    """They go with one commit: how often the buffer was filled says nothing."""
    counted = tally.Tally()
    for rows in (3, 4):
        one = Statement(kind=StatementKind.INSERT, tables=("t",), parameters=("a",), rows=rows)
        counted.add(one, once=True)
    (told_of,) = counted.statements
    assert told_of == dataclasses.replace(one, rows=7)


def test_older_receipts_are_read() -> None:
    """A statement that was written before it was counted was executed once."""
    one = Statement.from_json({"kind": "update", "tables": ["t"], "rows": 3})
    assert (one.times, one.more, one.row_counts) == (1, False, (3,))
