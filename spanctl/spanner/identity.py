"""Which ledger a database holds: its id, its key, the version of its schema."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spanctl.errors import SchemaVersionError, StatementError
from spanctl.spanner.keysets import KeySet

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

SCHEMA_VERSION = 3
OLDEST_VERSION = 2
"""The version before is worked with too, so that an upgrade can be rolled out."""
SETTINGS = "spanctl_settings"
LEDGER_ID = "ledger_id"
LEDGER_KEY = "ledger_key"
VERSION = "schema_version"


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """A ledger.

    Attributes:
        ledger_id: A UUID that is new with every new ledger, also after a restore.
        key: Key of the digests of arguments, 32 bytes; never shown.
        schema_version: Version of the schema in the database.
    """

    ledger_id: str
    key: bytes = field(repr=False)
    schema_version: int


def read_settings(database: "Database") -> dict[str, str]:
    """Return the ledger's settings; empty when the database has no ledger.

    Raises:
        SpanctlError: The database could not be read.
    """
    try:
        rows = database.read(SETTINGS, ["name", "value"], KeySet(all_=True))
        return {str(name): str(value) for name, value in rows}
    except StatementError as error:
        if error.details.get("status") in {"NOT_FOUND", "INVALID_ARGUMENT"}:
            return {}
        raise


def read_identity(database: "Database") -> LedgerIdentity:
    """Return the ledger of a database.

    Raises:
        SchemaVersionError: There is none, or it is of a version that this spanctl doesn't know.
        SpanctlError: The database could not be read.
    """
    settings = read_settings(database)
    if LEDGER_ID not in settings:
        msg = f"{database.target.database} has no ledger yet"
        raise SchemaVersionError(msg, hint="run: spanctl init")
    version = int(settings[VERSION])
    if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
        msg = f"the ledger has schema version {version}, this spanctl knows {SCHEMA_VERSION}"
        hint = "run: spanctl init" if version < SCHEMA_VERSION else "upgrade spanctl"
        raise SchemaVersionError(msg, hint=hint)
    return ledger_of(settings)


def ledger_of(settings: Mapping[str, str]) -> LedgerIdentity:
    """Return the ledger that these settings describe."""
    key = base64.b64decode(settings[LEDGER_KEY])
    return LedgerIdentity(settings[LEDGER_ID], key, int(settings[VERSION]))
