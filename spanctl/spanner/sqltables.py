"""Which tables a statement names, read from its tokens: a description for people, not a proof."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from spanctl.ledger.receipt import StatementKind

_FROM_ENDS = frozenset(
    {"WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "SELECT", "UNION", "EXCEPT", "INTERSECT"}
    | {"SET", "WINDOW", "QUALIFY", "THEN", "|>"}
)
_MODES = frozenset({"IGNORE", "UPDATE", "REPLACE"})
_NOT_ALIASES = _FROM_ENDS | {
    *("ON", "USING", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "HASH"),
    *("TABLESAMPLE", "FOR", "AS"),
}
_REFERS = frozenset({"REFERENCES", "TO", "SYNONYM", "PARENT", "IN"})
_NEAR = 5
"""ALTER TABLE IF EXISTS name."""
_IF_EXISTS = frozenset({"IF", "NOT", "EXISTS"})


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a statement, with its place in the text."""

    group: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """The token for comparison with keywords; quoted names and literals never equal one."""
        return self.text.upper() if self.group in {"word", "mark"} else ""

    @property
    def name(self) -> str:
        """The name that a word stands for: without quotation marks, which hold no escapes."""
        return self.text.strip("`")


def without_hints(tokens: Sequence[Token]) -> list[Token]:
    """Leave out hints: ``@{ ... }``, and a number after ``@``."""
    kept: list[Token] = []
    hinted = False
    for index, token in enumerate(tokens):
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if token.text == "@" and following and (following.text == "{" or _is_number(following)):
            hinted = True
        if not hinted:
            kept.append(token)
        if token.text == "}" or (hinted and _is_number(token) and tokens[index - 1].text == "@"):
            hinted = False
    return kept


def _is_number(token: Token) -> bool:
    return token.group == "number"


def insert_mode(tokens: Sequence[Token]) -> tuple[str, int]:
    """Return what an INSERT does with rows that are there, and where that word ends.

    ``IGNORE``, ``UPDATE``, ``REPLACE``, or nothing; ``OR`` may be left out before it.
    """
    words = [token.upper for token in tokens[:3]]
    if words[1:2] == ["OR"]:
        return "".join(words[2:3]), 3
    if words[1:2] and words[1] in _MODES and tokens[2:3] and tokens[2].group == "word":
        return words[1], 2
    return "", 1


def target(tokens: Sequence[Token]) -> tuple[str, int]:
    """Read the table that DML without hints changes; return it, or an empty text, and its end."""
    start = insert_mode(tokens)[1] if tokens[:1] and tokens[0].upper == "INSERT" else 1
    if tokens[start : start + 1] and tokens[start].upper in {"INTO", "FROM"}:
        start += 1
    return path_at(tokens, start)


def tables(
    tokens: Sequence[Token], kind: StatementKind, changed: tuple[str, int] = ("", 0)
) -> tuple[str, ...]:
    """Return the tables that a statement names, in the order of first mention.

    Args:
        tokens: The statement, without hints.
        kind: What it does.
        changed: The :func:`target` of DML and its end: it comes first.
    """
    name, end = changed
    if kind is StatementKind.DDL:
        names = list(_ddl_tables(tokens))
    else:
        names = [name] if name else []
        names += _Reader(tokens).read(end)
    unique: dict[str, str] = {}
    for name in names:
        unique.setdefault(name.casefold(), name)
    return tuple(unique.values())


def path_at(tokens: Sequence[Token], start: int) -> tuple[str, int]:
    """Read a dotted name without quotation marks; return it, or an empty text, and its end."""
    parts: list[str] = []
    index = start
    while index < len(tokens) and tokens[index].group == "word":
        parts.append(tokens[index].name)
        index += 1
        if index + 1 >= len(tokens) or tokens[index].text != ".":
            break
        index += 1
    return ".".join(parts), index


def _ddl_tables(tokens: Sequence[Token]) -> Iterator[str]:
    words = [token.upper for token in tokens]
    for index, word in enumerate(words):
        on_index = word == "ON" and "INDEX" in words[:index]
        if word in {"TABLE", "REFERENCES"} or (
            on_index and words[index + 1 : index + 2] != ["DELETE"]
        ):
            start = index + 1
            while start < len(words) and words[start] in _IF_EXISTS:
                start += 1
            name, _ = path_at(tokens, start)
            if name:
                yield name


def objects(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield what a DDL statement names outside of parentheses, where only columns have names.

    What is added to a table is no name of another object, but for what it refers to.
    """
    words = [token.upper for token in tokens]
    alters = words[:1] == ["ALTER"] and words[1:2] in (["TABLE"], ["INDEX"])
    depth = index = 0
    while index < len(tokens):
        depth += (words[index] == "(") - (words[index] == ")")
        name, end = path_at(tokens, index)
        before = words[index - 1] if index else ""
        named = before in _REFERS or (
            alters and before in {"TABLE", "INDEX", "EXISTS"} and index < _NEAR
        )
        if name and (named or not (depth or alters)):
            yield name
        index = max(end, index + 1)


@dataclass(slots=True)
class _Level:
    """What is known inside one pair of parentheses."""

    opener: str = ""
    listing: bool = False  # in a FROM clause, where a comma is followed by a table


@dataclass(slots=True)
class _Reader:
    tokens: Sequence[Token]
    names: list[str] = field(default_factory=list)
    aliases: set[str] = field(default_factory=set)
    levels: list[_Level] = field(default_factory=lambda: [_Level()])

    def read(self, index: int) -> list[str]:
        """Return the tables that are read from a place on, but for common table expressions."""
        words = [token.upper for token in self.tokens]
        named = {
            self.tokens[i].name.casefold()
            for i in range(len(words) - 2)
            if words[i + 1 : i + 3] == ["AS", "("]
        }
        while index < len(words):
            index = self._step(words, index)
        return [name for name in self.names if name.casefold() not in named]

    def _step(self, words: Sequence[str], index: int) -> int:
        word, level = words[index], self.levels[-1]
        if word == "(":
            self.levels.append(_Level(opener=words[index - 1] if index else ""))
        elif word == ")" and len(self.levels) > 1:
            self.levels.pop()
        elif word in _FROM_ENDS:
            level.listing = False
        elif word == "JOIN" or (word == "," and level.listing):
            return self._table(words, index + 1)
        elif word == "FROM" and level.opener != "EXTRACT" and words[index - 1] != "DISTINCT":
            level.listing = True
            return self._table(words, index + 1)
        return index + 1

    def _table(self, words: Sequence[str], index: int) -> int:
        name, end = path_at(self.tokens, index)
        following = words[end] if end < len(words) else ""
        first, *rest = name.casefold().split(".")
        if not name or following == "(" or words[index] in _FROM_ENDS:
            return max(end, index) if following == "(" else index
        if not (rest and first in self.aliases):
            self.names.append(name)
        self.aliases.add(name.casefold())
        at = end + 1 if following == "AS" else end
        if at < len(words) and self.tokens[at].group == "word" and words[at] not in _NOT_ALIASES:
            self.aliases.add(self.tokens[at].name.casefold())
        return end
