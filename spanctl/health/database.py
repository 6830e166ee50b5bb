"""Checks of the database: reachable, its ledger, its change stream, how far it looks back."""

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from spanctl.errors import ConflictError, NotPermittedError, StatementError
from spanctl.health.access import permissions
from spanctl.health.model import Answer, fail, ok, unknown, warn
from spanctl.health.surroundings import Surroundings

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.identity import Incarnation, LedgerIdentity

_OPTIONS: Final = """SELECT OPTION_NAME, OPTION_VALUE
  FROM INFORMATION_SCHEMA.CHANGE_STREAM_OPTIONS WHERE CHANGE_STREAM_NAME = @name"""
_STREAMS: Final = """SELECT CHANGE_STREAM_NAME, `ALL`
  FROM INFORMATION_SCHEMA.CHANGE_STREAMS WHERE CHANGE_STREAM_NAME = @name"""
_RETENTION: Final = """SELECT OPTION_VALUE FROM INFORMATION_SCHEMA.DATABASE_OPTIONS
  WHERE OPTION_NAME = 'version_retention_period'"""
_WHOLE: Final = "OLD_AND_NEW_VALUES"
_DEFAULT_RETENTION: Final = "1h"
_SHOWN: Final = 5
_INIT: Final = "spanctl init"


def database(around: Surroundings) -> Answer:
    """Say whether the database answers, and that it is of the dialect that spanctl knows."""
    found = around.database()
    from spanctl.spanner.catalog import refuse_postgresql

    try:
        refuse_postgresql(found)
    except NotPermittedError:
        asked = permissions(around)  # which says what is missing
        if asked.error is None:
            raise
        return asked
    target = found.target
    kind = "emulated, " if target.is_emulated else ""
    return ok(
        f"{target.database.database} answers at {target.host}; {kind}GoogleSQL",
        endpoint=target.host,
        emulated=target.is_emulated,
        dialect="GOOGLE_STANDARD_SQL",
    )


def ledger(around: Surroundings) -> Answer:
    """Say whether there is a ledger, of a schema that spanctl knows, and of this database."""
    found = around.database().ledger  # says what to type where there is none
    from spanctl.spanner.binding import describe
    from spanctl.spanner.identity import SCHEMA_VERSION

    actual = describe(around.database(), timeout=around.timeout)
    bound = found.bound
    facts = {
        "ledger_id": found.ledger_id,
        "schema_version": found.schema_version,
        "ancestor": found.ancestor,
        "bound_to": bound.name if bound else None,
        "bound_created": bound.created if bound else None,
        "database": actual.name,
        "database_created": actual.created,
    }
    if lacking := _lacking(around.database()):
        told = f"the ledger lacks {', '.join(lacking)}"
        if found.schema_version < SCHEMA_VERSION:
            return warn(f"{told}: it is of an older version", _INIT, **facts)
        return fail(ConflictError(told, hint=f"run: {_INIT}"), **facts)
    told = f"schema version {found.schema_version}, ledger {found.ledger_id}"
    return _told_apart(around, found, actual, told, facts)


def _told_apart(
    around: Surroundings,
    found: "LedgerIdentity",
    actual: "Incarnation",
    told: str,
    facts: dict[str, object],
) -> Answer:
    """Say whether a copy of the database would be known for one."""
    bound = found.bound
    if bound is None:
        return warn(f"{told}; no copy of it is told apart yet", "spanctl init", **facts)
    try:
        found.refuse_copy(actual)
    except ConflictError as error:
        return fail(error, **facts)
    if not actual.is_told and not around.target().is_emulated:
        told = f"{told}; a restore under the same name isn't told apart"
        return warn(told, "grant spanner.databases.get to whoever writes", **facts)
    if not (actual.created and bound.created):
        told = f"{told}; a restore under the same name isn't told apart: no creation time is known"
        if actual.created:
            return warn(told, "spanctl init", **facts)
    return ok(told, **facts)


def _lacking(database: "Database") -> list[str]:
    """Return the tables and indexes of the ledger that aren't there, or aren't complete."""
    from spanctl.spanner.schema import lacking

    named = (re.search(r"(?:TABLE|INDEX) (\w+)", one) for one in lacking(database))
    return list(dict.fromkeys(one.group().lower() for one in named if one))


def change_stream(around: Surroundings) -> Answer:
    """Say which tables' changes are kept, how they look, and for how long."""
    from spanctl.spanner.schema import watched
    from spanctl.spanner.watching import STREAM

    found, named = around.database(), {"name": STREAM}
    streams = list(found.query(_STREAMS, named, timeout=around.timeout))
    if not streams:
        msg = f"there is no change stream {STREAM}: no trail shows rows"
        return fail(ConflictError(msg, hint=f"run: {_watching(_watched_before(found))}"))
    options = {
        str(name): str(value)
        for name, value in found.query(_OPTIONS, named, timeout=around.timeout)
    }
    everything = bool(streams[0][1])
    tables = watched(found)
    retention = options.get("retention_period", "7d")
    capture = options.get("value_capture_type", "OLD_AND_NEW_VALUES")
    facts = {
        "tables": list(tables),
        "all_tables": everything,
        "retention": retention,
        "value_capture_type": capture,
    }
    if not tables and not everything:
        there = _tables(found)
        if not there:
            return ok(f"kept {retention}; there is no table of yours to watch yet", **facts)
        told = f"kept {retention}, but watches no table of yours: no trail shows rows"
        return warn(told, _watching(there), **facts)
    shown = ", ".join(tables[:_SHOWN]) + (", ..." if len(tables) > _SHOWN else "")
    told = f"kept {retention}; watches {'every table' if everything else shown}"
    if capture != _WHOLE:
        mend = _altering(around, f"SET OPTIONS (value_capture_type = '{_WHOLE}')")
        return warn(f"{told}; {capture}: rows before a change are missing", mend, **facts)
    return ok(f"{told}; rows before and after", **facts)


def _altering(around: Surroundings, change: str) -> str:
    from spanctl.spanner.watching import STREAM

    name = around.target().database
    statement = shlex.quote(f"ALTER CHANGE STREAM {STREAM} {change}")
    where = f"{name.database} --project={name.project} --instance={name.instance}"
    return f"gcloud spanner databases ddl update {where} --ddl={statement}"


def _tables(database: "Database") -> list[str]:
    from spanctl.spanner.ddl import is_ledger
    from spanctl.spanner.watching import schema_at

    return sorted(one for one in schema_at(database).names.values() if not is_ledger(one))


def _watched_before(database: "Database") -> list[str]:
    """Return the tables that are there, and were watched when the ledger last knew."""
    from spanctl.spanner.watches import State, history

    marks = history(database).marks
    return [one for one in _tables(database) if one in marks and marks[one][-1].state != State.NONE]


def _watching(tables: Sequence[str]) -> str:
    return " ".join([_INIT, *(f"--table {shlex.quote(one)}" for one in tables)])


def version_retention(around: Surroundings) -> Answer:
    """Say how far back rows can be read as they were."""
    try:
        rows = list(around.database().query(_RETENTION, timeout=around.timeout))
    except StatementError as error:
        return unknown(error.message)
    value = str(rows[0][0]) if rows else _DEFAULT_RETENTION
    default = "" if rows else " (the default)"
    return ok(f"rows can be read as they were for {value}{default}", retention=value)
