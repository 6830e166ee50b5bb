"""The parts of a DML statement, cut at its keywords: what is set, from what, and where."""

from collections.abc import Sequence
from dataclasses import dataclass

from spanctl.ledger.receipt import StatementKind
from spanctl.spanner.sqltables import Token, insert_mode, target

_INSERTS = frozenset({StatementKind.INSERT, StatementKind.INSERT_OR_UPDATE, StatementKind.REPLACE})
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True, slots=True)
class Assignment:
    """One item of SET: ``column = expression``; no column where it is written otherwise."""

    column: str
    expression: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clauses:
    """The parts of one DML statement.

    Attributes:
        target: The table that is changed, as it is written, without quotation marks; empty where
            it can't be read.
        end: Where its name ends among the tokens.
        alias: Its alias; empty when there is none.
        columns: The columns that an INSERT names or a SET assigns.
        assignments: The items of SET; none unless it is an UPDATE.
        where: The condition; None when there is none.
        rows: The rows that an INSERT's VALUES names, if it inserts all of them; else None.
    """

    target: str
    end: int
    alias: str = ""
    columns: tuple[str, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    where: tuple[Token, ...] | None = None
    rows: int | None = None


def clauses(tokens: Sequence[Token], kind: StatementKind) -> Clauses:
    """Cut a DML statement, without its hints, into its parts."""
    changed, start = target(tokens)
    ends = _keywords(tokens, start)
    if kind in _INSERTS:
        columns, after = _columns(tokens, start)
        passes_over = "ON" in ends or insert_mode(tokens)[0] == "IGNORE"
        rows = None if passes_over else _rows(tokens, after, ends.get("THEN", len(tokens)))
        return Clauses(target=changed, end=start, columns=columns, rows=rows)
    end = ends.get("THEN", len(tokens))
    where_at = ends.get("WHERE", end)
    set_at = ends.get("SET", where_at)
    where = tuple(tokens[where_at + 1 : end]) if "WHERE" in ends else None
    assignments = _assignments(tokens[set_at + 1 : where_at])
    return Clauses(
        target=changed,
        end=start,
        alias=_alias(tokens[start:set_at]),
        columns=tuple(one.column for one in assignments if one.column),
        assignments=assignments,
        where=where,
    )


def _alias(between: Sequence[Token]) -> str:
    words = [token for token in between if token.upper != "AS"]
    return words[0].name if words and words[0].group == "word" else ""


def _keywords(tokens: Sequence[Token], start: int) -> dict[str, int]:
    """Return where the statement's own clauses begin: outside of all parentheses."""
    found: dict[str, int] = {}
    depth = cases = 0
    for index in range(start, len(tokens)):
        word = tokens[index].upper
        depth += (word in _OPENING) - (word in _CLOSING)
        cases += (word == "CASE") - (word == "END" and cases > 0)
        following = tokens[index + 1].upper if index + 1 < len(tokens) else ""
        own = word in {"SET", "WHERE"} or (word, following) in {
            ("THEN", "RETURN"),
            ("ON", "CONFLICT"),
        }
        if depth == 0 and cases == 0 and own:
            found.setdefault(word, index)
    return found


def _split(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Cut at the commas outside of all parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if token.text == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def _assignments(tokens: Sequence[Token]) -> tuple[Assignment, ...]:
    items = []
    for part in _split(tokens):
        at = next((index for index, token in enumerate(part) if token.text == "="), len(part))
        names = part[:at]
        simple = bool(names) and all(
            token.group == "word" if index % 2 == 0 else token.text == "."
            for index, token in enumerate(names)
        )
        column = names[-1].name if simple and at < len(part) else ""
        items.append(Assignment(column, tuple(part[at + 1 :])))
    return tuple(items)


def _columns(tokens: Sequence[Token], start: int) -> tuple[tuple[str, ...], int]:
    if start >= len(tokens) or tokens[start].text != "(":
        return (), start
    end = next((i for i in range(start, len(tokens)) if tokens[i].text == ")"), len(tokens))
    return tuple(t.name for t in tokens[start + 1 : end] if t.group == "word"), end + 1


def _rows(tokens: Sequence[Token], start: int, end: int) -> int | None:
    if start >= len(tokens) or tokens[start].upper != "VALUES":
        return None
    return len(_split(tokens[start + 1 : end]))
