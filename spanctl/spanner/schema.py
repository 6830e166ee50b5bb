"""The ledger's schema: installed, migrated, and the change stream over the watched tables."""

import base64
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spanctl.errors import NotFoundError, SchemaVersionError, UsageError
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import admin, catalog, ddl, receipts
from spanctl.spanner.changes import STREAM
from spanctl.spanner.identity import (
    LEDGER_ID,
    LEDGER_KEY,
    SCHEMA_VERSION,
    SETTINGS,
    VERSION,
    ledger_of,
    read_settings,
)
from spanctl.spanner.keysets import one
from spanctl.spanner.run import Run

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.transaction import Transaction

_KEY_BYTES: Final = 32
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """What :func:`install` found and did.

    Attributes:
        ledger_id: The ledger's id.
        schema_version: The version now in the database.
        created: Whether the ledger is new.
        executed: The DDL that was executed, in order.
        watched: The tables in the change stream, the ledger's own left out.
    """

    ledger_id: str
    schema_version: int
    created: bool
    executed: tuple[str, ...]
    watched: tuple[str, ...]


def _names(database: "Database", query: str, name: str | None = None) -> set[str]:
    params = {"name": name} if name else None
    return {str(found) for (found,) in database.query(query, params)}


def watched(database: "Database") -> tuple[str, ...]:
    """Return the tables that the change stream watches, the ledger's own left out; sorted."""
    names = _names(
        database,
        "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.CHANGE_STREAM_TABLES"
        " WHERE CHANGE_STREAM_NAME = @name",
        STREAM,
    )
    return tuple(sorted(names - {receipts.TABLE}))


def plan(database: "Database", tables: Sequence[str] = ()) -> list[str]:
    """Return the DDL that is missing, in order; empty when the ledger is complete.

    Args:
        database: The database.
        tables: Tables whose changes shall be watched, besides those already watched.

    Raises:
        SchemaVersionError: What is there is of a version, or of a shape, that is not known.
        NotFoundError: A table to watch does not exist.
        UsageError: A table's name is no identifier, or names a table of the ledger.
        ConflictError: The database has the PostgreSQL dialect.
    """
    catalog.refuse_postgresql(database)
    present = _names(
        database, "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ''"
    )
    version = _version(database, present)
    columns = {name: _columns(database, name) if name in ddl.TABLES else set() for name in present}
    indexes = _names(
        database,
        "SELECT DISTINCT INDEX_NAME FROM INFORMATION_SCHEMA.INDEXES"
        " WHERE TABLE_SCHEMA = '' AND INDEX_TYPE = 'INDEX'",
    )
    lacking = ddl.missing(columns, indexes, version)
    return lacking + _stream_ddl(database, _existing(tables, present))


def _version(database: "Database", present: set[str]) -> int:
    """Return the version of the ledger; the oldest where none says so."""
    settings = read_settings(database) if SETTINGS in present else {}
    version = settings.get(VERSION, "1")  # what was begun and not finished may be of any
    if not version.isdigit() or int(version) > SCHEMA_VERSION:
        msg = f"the ledger has schema version {version}, this spanctl knows {SCHEMA_VERSION}"
        raise SchemaVersionError(msg, hint="upgrade spanctl")
    return int(version)


def _columns(database: "Database", table: str) -> set[str]:
    query = (
        "SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS"
        " WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @name"
    )
    return _names(database, query, table)


def _existing(tables: Sequence[str], present: set[str]) -> list[str]:
    by_folded = {name.casefold(): name for name in present}
    found = []
    for table in tables:
        if not _IDENTIFIER.fullmatch(table):
            msg = f"{table!r} is no name of a table"
            raise UsageError(msg, hint="give --table once for each table")
        name = by_folded.get(table.casefold())
        if name is None:
            msg = f"there is no table {table} to watch"
            known = ", ".join(sorted(n for n in present if not ddl.is_ledger(n)))
            raise NotFoundError(msg, hint=f"tables: {known}" if known else "create it first")
        if ddl.is_ledger(name):
            msg = f"{name} belongs to the ledger"
            raise UsageError(msg, hint="name the tables of your own data")
        found.append(name)
    return found


