"""What may be told of a secret that holds a credential: everything but the material."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from spanctl.clock import now
from spanctl.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    NotPermittedError,
    VerificationError,
)
from spanctl_cli.output import Column, Kind, Listing, Record, Section

if TYPE_CHECKING:
    from spanctl.credentials.document import CredentialDocument
    from spanctl.credentials.reference import SecretName
    from spanctl.credentials.rotation.actions import Seen
    from spanctl.credentials.rotation.journal import Rotation
    from spanctl.credentials.rotation.ports import SecretStore, VersionInfo

_SOON = timedelta(minutes=15)


class CredentialState(StrEnum):
    """How a credential is, at a glance."""

    OK = "ok"
    DUE = "due"
    EXPIRED = "expired"
    ROTATING = "rotating"
    ABANDONED = "abandoned"
    MISSING = "missing"
    BROKEN = "broken"
    UNREADABLE = "unreadable"


FIELDS = (
    Column("name", kind=Kind.ID),
    Column("state", kind=Kind.STATE),
    Column("principal"),
    Column("kind", extra=True),
    Column("version", kind=Kind.NUMBER),
    Column("expires", kind=Kind.TIME),
    Column("seconds_left", title="time left", kind=Kind.DURATION),
    Column("minted_by", title="minted by", extra=True),
    Column("rotator", title="rotated by", extra=True),
    Column("phase", title="rotation", extra=True),
    Column("secret", extra=True),
)
_VERSIONS = (
    Column("version", kind=Kind.ID),
    Column("state", kind=Kind.STATE),
    Column("aliases"),
    Column("created", kind=Kind.TIME),
    Column("next", title="next step"),
    Column("after", title="not before", kind=Kind.TIME),
)
_PINS = (Column("holder", kind=Kind.ID), Column("version"), Column("until", kind=Kind.TIME))
_HISTORY = (
    Column("at", kind=Kind.TIME),
    Column("outcome", kind=Kind.STATE),
    Column("version"),
    Column("who", title="claimed by"),
)
_NEXT = {"waiting": "disable", "disabling": "disable", "disabled": "destroy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A secret as it was read once.

    Attributes:
        name: The secret.
        seen: What a rotation sees of it.
        annotations: Its annotations.
        document: The current version's document; None when ``trouble`` says why.
        trouble: Why there is no document.
    """

    name: "SecretName"
    seen: "Seen"
    annotations: Mapping[str, str]
    document: "CredentialDocument | None"
    trouble: CredentialState | None

    @property
    def under_way(self) -> "Rotation | None":
        """The rotation that isn't over, if there is one."""
        from spanctl.credentials.rotation.journal import Phase

        rotation = self.seen.journal.rotation
        return None if rotation is None or rotation.phase is Phase.PROMOTED else rotation

    @property
    def state(self) -> CredentialState:
        """How it is, at a glance."""
        if self.document is not None and self.document.expiry is not None:
            left = self.document.expiry - now()
            if left <= timedelta(0):
                return CredentialState.EXPIRED
            if left < _SOON:
                return CredentialState.DUE
        if self.under_way is not None:
            return CredentialState.ABANDONED if self.abandoned else CredentialState.ROTATING
        return self.trouble or CredentialState.OK

    @property
    def abandoned(self) -> bool:
        """Whether the rotation under way has lost its rotator: --resume takes it over."""
        from spanctl.credentials.rotation.owner import is_gone

        rotation = self.under_way
        return rotation is not None and (rotation.until <= now() or is_gone(rotation.owner))

    def row(self) -> dict[str, Any]:
        """Return the values of :data:`FIELDS`."""
        document, rotation = self.document, self.under_way
        expiry = document.expiry if document else None
        return {
            "name": self.name.secret,
            "state": self.state,
            "principal": document.principal if document else None,
            "kind": document.kind if document else None,
            "version": self.seen.promoted[0],
            "expires": expiry,
            "seconds_left": left(expiry),
            "minted_by": document.minted_by if document else None,
            "rotator": rotation.who if rotation else None,
            "phase": rotation.phase if rotation else None,
            "secret": str(self.name),
        }


def read(store: "SecretStore", name: "SecretName") -> Facts:
    """Read a secret, and its current version to learn whose credential it is.

    Raises:
        NotFoundError: There is no such secret.
        NotPermittedError: The secret may not be read.
        UnreachableError: No answer came.
    """
    from spanctl.credentials.rotation.driver import seen_of

    state = store.get(name)
    seen = seen_of(state)
    document, trouble = _current(store, name, seen.promoted[0])
    return Facts(
        name=name, seen=seen, annotations=state.annotations, document=document, trouble=trouble
    )


def _current(
    store: "SecretStore", name: "SecretName", version: int | None
) -> "tuple[CredentialDocument | None, CredentialState | None]":
    from spanctl.credentials.document import parse_document

    if version is None:
        return None, CredentialState.MISSING
    try:
        return parse_document(store.access(name, version).material), None
    except NotPermittedError:
        return None, CredentialState.UNREADABLE
    except (ConfigurationError, ConflictError, NotFoundError, VerificationError):
        return None, CredentialState.BROKEN


def left(expiry: datetime | None) -> float | None:
    """Return the seconds until a credential expires, not below 0; None when it never does."""
    return None if expiry is None else max(0.0, round((expiry - now()).total_seconds(), 1))


def record(facts: Facts, versions: "tuple[VersionInfo, ...]") -> Record:
    """Return what ``creds show`` prints."""
    pins = [
        {"holder": pin.holder, "version": pin.version, "until": pin.until}
        for pin in facts.seen.pins
        if now() < pin.until
    ]
    sections = [
        Section(
            "versions",
            "Versions",
            Listing("creds.versions", _VERSIONS, [_version(facts.seen, one) for one in versions]),
        )
    ]
    if pins:
        sections.append(Section("pins", "Pins", Listing("creds.pins", _PINS, pins)))
    columns = tuple(Column(one.key, one.title, one.kind) for one in FIELDS)
    return Record("creds", columns, facts.row(), tuple(sections))


def _version(seen: "Seen", version: "VersionInfo") -> dict[str, Any]:
    retiree = seen.journal.retiree(version.number)
    return {
        "version": version.number,
        "state": version.state,
        "aliases": [alias for alias, number in seen.aliases if number == version.number],
        "created": version.created,
        "next": _NEXT[retiree.stage] if retiree else None,
        "after": retiree.after if retiree else None,
    }


def history(facts: Facts, limit: int) -> Listing:
    """Return what ``creds history`` prints, newest first."""
    rows = [
        {"at": done.at, "outcome": done.outcome, "version": done.version, "who": done.who}
        for done in reversed(facts.seen.journal.history)
    ]
    empty = f"no rotation of {facts.name.secret} is over yet"
    return Listing("creds.history", _HISTORY, rows[:limit], empty=empty)
