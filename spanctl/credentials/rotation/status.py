"""How a secret's credential stands: versions, expiry, pins, and who is rotating it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from spanctl.clock import now
from spanctl.credentials.document import CredentialDocument, DocumentKind, parse_document
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.driver import seen_of
from spanctl.credentials.rotation.journal import (
    CURRENT,
    Done,
    Phase,
    Pin,
    Retiree,
    Rotation,
)
from spanctl.credentials.rotation.owner import is_gone
from spanctl.credentials.rotation.ports import SecretStore, VersionInfo, VersionStateError
from spanctl.errors import ConfigurationError, NotFoundError, SpanctlError, VerificationError


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretStatus:
    """A secret as ``spanctl creds list`` and ``show`` tell it; never the material.

    Attributes:
        name: The secret.
        current: The current version's number; None when there is none.
        previous: The previous version's number.
        pending: The number of a version that is being tried.
        kind: Kind of the current credential; None when it can't be read.
        principal: Whose it says it is.
        expiry: When it expires; None when it doesn't by itself.
        problem: Why the current version can't be used; empty when it can.
        versions: Every version, newest first.
        rotation: The rotation under way, None when there is none.
        abandoned: Whether that rotation's process is gone, or its claim has lapsed.
        retirees: Versions on their way out.
        pins: Pins that hold now.
        history: The last rotations, newest last.
    """

    name: SecretName
    current: int | None
    previous: int | None
    pending: int | None
    kind: DocumentKind | None
    principal: str | None
    expiry: datetime | None
    problem: str
    versions: tuple[VersionInfo, ...]
    rotation: Rotation | None
    abandoned: bool
    retirees: tuple[Retiree, ...]
    pins: tuple[Pin, ...]
    history: tuple[Done, ...]

    def is_due(self, margin: timedelta) -> bool:
        """Tell whether a rotation should be made or ended now.

        Args:
            margin: How long before its expiry a credential is replaced.
        """
        expires = self.expiry is not None and self.expiry - margin <= now()
        return bool(self.problem) or expires or (self.rotation is not None and self.abandoned)


def read_status(store: SecretStore, name: SecretName) -> SecretStatus:
    """Read how a secret's credential stands.

    Raises:
        NotFoundError: There is no such secret.
        NotPermittedError: A role is missing.
        UnreachableError: Secret Manager did not answer.
        ConfigurationError: The journal in the secret is damaged.
    """
    seen = seen_of(store.get(name))
    aliases = dict(seen.aliases)
    current = aliases.get(CURRENT)
    document, problem = _document(store, name, current)
    rotation = seen.journal.rotation
    if rotation is not None and rotation.phase is Phase.PROMOTED:
        rotation = None
    gone = rotation is not None and (rotation.until <= now() or is_gone(rotation.owner))
    return SecretStatus(
        name=name,
        current=current,
        previous=aliases.get("previous"),
        pending=aliases.get("pending"),
        kind=document.kind if document else None,
        principal=document.principal if document else None,
        expiry=document.expiry if document else None,
        problem=problem,
        versions=store.versions(name),
        rotation=rotation,
        abandoned=gone,
        retirees=seen.journal.retirees,
        pins=tuple(pin for pin in seen.pins if now() < pin.until),
        history=seen.journal.history,
    )


def _document(
    store: SecretStore, name: SecretName, current: int | None
) -> tuple[CredentialDocument | None, str]:
    """Return the current document, or why it can't be used."""
    if current is None:
        return None, "no version is current"
    try:
        document = parse_document(store.access(name, current).material)
    except (ConfigurationError, NotFoundError, VersionStateError, VerificationError) as error:
        problem: SpanctlError = error
        return None, problem.message
    expired = document.expiry is not None and document.expiry <= now()
    return document, f"it expired at {document.expiry:%Y-%m-%dT%H:%M:%SZ}" if expired else ""
