"""Which ledger a database holds: its id, its key, the version of its schema."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from spanctl.errors import OtherDatabaseError, SchemaVersionError, StatementError
from spanctl.spanner.keysets import KeySet

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

SCHEMA_VERSION = 4
OLDEST_VERSION = 3
"""The version before is worked with too, so that an upgrade can be rolled out."""
SETTINGS = "spanctl_settings"
_TIMEOUT = 30.0
LEDGER_ID = "ledger_id"
LEDGER_KEY = "ledger_key"
VERSION = "schema_version"
REQUESTS_SINCE = "requests_since"
_STAMPED = ("name", "value", "updated_at")
DATABASE = "database"
CREATE_TIME = "create_time"
ANCESTOR = "ancestor"
"""The ids that the ledger had before it was adopted in a copy, the latest first."""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One database in the course of time: dropped and made again, or restored, it is another.

    Attributes:
        name: Its full name.
        created: When it was created (RFC 3339), as GetDatabase says; None where it doesn't.
        is_told: Whether GetDatabase named it: where that is denied, the configured name stands.
    """

    name: str
    created: str | None = None
    is_told: bool = True

    def differs(self, other: "Incarnation") -> bool:
        """Tell whether the other is known to be another database.

        A creation time that only one side has is no difference, nor is a project's number where
        the other side has its id.
        """
        mine, theirs = self.name.split("/"), other.name.split("/")
        if mine[2:] != theirs[2:]:
            return True
        projects = (mine[1], theirs[1])
        if projects[0] != projects[1] and not any(one.isdigit() for one in projects):
            return True
        return bool(self.created and other.created and self.created != other.created)

    def __str__(self) -> str:
        """Return its name, with its creation time where that is known."""
        return f"{self.name} (created {self.created})" if self.created else self.name


@dataclass(frozen=True, slots=True)
class LedgerIdentity:
    """A ledger.

    Attributes:
        ledger_id: A UUID that is new with every new ledger, also after a restore.
        key: Key of the digests of arguments, 32 bytes; never shown.
        schema_version: Version of the schema in the database.
        bound: The database that it belongs to; None for an older one that no ``init`` has bound.
        ancestor: The id that it had before it was adopted here; None where it never was.
    """

    ledger_id: str
    key: bytes = field(repr=False)
    schema_version: int
    bound: Incarnation | None = None
    ancestor: str | None = None

    def is_elsewhere(self, actual: Incarnation) -> bool:
        """Tell whether this is a copy: the rows are bound to another database than they lie in."""
        return self.bound is not None and self.bound.differs(actual)

    def refuse_copy(self, actual: Incarnation) -> None:
        """Return when a write here goes to the database that the ledger belongs to.

        Raises:
            OtherDatabaseError: The rows are a copy: of a restore, a clone or an export.
        """
        if self.is_elsewhere(actual):
            msg = f"ledger {self.ledger_id} belongs to {self.bound}, and this is {actual}"
            hint = (
                "it is a copy, a clone or a restore: reading and audit go on; to write here under"
                " a new ledger id, run: spanctl init --adopt"
            )
            raise OtherDatabaseError(msg, hint=hint, ledger=self.ledger_id)


def read_settings(database: "Database", *, timeout: float = _TIMEOUT) -> dict[str, str]:
    """Return the ledger's settings; empty when the database has no ledger.

    Raises:
        SpanctlError: The database could not be read.
    """
    try:
        rows = database.read(SETTINGS, ["name", "value"], KeySet(all_=True), timeout=timeout)
        return {str(name): str(value) for name, value in rows}
    except StatementError as error:
        if error.details.get("status") in {"NOT_FOUND", "INVALID_ARGUMENT"}:
            return {}
        raise


def read_identity(database: "Database", *, timeout: float = _TIMEOUT) -> LedgerIdentity:
    """Return the ledger of a database.

    Raises:
        SchemaVersionError: There is none, or it is of a version that this spanctl doesn't know.
        SpanctlError: The database could not be read.
    """
    settings = read_settings(database, timeout=timeout)
    if LEDGER_ID not in settings:
        msg = f"{database.target.database} has no ledger yet"
        raise SchemaVersionError(msg, hint="run: spanctl init")
    version = int(settings[VERSION])
    if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
        msg = f"the ledger has schema version {version}, this spanctl knows {SCHEMA_VERSION}"
        hint = "run: spanctl init" if version < SCHEMA_VERSION else "upgrade spanctl"
        raise SchemaVersionError(msg, hint=hint)
    return ledger_of(settings)


def requests_since(database: "Database") -> datetime | None:
    """Return since when the ledger has kept requests, as of version 3; None where it has none.

    A migration moves the stamp of the version, and keeps that time apart.

    Raises:
        SpanctlError: The database could not be read.
    """
    names = KeySet(keys=[[VERSION], [REQUESTS_SINCE]])
    rows = {name: (value, at) for name, value, at in database.read(SETTINGS, _STAMPED, names)}
    if kept := rows.get(REQUESTS_SINCE):
        return datetime.fromisoformat(kept[0])
    return rows[VERSION][1] if VERSION in rows else None


def ledger_of(settings: Mapping[str, str]) -> LedgerIdentity:
    """Return the ledger that these settings describe."""
    key = base64.b64decode(settings[LEDGER_KEY])
    bound = None
    if name := settings.get(DATABASE):
        bound = Incarnation(name, settings.get(CREATE_TIME) or None)
    ancestor = settings.get(ANCESTOR, "").partition(" ")[0] or None
    return LedgerIdentity(settings[LEDGER_ID], key, int(settings[VERSION]), bound, ancestor)
