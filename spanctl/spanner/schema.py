"""The ledger's schema: installed, migrated, and the change stream over the watched tables."""

import base64
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spanctl.errors import NotFoundError, SchemaVersionError, UsageError
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import admin, catalog, ddl, nulls, receipts, watches
from spanctl.spanner.binding import describe
from spanctl.spanner.identity import (
    ANCESTOR,
    CREATE_TIME,
    DATABASE,
    LEDGER_ID,
    LEDGER_KEY,
    REQUESTS_SINCE,
    SCHEMA_VERSION,
    SETTINGS,
    VERSION,
    Incarnation,
    ledger_of,
    read_settings,
    requests_since,
)
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.run import Run
from spanctl.spanner.watching import STREAM, schema_at

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.transaction import Transaction

_KEY_BYTES: Final = 32
_REQUESTS: Final = 3
"""The version of the schema that first kept requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """What :func:`install` found and did.

    Attributes:
        ledger_id: The ledger's id.
        schema_version: The version now in the database.
        created: Whether the ledger is new.
        executed: The DDL that was executed, in order.
        watched: The tables in the change stream, the ledger's own left out.
        bound: The database that the ledger belongs to.
        ancestor: The id that it had before it was adopted; None where it never was.
        adopted: Whether it was adopted just now.
    """

    ledger_id: str
    schema_version: int
    created: bool
    executed: tuple[str, ...]
    watched: tuple[str, ...]
    bound: Incarnation
    ancestor: str | None = None
    adopted: bool = False


def _names(database: "Database", query: str) -> set[str]:
    return {str(found) for (found,) in database.query(query)}


def watched(database: "Database") -> tuple[str, ...]:
    """Return the tables that the change stream watches, the ledger's own left out; sorted.

    One of which only columns are watched comes with these: ``accounts(owner, balance)``.
    """
    found = schema_at(database)
    if found.watched is None:
        return ()
    tables = found.watched.tables
    if found.watched.everything:
        tables = dict.fromkeys(found.names.values())
    return tuple(sorted(_with_columns(*one) for one in tables.items() if not ddl.is_ledger(one[0])))


def _with_columns(table: str, columns: Sequence[str] | None) -> str:
    return table if columns is None else f"{table}({', '.join(sorted(columns))})"


def plan(database: "Database", tables: Sequence[str] = ()) -> list[str]:
    """Return the DDL that is missing, in order; empty when the ledger is complete.

    Args:
        database: The database.
        tables: Tables whose changes shall be watched, besides those already watched.

    Raises:
        SchemaVersionError: What is there is of a version, or of a shape, that is not known.
        NotFoundError: A table to watch does not exist.
        UsageError: A table belongs to the ledger.
        ConflictError: The database has the PostgreSQL dialect, or a table's rows would end an
            emulator that watches them.
    """
    catalog.refuse_postgresql(database)
    return lacking(database) + _stream_ddl(database, tables)


def lacking(database: "Database") -> list[str]:
    """Return the DDL that is missing of the ledger alone, its change stream left aside; in order.

    Raises:
        SchemaVersionError: What is there is of a version, or of a shape, that is not known.
    """
    present = _names(
        database, "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ''"
    )
    version = _version(database, present)
    columns = _columns(database, present)
    indexes = _names(
        database,
        "SELECT DISTINCT INDEX_NAME FROM INFORMATION_SCHEMA.INDEXES"
        " WHERE TABLE_SCHEMA = '' AND INDEX_TYPE = 'INDEX'",
    )
    return ddl.missing(columns, indexes, version)


def _version(database: "Database", present: set[str]) -> int:
    """Return the version of the ledger; the oldest where none says so."""
    settings = read_settings(database) if SETTINGS in present else {}
    version = settings.get(VERSION, "1")  # what was begun and not finished may be of any
    if not version.isdigit() or int(version) > SCHEMA_VERSION:
        msg = f"the ledger has schema version {version}, this spanctl knows {SCHEMA_VERSION}"
        raise SchemaVersionError(msg, hint="upgrade spanctl")
    return int(version)


def _columns(database: "Database", present: set[str]) -> dict[str, set[str]]:
    """Return the tables that are there, those of the ledger with their columns."""
    query = (
        "SELECT TABLE_NAME, COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS"
        " WHERE TABLE_SCHEMA = '' AND TABLE_NAME IN UNNEST(@names)"
    )
    found: dict[str, set[str]] = {name: set() for name in present}
    for table, column in database.query(query, {"names": list(ddl.TABLES)}):
        found.setdefault(str(table), set()).add(str(column))
    return found


def _existing(tables: Sequence[str], names: Mapping[str, str]) -> list[str]:
    found = []
    for table in tables:
        name = names.get(table.replace("`", "").casefold())
        if name is None:
            msg = f"there is no table {table} to watch"
            known = ", ".join(sorted(one for one in names.values() if not ddl.is_ledger(one)))
            raise NotFoundError(msg, hint=f"tables: {known}" if known else "create it first")
        if ddl.is_ledger(name):
            msg = f"{name} belongs to the ledger"
            raise UsageError(msg, hint="name the tables of your own data")
        found.append(name)
    return found


def _stream_ddl(database: "Database", tables: Sequence[str]) -> list[str]:
    schema = schema_at(database)
    wanted = _existing(tables, schema.names)
    before = schema.watched
    if before is not None and before.everything:
        return []
    known = before.tables if before else {}
    if database.target.is_emulated:
        fresh = [table for table in wanted if table not in known or known[table] is not None]
        nulls.refuse_watching(database, fresh)
    after = {**known, receipts.TABLE: None, **dict.fromkeys(wanted)}
    if after == known:
        return []
    listed = [receipts.TABLE, *sorted(set(after) - {receipts.TABLE})]
    watching = ", ".join(_quoted(table, after[table]) for table in listed)
    options = "retention_period = '7d', value_capture_type = 'OLD_AND_NEW_VALUES'"
    create = f"CREATE CHANGE STREAM {STREAM} FOR {watching} OPTIONS ({options})"
    if before is None:
        return [create]
    if database.target.is_emulated:
        # The emulator (1.5.28) keeps only the last table of ALTER ... SET FOR. A new stream does
        # not reach back to changes that the old one saw.
        return [f"DROP CHANGE STREAM {STREAM}", create]
    return [f"ALTER CHANGE STREAM {STREAM} SET FOR {watching}"]


def _quoted(table: str, columns: Sequence[str] | None) -> str:
    """Return what is to be watched, as DDL: names may be reserved words."""
    if ddl.is_ledger(table):
        return table
    name = ".".join(f"`{part}`" for part in table.split("."))
    return name if columns is None else f"{name}({', '.join(f'`{one}`' for one in columns)})"


def install(
    database: "Database", tables: Sequence[str] = (), *, adopt: bool = False
) -> SchemaStatus:
    """Install or complete the ledger, and bind it to this database; again it changes nothing.

    Args:
        database: The database.
        tables: Tables whose changes shall be watched, besides those already watched.
        adopt: Whether a ledger that is bound elsewhere, or nowhere, becomes one of its own here:
            under a new id, with the old one as its ancestor.

    Raises:
        OtherDatabaseError: The ledger belongs to another database, and is not to be adopted.
        SchemaVersionError: What is there is of a version, or of a shape, that is not known.
        NotFoundError: A table to watch does not exist.
        SpanctlError: Spanner could not be reached or refused.
    """
    actual = describe(database)
    settings = read_settings(database)
    if LEDGER_ID in settings and not adopt:
        ledger_of(settings).refuse_copy(actual)
    missing = plan(database, tables)
    known = settings.get(VERSION) == str(SCHEMA_VERSION)
    if known and not adopt and ddl.TABLES[ddl.WATCHES] not in missing:
        watches.note(database, schema_at(database).watched)  # what was altered without us
    if missing:
        admin.execute_ddl(database.target, missing, database.rpc.credentials)
        settings = read_settings(database)
    try:
        if created := LEDGER_ID not in settings:
            _write_identity(database, actual)
        else:
            _complete(database, settings, actual, adopt=adopt)
    finally:
        database.forget_ledger()
    watches.note(database, schema_at(database).watched)
    ledger = database.ledger
    return SchemaStatus(
        ledger_id=ledger.ledger_id,
        schema_version=ledger.schema_version,
        created=created,
        executed=tuple(missing),
        watched=watched(database),
        bound=ledger.bound or actual,
        ancestor=ledger.ancestor,
        adopted=not created and ledger.ledger_id != settings[LEDGER_ID],
    )


def _binding(actual: Incarnation) -> dict[str, str]:
    told = {DATABASE: actual.name, CREATE_TIME: actual.created}
    return {name: value for name, value in told.items() if value}


def _write_identity(database: "Database", actual: Incarnation) -> None:
    """Give the ledger its id and key; of two that try at once, one wins."""
    values = {
        LEDGER_ID: str(uuid.uuid4()),
        LEDGER_KEY: base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode(),
        VERSION: str(SCHEMA_VERSION),
        **_binding(actual),
    }
    _settle(database, "install", values, values, where=None)


def _complete(
    database: "Database", settings: Mapping[str, str], actual: Incarnation, *, adopt: bool
) -> None:
    """Bring an older ledger to the newest version, bind it, and adopt it where that is asked for.

    What a copy says of its origin is taken away: a creation time that isn't known here would else
    stay that of the other database.
    """
    changes = {}
    if int(settings[VERSION]) < SCHEMA_VERSION:
        changes[VERSION] = str(SCHEMA_VERSION)
        if int(settings[VERSION]) >= _REQUESTS and (since := requests_since(database)):
            changes[REQUESTS_SINCE] = since.isoformat()
    ledger = ledger_of(settings)
    if adopt and (ledger.bound is None or ledger.is_elsewhere(actual)):
        before = [ledger.ledger_id, *settings.get(ANCESTOR, "").split()]
        changes |= {LEDGER_ID: str(uuid.uuid4()), ANCESTOR: " ".join(before)}
        changes |= {CREATE_TIME: "", **_binding(actual)}
    elif ledger.bound is None or (actual.created and not ledger.bound.created):
        changes |= _binding(actual)
    if changes:
        step = "adopt" if LEDGER_ID in changes else "migrate"
        _settle(database, step, {**settings, **changes}, changes, where=ledger.ledger_id)


def _settle(
    database: "Database",
    step: str,
    after: Mapping[str, str],
    changes: Mapping[str, str],
    *,
    where: str | None,
) -> None:
    """Write settings of the ledger while its id is still ``where``; of two at once, one wins."""
    database.assume_ledger(ledger_of(after))

    def write(txn: "Transaction") -> None:
        rows: dict[str, str] = dict(txn.read(SETTINGS, ["name", "value"], KeySet(all_=True)))
        if rows.get(LEDGER_ID) != where:
            return
        columns = ("name", "value", "updated_at")
        later = {VERSION} if int(rows.get(VERSION, "0")) > SCHEMA_VERSION else set()
        with txn.writing_ledger():
            written = [
                (name, value, receipts.COMMIT_TIMESTAMP)
                for name, value in changes.items()
                if name not in later  # a newer spanctl was faster
            ]
            txn.insert_or_update(SETTINGS, columns, written)

    with Run(database, "ledger", provenance=Provenance(reason="spanctl init")) as run:
        run.step(step, write, key=str(uuid.uuid4()), expect_replay=False)
