"""Statements that lose what is there: DDL that drops something, DML whose WHERE picks nothing out.

It reads tokens, as :mod:`spanctl.spanner.sql` does: a WHERE that only the data can tell to be true
of every row is not found.
"""

from collections.abc import Sequence
from typing import Final

from spanctl.ledger.receipt import StatementKind
from spanctl.spanner import sql, sqlclauses, sqltables
from spanctl.spanner.sql import SqlStatement
from spanctl.spanner.sqltables import Token

_OF_TWO_WORDS: Final = frozenset({"CHANGE", "LOCALITY", "PROPERTY", "PROTO", "SEARCH", "VECTOR"})
_KEEPS: Final = frozenset(
    {"CONSTRAINT", "DEFAULT", "NOT", "ROW", "SYNONYM", "IDENTITY", "GENERATED"}
)
"""What ALTER ... DROP takes away from a table without a value being lost."""
_IF_EXISTS: Final = frozenset({"IF", "EXISTS"})
_RESERVED: Final = frozenset(
    """
    ALL AND ANY ARRAY AS AT BETWEEN CASE CAST DISTINCT ELSE END ESCAPE EXISTS EXTRACT FALSE FROM IF
    IN INTERVAL IS LIKE NOT NULL OF OR SELECT SOME STRUCT THEN TRUE UNNEST WHEN
    """.split()  # noqa: SIM905 - thirty words, to be read
)
"""Words of an expression that can be no column's name without quotation marks."""


def loss(statement: SqlStatement) -> str | None:
    """Return what a statement takes away, such as ``drops table accounts``; None if nothing."""
    tokens = sqltables.without_hints(sql.tokens_of(statement))
    if statement.kind is StatementKind.DDL:
        return _dropped(tokens)
    if statement.kind not in {StatementKind.UPDATE, StatementKind.DELETE}:
        return None
    where = sqlclauses.clauses(tokens, statement.kind).where
    if where is None or not _is_constant(where):
        return None
    verb = "deletes" if statement.kind is StatementKind.DELETE else "changes"
    return f"{verb} every row of {statement.target}"


def _dropped(tokens: Sequence[Token]) -> str | None:
    words = [token.upper for token in tokens]
    if words[:1] == ["DROP"]:
        end = 3 if words[1:2] and words[1] in _OF_TWO_WORDS else 2
        return " ".join(["drops", *(word.lower() for word in words[1:end]), _name(tokens, end)])
    if words[:1] != ["ALTER"]:
        return None
    name = _name(tokens, 3 if words[1:2] == ["CHANGE"] else 2)
    for index in _outside(tokens):
        word, rest = words[index], words[index + 1 :]
        if word == "DROP" and words[1:2] == ["CHANGE"]:
            return f"ends what change stream {name} watches"
        if word == "DROP" and words[1:2] == ["TABLE"] and rest[:1] and rest[0] not in _KEEPS:
            column = _name(tokens, index + 1 + (rest[0] == "COLUMN"))
            return f"drops column {column} of {name}"
        if word in {"ADD", "REPLACE"} and rest[:3] == ["ROW", "DELETION", "POLICY"]:
            return f"has rows of {name} deleted by their age"
    return None


def _outside(tokens: Sequence[Token]) -> list[int]:
    """Return the tokens outside of all parentheses."""
    found, depth = [], 0
    for index, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0:
            found.append(index)
    return found


def _name(tokens: Sequence[Token], start: int) -> str:
    while start < len(tokens) and tokens[start].upper in _IF_EXISTS:
        start += 1
    return sqltables.path_at(tokens, start)[0]


def _is_constant(tokens: Sequence[Token]) -> bool:
    """Whether a condition is the same for every row, as far as that is written in it.

    It is where no column stands in it, where one side of an OR is, where both sides of an AND are,
    and where a column is compared with itself.
    """
    tokens = _unwrapped(tokens)
    either = _split(tokens, "OR")
    if len(either) > 1:
        return any(_is_constant(part) for part in either)
    both = _split(tokens, "AND")
    if len(both) > 1:
        return all(_is_constant(part) for part in both)
    if tokens and tokens[0].upper == "NOT":
        return _is_constant(tokens[1:])
    return not _columns(tokens) or _compares_with_itself(tokens)


def _unwrapped(tokens: Sequence[Token]) -> Sequence[Token]:
    """Leave out parentheses around all of it."""
    while len(tokens) > 1 and tokens[0].text == "(" and tokens[-1].text == ")":
        depth = 0
        for token in tokens[:-1]:
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return tokens
        tokens = tokens[1:-1]
    return tokens


def _split(tokens: Sequence[Token], word: str) -> list[Sequence[Token]]:
    """Cut at a word outside of parentheses, of CASE, and of BETWEEN's own AND."""
    parts: list[list[Token]] = [[]]
    depth = between = 0
    for token in tokens:
        depth += (token.text in "([") - (token.text in ")]")
        depth += (token.upper == "CASE") - (token.upper == "END")
        between += token.upper == "BETWEEN" and depth == 0
        if token.upper == word and depth == 0 and not (word == "AND" and between):
            parts.append([])
            continue
        between -= token.upper == "AND" and depth == 0 and between > 0
        parts[-1].append(token)
    return [part for part in parts if part]


def _columns(tokens: Sequence[Token]) -> bool:
    """Whether a column's name stands among these tokens."""
    return any(_is_column(tokens, index) for index in range(len(tokens)))


def _is_column(tokens: Sequence[Token], index: int) -> bool:
    """Whether a token is a name, and that of no function, and no literal's or cast's type."""
    token = tokens[index]
    if token.group != "word" or token.text.startswith("@@") or token.upper in _RESERVED:
        return False
    before = tokens[index - 1] if index else None
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if before and (before.upper == "AS" or before.group == "number"):
        return False  # CAST(1 AS INT64), INTERVAL 1 DAY
    if after and after.upper == "FROM":
        return False  # EXTRACT(YEAR FROM ...)
    return not (after and (after.text in {"(", "."} or after.group == "string"))


def _compares_with_itself(tokens: Sequence[Token]) -> bool:
    for index in (i for i, token in enumerate(tokens) if token.text == "="):
        left, right = tokens[:index], tokens[index + 1 :]
        same = [token.name.casefold() for token in left] == [one.name.casefold() for one in right]
        return same and bool(left) and all(one.group == "word" or one.text == "." for one in left)
    return False
