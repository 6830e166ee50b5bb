"""Secrets and versions as values, read from rows of the store."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from spanctl.local.standins.store import from_micros


class State(StrEnum):
    """The state of a version, by Google's names."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    DESTROYED = "DESTROYED"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, without any payload."""

    secret_id: str
    created: datetime
    etag: str
    replication: bytes
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    aliases: Mapping[str, int]
    destroy_delay: timedelta | None
    newest: int


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a secret, without its payload."""

    secret_id: str
    number: int
    created: datetime
    state: State
    etag: str
    checksum_given: bool
    destroyed: datetime | None
    scheduled: datetime | None


def secret_of(row: sqlite3.Row, aliases: Mapping[str, int]) -> Secret:
    """Return the secret in a row of the table, with the aliases that it has."""
    return Secret(
        secret_id=row["id"],
        created=from_micros(row["created"]),
        etag=row["etag"],
        replication=bytes(row["replication"]),
        labels=json.loads(row["labels"]),
        annotations=json.loads(row["annotations"]),
        aliases=aliases,
        destroy_delay=None if row["destroy_ttl"] is None else timedelta(seconds=row["destroy_ttl"]),
        newest=row["newest"],
    )


def version_of(row: sqlite3.Row, state: State) -> Version:
    """Return the version in a row of the table, with the state that it is in."""
    return Version(
        secret_id=row["secret"],
        number=row["number"],
        created=from_micros(row["created"]),
        state=state,
        etag=row["etag"],
        checksum_given=bool(row["crc_given"]),
        destroyed=None if row["destroyed"] is None else from_micros(row["destroyed"]),
        scheduled=None if row["scheduled"] is None else from_micros(row["scheduled"]),
    )
