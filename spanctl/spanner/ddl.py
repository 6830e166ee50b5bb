"""The ledger's DDL: what its newest version is made of, and what older ones lack.

Migrations only expand: a table or a column is added, never changed or dropped, so that an older
client goes on working while a newer one is rolled out.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from spanctl.errors import SchemaVersionError
from spanctl.ledger.keys import KEYED
from spanctl.spanner import receipts
from spanctl.spanner.identity import SETTINGS
from spanctl.spanner.watching import STREAM

ATTESTATIONS: Final = "spanctl_attestations"
INTENTS: Final = "spanctl_intents"
INTENTS_BY_REQUEST: Final = "spanctl_intents_by_request"
EXECUTORS: Final = "spanctl_executors"
WATCHES: Final = "spanctl_watches"
OBSERVATIONS: Final = "spanctl_observations"
RECOVERIES: Final = "spanctl_recoveries"
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
  initiator_standing STRING(16),
  initiator_chain ARRAY<STRING(MAX)>,
  initiator_claim STRING(MAX),
  executor_standing STRING(16),
  executor_chain ARRAY<STRING(MAX)>,
  executor_chain_standing STRING(16),
  executor_claim STRING(MAX),
  attestation STRING(MAX),
  keyed_root STRING(MAX) AS (REGEXP_EXTRACT(operation_key, r'^({KEYED}[^/]*)/')) STORED,
  step_identity STRING(MAX),
) PRIMARY KEY (txn_id)""",
    INTENTS: f"""CREATE TABLE {INTENTS} (
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
  request STRING(64),
) PRIMARY KEY (intent_id)""",
    ATTESTATIONS: f"""CREATE TABLE {ATTESTATIONS} (
  attestation_id STRING(64) NOT NULL,
  flow_run STRING(36) NOT NULL,
  used_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (attestation_id)""",
    EXECUTORS: f"""CREATE TABLE {EXECUTORS} (
  executor_id STRING(36) NOT NULL,
  host STRING(MAX),
  boot STRING(64),
  pid_namespace INT64,
  pid INT64,
  start_ticks INT64,
  parent STRING(36),
  root STRING(MAX),
  root_run STRING(MAX),
  flow_run STRING(MAX),
  version STRING(32),
  deadline FLOAT64 NOT NULL,
  heartbeat_interval FLOAT64 NOT NULL,
  started_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  heartbeat TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  superseded_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
  superseded_by STRING(36),
  ended_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (executor_id)""",
    OBSERVATIONS: f"""CREATE TABLE {OBSERVATIONS} (
  executor_id STRING(36) NOT NULL,
  heartbeat TIMESTAMP NOT NULL,
  first_seen TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  last_seen TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (executor_id)""",
    RECOVERIES: f"""CREATE TABLE {RECOVERIES} (
  root_run STRING(36) NOT NULL,
  flow_run STRING(36) NOT NULL,
  attempt INT64 NOT NULL,
  executor STRING(36) NOT NULL,
  begun_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  ended_at TIMESTAMP OPTIONS (allow_commit_timestamp = true),
  outcome STRING(32),
) PRIMARY KEY (root_run, flow_run, attempt)""",
    WATCHES: f"""CREATE TABLE {WATCHES} (
  table_name STRING(MAX) NOT NULL,
  since TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
  watched STRING(16) NOT NULL,
  columns ARRAY<STRING(MAX)>,
) PRIMARY KEY (table_name, since)""",
}
"""Table name to the DDL that creates it, in the newest version."""

ADDED: Final[dict[str, dict[int, tuple[str, ...]]]] = {
    receipts.TABLE: {
        2: (
            "initiator_standing",
            "initiator_chain",
            "initiator_claim",
            "executor_standing",
            "executor_chain",
            "executor_chain_standing",
            "executor_claim",
            "attestation",
            "keyed_root",
        ),
        3: ("step_identity",),
    },
    INTENTS: {3: ("request",)},
}
"""Table name to version to the columns that it added: a migration only expands."""

INDEXES: Final[dict[str, str]] = {
    receipts.BY_TIME: f"CREATE INDEX {receipts.BY_TIME} ON {receipts.TABLE}"
    " (shard, commit_timestamp DESC)",
    receipts.BY_RUN: f"CREATE INDEX {receipts.BY_RUN} ON {receipts.TABLE}"
    " (shard, root_run, commit_timestamp DESC)",
    receipts.BY_KEY: f"CREATE NULL_FILTERED INDEX {receipts.BY_KEY} ON {receipts.TABLE}"
    " (shard, keyed_root, commit_timestamp DESC)",
    "spanctl_intents_open": "CREATE NULL_FILTERED INDEX spanctl_intents_open"
    f" ON {INTENTS} (shard, open_since)",
    INTENTS_BY_REQUEST: f"CREATE NULL_FILTERED INDEX {INTENTS_BY_REQUEST}"
    f" ON {INTENTS} (request, leased_at DESC)",
}
"""Index name to the DDL that creates it."""


_NAMES: Final = frozenset({*TABLES, *INDEXES, STREAM})


def is_ledger(name: str) -> bool:
    """Tell whether a table, an index or a change stream is the ledger's.

    Only the protocol writes to it. What merely has a name like it is the user's own.
    """
    return name.replace("`", "").casefold() in _NAMES


def columns_of(table: str) -> dict[str, str]:
    """Return the columns of one of the ledger's tables, each with its definition."""
    return dict(re.findall(r"^  (\w+) (.+),$", TABLES[table], re.MULTILINE))


def missing(
    columns: Mapping[str, AbstractSet[str]], indexes: AbstractSet[str], version: int
) -> list[str]:
    """Return the DDL that completes a ledger, in order.

    Args:
        columns: The tables that are there, each with its columns; the ledger's and others.
        indexes: The indexes that are there.
        version: The version of the ledger that is there; the oldest where none says so.

    Raises:
        SchemaVersionError: A table of the ledger's name lacks a column that no newer version added.
    """
    ddl = []
    for table, create in TABLES.items():
        if table not in columns:
            ddl.append(create)
            continue
        added = {
            name
            for since, names in ADDED.get(table, {}).items()
            if since > version
            for name in names
        }
        wanted = columns_of(table)
        lacking = [name for name in wanted if name not in columns[table]]
        if strange := sorted(set(lacking) - added):
            msg = f"table {table} is not the ledger's: it lacks {', '.join(strange)}"
            raise SchemaVersionError(msg, hint="rename that table, or use another database")
        ddl += [f"ALTER TABLE {table} ADD COLUMN {name} {wanted[name]}" for name in lacking]
    return ddl + [create for name, create in INDEXES.items() if name not in indexes]