def _stream_ddl(database: "Database", tables: Sequence[str]) -> list[str]:
    streams = _names(database, "SELECT CHANGE_STREAM_NAME FROM INFORMATION_SCHEMA.CHANGE_STREAMS")
    before = set(watched(database)) if STREAM in streams else set()
    wanted = sorted(before | set(tables))
    watching = ", ".join([receipts.TABLE, *wanted])
    options = "retention_period = '7d', value_capture_type = 'OLD_AND_NEW_VALUES'"
    create = f"CREATE CHANGE STREAM {STREAM} FOR {watching} OPTIONS ({options})"
    if STREAM not in streams:
        return [create]
    if set(wanted) == before:
        return []
    if database.target.is_emulated:
        # The emulator (1.5.28) keeps only the last table of ALTER ... SET FOR. A new stream does
        # not reach back to changes that the old one saw.
        return [f"DROP CHANGE STREAM {STREAM}", create]
    return [f"ALTER CHANGE STREAM {STREAM} SET FOR {watching}"]


def install(database: "Database", tables: Sequence[str] = ()) -> SchemaStatus:
    """Install or complete the ledger; running it again changes nothing.

    Args:
        database: The database.
        tables: Tables whose changes shall be watched, besides those already watched.

    Raises:
        SchemaVersionError: What is there is of a version, or of a shape, that is not known.
        NotFoundError: A table to watch does not exist.
        SpanctlError: Spanner could not be reached or refused.
    """
    missing = plan(database, tables)
    if missing:
        admin.execute_ddl(database.target, missing, database.rpc.credentials)
    settings = read_settings(database)
    created = LEDGER_ID not in settings
    try:
        if created:
            _write_identity(database)
        elif int(settings[VERSION]) < SCHEMA_VERSION:
            database.assume_ledger(ledger_of({**settings, VERSION: str(SCHEMA_VERSION)}))
            _raise_version(database)
    finally:
        database.forget_ledger()
    return SchemaStatus(
        ledger_id=database.ledger.ledger_id,
        schema_version=database.ledger.schema_version,
        created=created,
        executed=tuple(missing),
        watched=watched(database),
    )


def _write_identity(database: "Database") -> None:
    """Give the ledger its id and key; of two that try at once, one wins."""
    values = {
        LEDGER_ID: str(uuid.uuid4()),
        LEDGER_KEY: base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode(),
        VERSION: str(SCHEMA_VERSION),
    }
    database.assume_ledger(ledger_of(values))

    def insert(txn: "Transaction") -> None:
        if _has_identity(txn):
            return
        rows = [(name, value, receipts.COMMIT_TIMESTAMP) for name, value in values.items()]
        with txn.writing_ledger():
            txn.insert(SETTINGS, ("name", "value", "updated_at"), rows)

    with Run(database, "ledger", provenance=Provenance(reason="spanctl init")) as run:
        run.step("install", insert, key=str(uuid.uuid4()), expect_replay=False)


def _raise_version(database: "Database") -> None:
    """Say that the ledger is of the newest version, once all that it needs is there."""

    def update(txn: "Transaction") -> None:
        ((version,),) = txn.read(SETTINGS, ["value"], one(VERSION))
        if int(version) < SCHEMA_VERSION:
            row = (VERSION, str(SCHEMA_VERSION), receipts.COMMIT_TIMESTAMP)
            with txn.writing_ledger():
                txn.update(SETTINGS, ("name", "value", "updated_at"), [row])

    with Run(database, "ledger", provenance=Provenance(reason="spanctl init")) as run:
        run.step("migrate", update, key=str(uuid.uuid4()), expect_replay=False)


def _has_identity(txn: "Transaction") -> bool:
    return bool(txn.read(SETTINGS, ["value"], one(LEDGER_ID)))
