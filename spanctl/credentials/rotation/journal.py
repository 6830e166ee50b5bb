"""The journal of rotations: it lives in the secret's annotations and survives the machine.

Secret Manager compares one etag over aliases and annotations, so that a step of the journal, the
aliases that it moves and the pins that it must respect change together or not at all.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from spanctl.errors import ConfigurationError, ConflictError

JOURNAL: Final = "spanctl-rotation"
"""Annotation that holds the journal."""

PINS: Final = "spanctl-pins"
"""Annotation that holds the pins."""

CURRENT: Final = "current"
PREVIOUS: Final = "previous"
PENDING: Final = "pending"

MOST_BYTES: Final = 15_000
"""Secret Manager's limit for all annotations is 16 KiB; the rest is left to others."""

_KEPT_HISTORY: Final = 10


class Phase(StrEnum):
    """How far a rotation has come."""

    CLAIMED = "claimed"
    ADDING = "adding"
    CREATED = "created"
    PROMOTED = "promoted"


class Stage(StrEnum):
    """How far the end of a version has come; from ``disabling`` on there is no way back."""

    WAITING = "waiting"
    DISABLING = "disabling"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The rotation under way, or the last one while it can still be undone.

    Attributes:
        rotation_id: Names it.
        owner: Id of the process that works on it; another one must take it over first.
        who: That process, for people.
        until: When its claim lapses unless it writes again.
        started: When the rotation was claimed.
        phase: How far it has come.
        old: The version that was current at the start; None for the first.
        before: The version that was previous at the start.
        base: The highest version at the start.
        checksums: CRC32C of every payload that was, or may have been, added for it.
        keys: The service-account keys in those payloads, in the same order.
        new: The version that it made.
        key: The service-account key in ``new``.
        old_key: The service-account key in ``old``.
        old_expiry: When the token in ``old`` expires.
    """

    rotation_id: str
    owner: str
    who: str
    until: datetime
    started: datetime
    phase: Phase = Phase.CLAIMED
    old: int | None = None
    before: int | None = None
    base: int = 0
    checksums: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    new: int | None = None
    key: str = ""
    old_key: str = ""
    old_expiry: datetime | None = None


@dataclass(frozen=True, slots=True)
class Retiree:
    """A version on its way out, or a service-account key that no version ever held.

    Attributes:
        version: Its number; 0 when there is none.
        after: Before this time its next step must not be taken.
        stage: How far it has come.
        key: The service-account key in it, which goes the same way.
    """

    version: int
    after: datetime
    stage: Stage = Stage.WAITING
    key: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A payload that may still arrive as a stray version, because an answer was lost.

    Attributes:
        checksum: CRC32C of the payload.
        base: Only versions above this one can be it.
        until: From this time on it can't arrive any more.
        key: The service-account key in it; empty once a version that holds it is known.
    """

    checksum: int
    base: int
    until: datetime
    key: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """A rotation that is over.

    Attributes:
        at: When.
        who: By whom.
        version: What it made; None when it made nothing.
        outcome: ``promoted``, ``aborted`` or ``failed``.
    """

    at: datetime
    who: str
    version: int | None
    outcome: str


@dataclass(frozen=True, slots=True)
class Journal:
    """Everything that rotations remember about a secret."""

    rotation: Rotation | None = None
    retirees: tuple[Retiree, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    history: tuple[Done, ...] = ()

    def retiree(self, version: int | None) -> Retiree | None:
        """Return a version's entry, None when it isn't on its way out."""
        return next((found for found in self.retirees if found.version == version), None)

    def remembering(self, done: Done) -> tuple[Done, ...]:
        """Return the history with one more entry; the oldest are dropped."""
        return (*self.history, done)[-_KEPT_HISTORY:]

    def to_text(self) -> str:
        """Write the journal as compact JSON."""
        return _compact(asdict(self))

    @classmethod
    def from_text(cls, text: str | None) -> "Journal":
        """Read what :meth:`to_text` wrote; nothing is an empty journal.

        Raises:
            ConfigurationError: The annotation is no journal.
        """
        if not text:
            return cls()
        try:
            data = json.loads(text)
            rotation = data["rotation"]
            return cls(
                rotation=_rotation(rotation) if rotation else None,
                retirees=tuple(
                    Retiree(e["version"], _time(e["after"]), Stage(e["stage"]), e["key"])
                    for e in data["retirees"]
                ),
                sweeps=tuple(
                    Sweep(e["checksum"], e["base"], _time(e["until"]), e["key"])
                    for e in data["sweeps"]
                ),
                history=tuple(
                    Done(_time(e["at"]), e["who"], e["version"], e["outcome"])
                    for e in data["history"]
                ),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            msg = f"the annotation {JOURNAL} of the secret is no journal of rotations"
            hint = "if no rotation is under way, remove that annotation"
            raise ConfigurationError(msg, hint=hint) from error


@dataclass(frozen=True, slots=True)
class Pin:
    """A lease on a version: until it lapses, no rotation disables that version.

    Attributes:
        holder: Who holds it: a flow run's id.
        version: The version's number.
        until: When it lapses unless it is renewed.
    """

    holder: str
    version: int
    until: datetime


def pins_to_text(pins: tuple[Pin, ...]) -> str:
    """Write pins as compact JSON."""
    return _compact({pin.holder: [pin.version, pin.until] for pin in pins})


def pins_from_text(text: str | None) -> tuple[Pin, ...]:
    """Read what :func:`pins_to_text` wrote.

    Raises:
        ConfigurationError: The annotation holds no pins.
    """
    try:
        data = json.loads(text) if text else {}
        return tuple(Pin(who, int(kept[0]), _time(kept[1])) for who, kept in data.items())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        msg = f"the annotation {PINS} of the secret holds no pins"
        hint = "if no flow run pins a version, remove that annotation"
        raise ConfigurationError(msg, hint=hint) from error


def check_size(annotations: Mapping[str, str]) -> None:
    """Refuse annotations that Secret Manager would refuse.

    Raises:
        ConflictError: Together they are too long.
    """
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > MOST_BYTES:
        msg = f"the secret's annotations would take {size} of at most {MOST_BYTES} bytes"
        hint = "wait until old versions are drained: spanctl creds rotate --wait"
        raise ConflictError(msg, hint=hint)


def _rotation(data: Mapping[str, Any]) -> Rotation:
    fields: dict[str, Any] = dict(data)
    for name in ("until", "started"):
        fields[name] = _time(fields[name])
    if fields["old_expiry"] is not None:
        fields["old_expiry"] = _time(fields["old_expiry"])
    fields["phase"] = Phase(fields["phase"])
    for name in ("checksums", "keys"):
        fields[name] = tuple(fields[name])
    return Rotation(**fields)


def _compact(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), default=_seconds)


def _seconds(value: object) -> float:
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    msg = f"{type(value).__name__} is no part of a journal"
    raise TypeError(msg)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
