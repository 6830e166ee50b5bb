"""What is printed of a secret that holds a credential: everything but the material."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from spanctl.clock import now
from spanctl_cli.output import Column, Kind, Listing, Record, Section

if TYPE_CHECKING:
    from spanctl.credentials.rotation.ports import VersionInfo
    from spanctl.credentials.rotation.status import SecretStatus

FIELDS = (
    Column("name", kind=Kind.ID),
    Column("state", kind=Kind.STATE),
    Column("principal"),
    Column("kind"),
    Column("version", kind=Kind.NUMBER),
    Column("expires", kind=Kind.TIME, extra=True),
    Column("seconds_left", title="time left", kind=Kind.LEFT),
    Column("chain", title="minted through", extra=True),
    Column("due", extra=True),
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


def row(status: "SecretStatus") -> dict[str, Any]:
    """Return the values of :data:`FIELDS`."""
    rotation = status.rotation
    return {
        "name": status.name.secret,
        "state": status.state,
        "principal": status.principal,
        "kind": KINDS.get(status.kind, status.kind) if status.kind else None,
        "version": status.current,
        "expires": status.expiry,
        "seconds_left": left(status.expiry),
        "chain": [one for one in (status.minted_by, *status.delegates) if one],
        "due": status.why_due() or None,
        "rotator": rotation.who if rotation else None,
        "phase": rotation.phase if rotation else None,
        "secret": str(status.name),
    }


KINDS: dict[str, str] = {
    "spanctl_access_token": "access token",
    "service_account": "key",
    "impersonated_service_account": "keyless",
    "external_account": "keyless",
}
"""The kinds of documents, as people call them."""


def left(expiry: datetime | None) -> float | None:
    """Return the seconds until a credential expires, not below 0; None when it never does."""
    return None if expiry is None else max(0.0, round((expiry - now()).total_seconds(), 1))


def hint(status: "SecretStatus") -> str:
    """Return what to say of a key: a better way; empty for what is none."""
    if not status.is_key:
        return ""
    return (
        f"{status.name.secret} holds a key, which works for whoever has it; keyless instead: "
        f"spanctl context set credentials=impersonate:{status.principal}"
    )


def record(status: "SecretStatus") -> Record:
    """Return what ``creds show`` prints."""
    pins = [
        {"holder": pin.holder, "version": pin.version, "until": pin.until} for pin in status.pins
    ]
    versions = [_version(status, one) for one in status.versions]
    sections = [Section("versions", "Versions", Listing("creds.versions", _VERSIONS, versions))]
    if pins:
        sections.append(Section("pins", "Pins", Listing("creds.pins", _PINS, pins)))
    columns = tuple(Column(one.key, one.title, one.kind) for one in FIELDS)
    return Record("creds", columns, row(status), tuple(sections))


def _version(status: "SecretStatus", version: "VersionInfo") -> dict[str, Any]:
    retiree = next((one for one in status.retirees if one.version == version.number), None)
    return {
        "version": version.number,
        "state": version.state,
        "aliases": [alias for alias, number in status.aliases.items() if number == version.number],
        "created": version.created,
        "next": _NEXT[retiree.stage] if retiree else None,
        "after": retiree.after if retiree else None,
    }


def history(status: "SecretStatus", limit: int) -> Listing:
    """Return what ``creds history`` prints, newest first."""
    rows = [
        {"at": done.at, "outcome": done.outcome, "version": done.version, "who": done.who}
        for done in reversed(status.history)
    ]
    empty = f"no rotation of {status.name.secret} is over yet"
    return Listing("creds.history", _HISTORY, rows[:limit], empty=empty)
