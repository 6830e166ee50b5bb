"""SQL that was asked to be run: its statements, its typed parameters, and how it may be run."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from spanctl.errors import UsageError
from spanctl.ledger.receipt import StatementKind
from spanctl.spanner import idempotence
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.sql import SqlStatement, changed_objects, statements
from spanctl.spanner.values import (
    Type,
    check_length,
    length_limit,
    parse_text,
    to_json,
    type_from_name,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VIEW = re.compile(r"CREATE\s+(OR\s+REPLACE\s+)?VIEW\b", re.IGNORECASE)
_SYNTAX = "write -p name:TYPE=value, such as -p id:INT64=7; without =value it is NULL"


class SqlMode(StrEnum):
    """How a script is run."""

    QUERIES = "queries"
    TRANSACTION = "transaction"
    DDL = "ddl"
    PARTITIONED = "partitioned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A bind parameter.

    Attributes:
        name: Its name, without ``@``.
        type_name: Its type as it was written.
        type: Its type.
        value: Its value; not part of ``repr()``.
    """

    name: str
    type_name: str
    type: Type = field(repr=False)
    value: Any = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Parameter":
        """Read ``name:TYPE=value``; without ``=value`` it is NULL.

        Raises:
            UsageError: It is written otherwise, or the value is none of the type's.
        """
        left, equals, value = text.partition("=")
        name, colon, type_name = left.partition(":")
        if not _NAME.fullmatch(name) or not colon:
            msg = "a parameter has no name or no type"
            raise UsageError(msg, hint=_SYNTAX)
        try:
            kind = type_from_name(type_name)
        except ValueError as error:
            msg = f"parameter {name}: {error}"
            raise UsageError(msg, hint=_SYNTAX) from None
        try:
            parsed = parse_text(value, kind) if equals else None
            check_length(parsed, length_limit(type_name))
        except ValueError as error:
            msg = f"the value of parameter {name} {error}"
            raise UsageError(msg, hint=_SYNTAX) from None
        return cls(name=name, type_name=type_name.strip(), type=kind, value=parsed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Statements with their parameters, checked against each other.

    Attributes:
        statements: The statements, in order.
        parameters: Name to parameter; each is used by some statement.
        mode: How they are run.
        assume_idempotent: Whether a person says that partitioned DML may be applied twice.
    """

    statements: tuple[SqlStatement, ...]
    parameters: Mapping[str, Parameter]
    mode: SqlMode
    assume_idempotent: bool = False

    @classmethod
    def read(
        cls,
        texts: Iterable[str],
        parameters: Sequence[str] = (),
        *,
        ddl: bool = False,
        partitioned: bool = False,
        assume_idempotent: bool = False,
    ) -> "Script":
        """Read SQL and parameters as they were typed.

        Args:
            texts: SQL, each of one or several statements.
            parameters: Each as ``name:TYPE=value``, or ``name:TYPE`` for NULL.
            ddl: Whether DDL may be run: then all of it must be DDL.
            partitioned: Whether UPDATE and DELETE are run as partitioned DML.
            assume_idempotent: Whether what can't be seen to be harmless twice is run all the same.

        Raises:
            NotIdempotentError: Partitioned DML may do harm when it is applied twice.
            UsageError: It can't be read, its kinds don't go together, or a parameter is missing,
                unused or no value of its type.
        """
        found = [statement for text in texts for statement in statements(text)]
        if not found:
            msg = "there is no SQL statement"
            raise UsageError(msg, hint="name a file, or pass -e 'SELECT ...'")
        mode = _mode(found, ddl=ddl, partitioned=partitioned)
        if assume_idempotent and mode is not SqlMode.PARTITIONED:
            msg = "only partitioned DML can be assumed to be idempotent"
            raise UsageError(msg, hint="pass --partitioned, or leave --assume-idempotent out")
        if mode is SqlMode.PARTITIONED and not assume_idempotent:
            for number, statement in enumerate(found, 1):
                idempotence.refuse(statement, place(number, statement))
        return cls(
            statements=tuple(found),
            parameters=_matched(found, parameters),
            mode=mode,
            assume_idempotent=assume_idempotent,
        )

    def bound(self, statement: SqlStatement) -> tuple[dict[str, Any], dict[str, Type]]:
        """Return the values and the types of a statement's parameters."""
        by_folded = {name.casefold(): one for name, one in self.parameters.items()}
        used = {name: by_folded[name.casefold()] for name in statement.parameters}
        return (
            {name: one.value for name, one in used.items()},
            {name: one.type for name, one in used.items()},
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes another call with the same key another write."""
        return {
            "mode": self.mode.value,
            "statements": [statement.digest for statement in self.statements],
            "parameters": {
                name: [one.type_name, one.value is None, to_json(one.value)]
                for name, one in self.parameters.items()
            },
        }

    def public(self) -> dict[str, Any]:
        """Return what an orchestrator may see: no literal and no value."""
        return {
            "statements": [
                {"sql": statement.masked, "digest": statement.digest}
                for statement in self.statements
            ],
            "parameters": [
                {"name": one.name, "type": one.type_name} for one in self.parameters.values()
            ],
            "mode": self.mode.value,
        }


def place(number: int, statement: SqlStatement) -> str:
    """Return which statement it is, from 1, and on which line of its text it begins."""
    return f"statement {number} in line {statement.line}"


def _mode(found: Sequence[SqlStatement], *, ddl: bool, partitioned: bool) -> SqlMode:
    kinds = {statement.kind for statement in found}
    for number, statement in enumerate(found, 1):
        if statement.kind is StatementKind.OTHER:
            word = statement.text.split(maxsplit=1)[0][:20].upper()
            msg = f"{place(number, statement)} ({word}) can't be run"
            raise UsageError(msg, hint="run queries, DML or DDL; transactions are made for you")
        if name := _changed_in_ledger(statement):
            msg = f"{place(number, statement)} changes {name}"
            raise UsageError(msg, hint="the ledger is written by the protocol only")
    if ddl and partitioned:
        msg = "DDL and partitioned DML can't be run together"
        raise UsageError(msg, hint="run one after the other")
    if StatementKind.DDL in kinds and not ddl:
        msg = f"{_first(found, StatementKind.DDL)} is DDL"
        raise UsageError(msg, hint="pass --ddl: DDL is part of no transaction")
    if ddl:
        if kinds != {StatementKind.DDL}:
            msg = "with --ddl every statement must be DDL"
            raise UsageError(msg, hint="run queries and DML in another call")
        return SqlMode.DDL
    if partitioned:
        if not kinds <= {StatementKind.UPDATE, StatementKind.DELETE}:
            msg = "partitioned DML can only be UPDATE or DELETE"
            raise UsageError(msg, hint="run the other statements in another call")
        return SqlMode.PARTITIONED
    return SqlMode.QUERIES if kinds == {StatementKind.QUERY} else SqlMode.TRANSACTION


def _changed_in_ledger(statement: SqlStatement) -> str | None:
    """Return what a statement would change of the ledger: a table, an index, its change stream."""
    if statement.kind is StatementKind.DDL and not _VIEW.match(statement.text):
        return next((name for name in changed_objects(statement) if is_ledger(name)), None)
    return statement.target if is_ledger(statement.target) else None


def _first(found: Sequence[SqlStatement], kind: StatementKind) -> str:
    return next(place(number, one) for number, one in enumerate(found, 1) if one.kind is kind)


def _matched(found: Sequence[SqlStatement], given: Sequence[str]) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    for text in given:
        one = Parameter.parse(text)
        if one.name.casefold() in {name.casefold() for name in parameters}:
            msg = f"parameter {one.name} is given twice"
            raise UsageError(msg, hint="give it once")
        parameters[one.name] = one
    used = {name.casefold(): name for statement in found for name in statement.parameters}
    known = {name.casefold() for name in parameters}
    if missing := [name for folded, name in used.items() if folded not in known]:
        msg = f"parameter {', '.join(f'@{name}' for name in missing)} has no value"
        raise UsageError(msg, hint=f"pass -p {missing[0]}:TYPE=value")
    if unused := [name for name in parameters if name.casefold() not in used]:
        msg = f"no statement uses @{', @'.join(unused)}"
        raise UsageError(msg, hint="leave the parameter out, or mend the statement")
    return parameters
