"""GoogleSQL told apart: the statements of a text, what each does and to which tables.

It reads the lexical structure only, which is stable, and no grammar: statements of tomorrow pass.
(sqlglot's BigQuery tokenizer was tried: the rest of an EXPLAIN, CALL or RENAME is one token to it.)
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from spanctl.errors import UsageError
from spanctl.ledger.receipt import StatementKind
from spanctl.spanner import sqlclauses, sqltables
from spanctl.spanner.sqlclauses import Clauses
from spanctl.spanner.sqltables import Token

_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --[^\n\r]* | \#[^\n\r]* | /\*.*?\*/ )
  | (?P<string> (?:[rR][bB]?|[bB][rR]?)?
        (?: '''(?:\\.|[^\\])*?''' | \"\"\"(?:\\.|[^\\])*?\"\"\"
          | '(?!'')(?:\\.|[^'\\\n])*' | "(?!\"\")(?:\\.|[^"\\\n])*" ) )
  | (?P<parameter> @(?:[^\W\d]\w*|`(?:\\.|[^`\\\n])+`) )
  | (?P<word> (?:@@)?[^\W\d]\w* | `(?:\\.|[^`\\\n])+` )
  | (?P<number> 0[xX][0-9a-fA-F]+ | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)? )
  | (?P<mark> \|> | (?!/\*)[^'"`] )
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS = {
    **dict.fromkeys(("SELECT", "WITH", "FROM", "GRAPH", "(", "EXPLAIN"), StatementKind.QUERY),
    **dict.fromkeys(
        ("CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "RENAME", "ANALYZE"), StatementKind.DDL
    ),
    "INSERT": StatementKind.INSERT,
    "UPDATE": StatementKind.UPDATE,
    "DELETE": StatementKind.DELETE,
}
DML = frozenset(
    {
        StatementKind.INSERT,
        StatementKind.UPDATE,
        StatementKind.INSERT_OR_UPDATE,
        StatementKind.REPLACE,
        StatementKind.DELETE,
    }
)
"""The kinds of DML statements."""

_MAX_MASKED = 4096
_CACHED_LENGTH = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlStatement:
    """One statement.

    Attributes:
        text: The statement as it was written, without the semicolon and comments around it.
        kind: What it does.
        tables: The tables that it names, in the order of first mention.
        target: The table that DML changes, the first of them; empty for all else.
        masked: The text without comments, each literal as ``?``; at most 4,096 characters.
        digest: SHA-256 of ``text``, hexadecimal.
        parameters: Names of the bound parameters, in the order of first mention.
        returning: Whether it is DML that returns rows (``THEN RETURN``).
        line: The line, from 1, on which it begins in the text that it was split from.
        columns: The columns that DML names to be written.
        values: The rows that the VALUES of an INSERT name, if it inserts all of them; else None.
    """

    text: str
    kind: StatementKind
    tables: tuple[str, ...]
    masked: str
    digest: str
    parameters: tuple[str, ...] = ()
    returning: bool = False
    line: int = 1
    columns: tuple[str, ...] = ()
    values: int | None = None
    target: str = ""

    @property
    def is_dml(self) -> bool:
        """Whether it changes rows."""
        return self.kind in DML


def statements(text: str) -> list[SqlStatement]:
    """Split a text at its semicolons, and describe each statement that is not empty.

    Raises:
        UsageError: A string, a quoted name or a comment is never closed, a quoted name holds an
            escape, or the table that DML changes can't be read; the line is named.
    """
    found: list[SqlStatement] = []
    part: list[Token] = []
    for token in (*_tokens(text), Token("mark", ";", len(text), len(text))):
        if token.text != ";":
            part.append(token)
            continue
        if part:
            start = part[0].start
            line = text.count("\n", 0, start) + 1
            found.append(_described(text[start : part[-1].end], part, line))
        part = []
    return found


def describe(sql: str) -> SqlStatement:
    """Describe one statement; the same text again is answered from a cache.

    Raises:
        UsageError: As :func:`statements`.
    """
    return _remembered(sql) if len(sql) <= _CACHED_LENGTH else _describe(sql)


def tokens_of(statement: SqlStatement) -> list[Token]:
    """Return the tokens of a statement, its hints among them."""
    return _significant(statement.text)


def clauses(statement: SqlStatement) -> Clauses:
    """Return the parts of a DML statement."""
    return sqlclauses.clauses(sqltables.without_hints(tokens_of(statement)), statement.kind)


def _describe(sql: str) -> SqlStatement:
    return _described(sql, _significant(sql), 1)


def _significant(text: str) -> list[Token]:
    return [token for token in _tokens(text) if token.text != ";"]


_remembered = lru_cache(maxsize=1024)(_describe)


def bare_words(text: str) -> frozenset[str]:
    """Return the words that stand unquoted and in no literal or comment, in lower case.

    None of a text in which a literal is never closed: what is in it can't be told then.
    """
    try:
        words = [token.text for token in _tokens(text) if token.group == "word"]
    except UsageError:
        return frozenset()
    return frozenset(word.lower() for word in words if not word.startswith(("`", "@")))


def changed_objects(statement: SqlStatement) -> tuple[str, ...]:
    """Return what a DDL statement may change: the tables, indexes and streams that it names."""
    return tuple(sqltables.objects(tokens_of(statement)))


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            msg = f"the quotation or comment that begins in line {line} of the SQL is never closed"
            raise UsageError(msg, hint="close it, or write a quotation mark as \\'", line=line)
        position = match.end()
        if match.lastgroup in {"word", "parameter"} and "\\" in match.group():
            # Spanner reads another name than the one that is there to be compared.
            line = text.count("\n", 0, match.start()) + 1
            msg = f"the quoted name in line {line} of the SQL holds an escape"
            raise UsageError(msg, hint="write the name without the escape", line=line)
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match.group(), match.start(), position)


def _described(text: str, tokens: Sequence[Token], line: int) -> SqlStatement:
    plain = sqltables.without_hints(tokens)
    words = [token.upper for token in plain]
    kind = _KINDS.get(words[0], StatementKind.OTHER) if words else StatementKind.OTHER
    if kind is StatementKind.INSERT:
        kind = _inserting(plain)
    parts = sqlclauses.clauses(plain, kind) if kind in DML else None
    if parts and not parts.target:
        msg = f"the table that the {words[0]} in line {line} changes can't be read"
        raise UsageError(msg, hint="name it after the first words, without parentheses", line=line)
    parameters = [token.text[1:].strip("`") for token in tokens if token.group == "parameter"]
    return SqlStatement(
        text=text,
        kind=kind,
        tables=sqltables.tables(plain, kind, (parts.target, parts.end) if parts else ("", 0)),
        masked=_masked(tokens, kind),
        digest=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(),
        parameters=tuple(dict.fromkeys(parameters)),
        returning=kind in DML and ("THEN", "RETURN") in pairwise(words),
        line=line,
        columns=parts.columns if parts else (),
        values=parts.rows if parts else None,
        target=parts.target if parts else "",
    )


def _inserting(tokens: Sequence[Token]) -> StatementKind:
    """Return what an INSERT does: it may update by its mode, or ON CONFLICT ... DO UPDATE."""
    mode, _ = sqltables.insert_mode(tokens)
    pairs = set(pairwise(token.upper for token in tokens))
    if mode == "UPDATE" or {("ON", "CONFLICT"), ("DO", "UPDATE")} <= pairs:
        return StatementKind.INSERT_OR_UPDATE
    return StatementKind.REPLACE if mode == "REPLACE" else StatementKind.INSERT


def _masked(tokens: Sequence[Token], kind: StatementKind) -> str:
    hidden = {"string"} if kind is StatementKind.DDL else {"string", "number"}
    parts: list[str] = []
    length, end = 0, tokens[0].start if tokens else 0
    for token in tokens:
        gap = " " if token.start > end else ""
        part = gap + ("?" if token.group in hidden else token.text)
        length += len(part)
        if length > _MAX_MASKED - 2:
            return "".join(parts) + " …"
        parts.append(part)
        end = token.end
    return "".join(parts)
