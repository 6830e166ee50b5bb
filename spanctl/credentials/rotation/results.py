"""What a rotator sees of a secret, and what it tells in the end."""

from dataclasses import dataclass
from datetime import datetime

from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.actions import Ending, Seen
from spanctl.credentials.rotation.journal import (
    JOURNAL,
    PINS,
    Journal,
    Rotation,
    pins_from_text,
)
from spanctl.credentials.rotation.ports import SecretState
from spanctl.errors import ConflictError


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationResult:
    """What a rotator did.

    Attributes:
        ending: How it ended.
        version: The version that it promoted; None when it promoted none.
        current: The version that is current now.
        steps: What it did, in order, for people.
        until: When the next step on old versions is due; None when none is left.
    """

    ending: Ending
    version: int | None
    current: int | None
    steps: tuple[str, ...]
    until: datetime | None


def seen_of(state: SecretState) -> Seen:
    """Return what a rotation sees of a secret.

    Raises:
        ConfigurationError: An annotation of ours is damaged.
    """
    return Seen(
        Journal.from_text(state.annotations.get(JOURNAL)),
        tuple(sorted(state.aliases.items())),
        pins_from_text(state.annotations.get(PINS)),
    )


def blocked(name: SecretName, rotation: Rotation) -> ConflictError:
    """Return the error that says who is at it."""
    msg = f"{rotation.who} is rotating {name} ({rotation.phase.value})"
    hint = f"wait for it; if it is dead, run after {rotation.until:%H:%M:%SZ}: "
    return ConflictError(
        msg, hint=f"{hint}spanctl creds rotate --resume", rotation_id=rotation.rotation_id
    )
