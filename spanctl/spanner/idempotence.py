"""Whether DML may be applied twice: what partitioned DML must be able to bear.

A careful reading of the statement's tokens. It says yes only where a second application gives what
the first gave, on the rows that it finds; what it doesn't know, it refuses with the reason, which
a person may judge better.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from spanctl.errors import NotIdempotentError
from spanctl.ledger.receipt import StatementKind
from spanctl.spanner.sql import SqlStatement, clauses
from spanctl.spanner.sqlclauses import Assignment, Clauses
from spanctl.spanner.sqltables import Token


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CHANGING: Final = _names(
    """
    CURRENT_DATE CURRENT_DATETIME CURRENT_TIME CURRENT_TIMESTAMP GENERATE_UUID
    GET_INTERNAL_SEQUENCE_STATE GET_NEXT_SEQUENCE_VALUE GET_TABLE_COLUMN_IDENTITY_STATE NEW_UUID
    PENDING_COMMIT_TIMESTAMP RAND SESSION_USER
    """
)
_STEADY: Final = _names(
    """
    ABS ACOS ARRAY ARRAY_CONCAT ARRAY_FILTER ARRAY_FIRST ARRAY_INCLUDES ARRAY_LAST ARRAY_LENGTH
    ARRAY_MAX ARRAY_MIN ARRAY_REVERSE ARRAY_SLICE ARRAY_TO_STRING ARRAY_TRANSFORM ASIN ATAN
    ATAN2 BIT_COUNT BIT_REVERSE BOOL BYTE_LENGTH CAST CEIL CEILING CHAR_LENGTH CHARACTER_LENGTH
    CODE_POINTS_TO_BYTES CODE_POINTS_TO_STRING COALESCE CONCAT COS COSH DATE DATE_ADD DATE_DIFF
    DATE_FROM_UNIX_DATE DATE_SUB DATE_TRUNC DIV ENDS_WITH EXP EXTRACT FARM_FINGERPRINT FLOAT32
    FLOAT64 FLOOR FORMAT FORMAT_DATE FORMAT_TIMESTAMP FROM_BASE32 FROM_BASE64 FROM_HEX
    GENERATE_ARRAY GENERATE_DATE_ARRAY GREATEST IEEE_DIVIDE IF IFERROR IFNULL INSTR INT64 IS_INF
    IS_NAN JSON_ARRAY JSON_KEYS JSON_OBJECT JSON_QUERY JSON_QUERY_ARRAY JSON_REMOVE JSON_SET
    JSON_STRIP_NULLS JSON_TYPE JSON_VALUE JSON_VALUE_ARRAY LAX_BOOL LAX_FLOAT64 LAX_INT64
    LAX_STRING LEAST LEFT LENGTH LN LOG LOG10 LOWER LPAD LTRIM MAKE_INTERVAL MD5 MOD NORMALIZE
    NORMALIZE_AND_CASEFOLD NULLIF NULLIFZERO OCTET_LENGTH OFFSET ORDINAL PARSE_DATE PARSE_JSON
    PARSE_NUMERIC PARSE_TIMESTAMP POW POWER REGEXP_CONTAINS REGEXP_EXTRACT REGEXP_EXTRACT_ALL
    REGEXP_INSTR REGEXP_REPLACE REPEAT REPLACE REVERSE RIGHT ROUND RPAD RTRIM SAFE_ADD SAFE_CAST
    SAFE_CONVERT_BYTES_TO_STRING SAFE_DIVIDE SAFE_MULTIPLY SAFE_NEGATE SAFE_OFFSET SAFE_ORDINAL
    SAFE_SUBTRACT SAFE_TO_JSON SHA1 SHA256 SHA512 SIGN SIN SINH SOUNDEX SPLIT SPLIT_SUBSTR SQRT
    STARTS_WITH STRING STRPOS STRUCT SUBSTR SUBSTRING TAN TANH TIMESTAMP TIMESTAMP_ADD
    TIMESTAMP_DIFF TIMESTAMP_MICROS TIMESTAMP_MILLIS TIMESTAMP_SECONDS TIMESTAMP_SUB
    TIMESTAMP_TRUNC TO_BASE32 TO_BASE64 TO_CODE_POINTS TO_HEX TO_JSON TO_JSON_STRING TRIM TRUNC
    UNIX_DATE UNIX_MICROS UNIX_MILLIS UNIX_SECONDS UNNEST UPPER ZEROIFNULL
    """
)
_NO_CALLS: Final = _names(
    """
    ALL AND ANY AS BETWEEN BY CASE ELSE EXISTS FROM IN IS LIKE NOT NUMERIC ON OR SOME THEN WHEN
    WHERE
    """
)
"""Words that may stand before a parenthesis without calling anything."""


def refuse(statement: SqlStatement, where: str = "", generated: Collection[str] = ()) -> None:
    """Return when a statement may be applied twice, as far as its text tells.

    Args:
        statement: The statement.
        where: What to call it in the message; "the statement" by default.
        generated: Columns of the table that Spanner computes from others.

    Raises:
        NotIdempotentError: It may not, or that can't be told; the message says why.
    """
    found = reason(statement, generated)
    if found is not None:
        told = where or "the statement"
        msg = f"{told} may not be applied twice, as partitioned DML may be: {found}"
        hint = "run it as a transaction, or, if twice does no harm, pass --assume-idempotent"
        raise NotIdempotentError(msg, hint=hint, reason=found)


def reason(statement: SqlStatement, generated: Collection[str] = ()) -> str | None:
    """Return why a statement may not be applied twice; None when it may.

    Values are no part of it: it names columns, functions and clauses.
    """
    if statement.kind not in {StatementKind.UPDATE, StatementKind.DELETE}:
        return f"it is {statement.kind.value.replace('_', ' ')}"
    parts = clauses(statement)
    if parts.where is None:
        return "it has no WHERE"
    for tokens in (parts.where, *(item.expression for item in parts.assignments)):
        if found := _changing(tokens):
            return found
    if statement.kind is StatementKind.DELETE:
        return None
    if not parts.assignments:
        return "its SET can't be read"
    return next((why for item in parts.assignments if (why := _of(item, parts, generated))), None)


def _of(item: Assignment, parts: Clauses, generated: Collection[str]) -> str | None:
    """Why one item of SET gives something else the second time."""
    if not item.column or not item.expression:
        return "its SET can't be read"
    rows = {parts.target.rpartition(".")[2].casefold(), parts.alias.casefold()} - {""}
    written = {name.casefold() for name in parts.columns}
    computed = {name.casefold() for name in generated}
    for index, token in enumerate(item.expression):
        if token.group != "word":
            continue
        name = token.name
        folded = name.casefold()
        following = _text(item.expression, index + 1)
        if token.upper == "DEFAULT":
            return f"it sets {item.column} to its default, which may be another each time"
        if folded in written and following != "(":
            return f"{item.column} is set from {name}, which the statement writes"
        if folded in computed and following != "(":
            return f"{item.column} is set from {name}, which is computed from other columns"
        if folded in rows and following != ".":
            return f"{item.column} is set from the whole row"
    return None


def _changing(tokens: Sequence[Token]) -> str | None:
    """Why an expression may have another value the next time."""
    for token in tokens:
        if token.upper in {"SELECT", "WITH", "FROM", "GRAPH"} and not _in_extract(tokens, token):
            return "it has a subquery"
        if token.text.startswith("@@"):
            return f"it reads the system variable {token.text}"
        if token.upper in _CHANGING:
            return f"{token.upper} gives another value each time"
    for name in _calls(tokens):
        if name not in _STEADY:
            return f"it isn't known whether {name}() gives the same each time"
    return None


def _in_extract(tokens: Sequence[Token], token: Token) -> bool:
    """Tell whether a FROM is that of ``EXTRACT(part FROM expression)``, or of IS DISTINCT FROM."""
    index = tokens.index(token)
    if token.upper != "FROM":
        return False
    extracts = index >= 3 and _text(tokens, index - 3).upper() == "EXTRACT"  # noqa: PLR2004 - EXTRACT ( part
    return extracts or _text(tokens, index - 1).upper() == "DISTINCT"


def _calls(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield the functions that are called, in capitals, with their paths."""
    for index, token in enumerate(tokens):
        quoted = token.text.startswith("`")
        if token.group != "word" or _text(tokens, index + 1) != "(":
            continue
        if not quoted and token.upper in _NO_CALLS:
            continue
        path, at = token.name.upper(), index
        while at >= 2 and tokens[at - 1].text == ".":  # noqa: PLR2004 - a name and a dot
            at -= 2
            path = f"{tokens[at].name.upper()}.{path}"
        yield path.removeprefix("SAFE.") if path.count(".") == 1 else path


def _text(tokens: Sequence[Token], index: int) -> str:
    return tokens[index].text if 0 <= index < len(tokens) else ""
