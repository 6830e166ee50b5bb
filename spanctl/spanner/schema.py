"""The ledger's schema: its DDL, its versions, and the change stream over the watched tables.

Migrations only expand: a table or a column is added, never changed or dropped, so that an older
client goes on working while a newer one is rolled out.
"""

import base64
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spanctl.errors import NotFoundError, SchemaVersionError, UsageError
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import admin, catalog, receipts
from spanctl.spanner.changes import STREAM
from spanctl.spanner.identity import (
    LEDGER_ID,
    LEDGER_KEY,
    SCHEMA_VERSION,
    SETTINGS,
    VERSION,
    read_settings,
)
from spanctl.spanner.keysets import one
from spanctl.spanner.run import Run

if TYPE_CHECKING:
    from spanctl.spanner.client import Database
    from spanctl.spanner.transaction import Transaction

_KEY_BYTES: Final = 32
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SHARD: Final = "shard INT64 NOT NULL AS (ABS(MOD(FARM_FINGERPRINT({key}), 16))) STORED"

TABLES: Final[dict[str, str]] = {
    SETTINGS: f"""CREATE TABLE {SETTINGS} (
  name STRING(64) NOT NULL,
  value STRING(MAX) NOT NULL,
  updated_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (name)""",
    receipts.TABLE: f"""CREATE TABLE {receipts.TABLE} (
  txn_id STRING(36) NOT NULL,
  {_SHARD.format(key="txn_id")},
  kind STRING(16) NOT NULL,
  commit_timestamp TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  operation_key STRING(MAX) NOT NULL,
  epoch INT64 NOT NULL,
  api_transaction_id STRING(MAX),
  initiator STRING(MAX),
  executor STRING(MAX),
  root_run STRING(MAX),
  flow_run STRING(MAX),
  flow STRING(MAX),
  deployment STRING(MAX),
  task_run STRING(MAX),
  task STRING(MAX),
  attempt INT64,
  reason STRING(MAX),
  tag STRING(MAX),
  statements STRING(MAX),
  arguments_digest STRING(64),
  result STRING(MAX),
  undoes STRING(36),
  client_version STRING(32),
) PRIMARY KEY (txn_id)""",
    "spanctl_intents": f"""CREATE TABLE spanctl_intents (
  intent_id STRING(36) NOT NULL,
  {_SHARD.format(key="intent_id")},
  executor STRING(36) NOT NULL,
  root_run STRING(MAX),
  prefix STRING(MAX) NOT NULL,
  first INT64,
  last INT64,
  keys ARRAY<STRING(MAX)>,
  host STRING(MAX),
  pid INT64,
  leased_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  open_since TIMESTAMP OPTIONS (allow_commit_timestamp = true),
  closed_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (intent_id)""",
}
"""Version 1: table name to the DDL that creates it."""

INDEXES: Final[dict[str, str]] = {
    receipts.BY_TIME: f"CREATE INDEX {receipts.BY_TIME} ON {receipts.TABLE}"
    " (shard, commit_timestamp DESC)",
    receipts.BY_RUN: f"CREATE INDEX {receipts.BY_RUN} ON {receipts.TABLE}"
    " (shard, root_run, commit_timestamp DESC)",
    "spanctl_intents_open": "CREATE NULL_FILTERED INDEX spanctl_intents_open"
    " ON spanctl_intents (shard, open_since)",
}
"""Version 1: index name to the DDL that creates it."""


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
    _refuse_unknown(database, present)
    indexes = _names(
        database,
        "SELECT DISTINCT INDEX_NAME FROM INFORMATION_SCHEMA.INDEXES"
        " WHERE TABLE_SCHEMA = '' AND INDEX_TYPE = 'INDEX'",
    )
    missing = [ddl for name, ddl in TABLES.items() if name not in present]
    missing += [ddl for name, ddl in INDEXES.items() if name not in indexes]
    return missing + _stream_ddl(database, _existing(tables, present))


def _refuse_unknown(database: "Database", present: set[str]) -> None:
    settings = read_settings(database) if SETTINGS in present else {}
    version = settings.get(VERSION)
    if version is not None and (not version.isdigit() or int(version) > SCHEMA_VERSION):
        msg = f"the ledger has schema version {version}, this spanctl knows {SCHEMA_VERSION}"
        raise SchemaVersionError(msg, hint="upgrade spanctl")
    for name, ddl in TABLES.items():
        if name not in present:
            continue
        columns = _names(
            database,
            "SELECT COLUMN_NAME FROM INFORMATION_SCHEMA.COLUMNS"
            " WHERE TABLE_SCHEMA = '' AND TABLE_NAME = @name",
            name,
        )
        lacking = set(re.findall(r"^  (\w+) ", ddl, re.MULTILINE)) - columns
        if lacking:
            msg = f"table {name} is not the ledger's: it lacks {', '.join(sorted(lacking))}"
            raise SchemaVersionError(msg, hint="rename that table, or use another database")


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
            known = ", ".join(sorted(n for n in present if not n.startswith("spanctl_")))
            raise NotFoundError(msg, hint=f"tables: {known}" if known else "create it first")
        if name.startswith("spanctl_"):
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
    if database.target.emulator_host:
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
        admin.execute_ddl(database.target, missing)
    created = LEDGER_ID not in read_settings(database)
    if created:
        _write_identity(database)
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

    def insert(txn: "Transaction") -> None:
        if _has_identity(txn):
            return
        rows = [(name, value, receipts.COMMIT_TIMESTAMP) for name, value in values.items()]
        txn.insert(SETTINGS, ("name", "value", "updated_at"), rows)

    with Run(database, "ledger", provenance=Provenance(reason="spanctl init")) as run:
        run.step("install", insert, key=str(uuid.uuid4()), expect_replay=False)


def _has_identity(txn: "Transaction") -> bool:
    return bool(txn.read(SETTINGS, ["value"], one(LEDGER_ID)))
