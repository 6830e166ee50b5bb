"""How a secret's credential stands: versions, expiry, pins, and who is rotating it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

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
    Stage,
)
from spanctl.credentials.rotation.owner import is_gone
from spanctl.credentials.rotation.ports import SecretStore, VersionInfo, VersionStateError
from spanctl.errors import (
    ConfigurationError,
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    VerificationError,
)

BEFORE: Final = "spanctl-rotate-before"
"""Annotation: how long before its expiry a credential is due, such as ``10m``."""

EVERY: Final = "spanctl-rotate-every"
"""Annotation: at what age a credential is due, such as ``30d``."""

SOON: Final = timedelta(minutes=15)
"""How long before its expiry a credential is due, unless :data:`BEFORE` says otherwise."""

OLD: Final = timedelta(days=90)
"""At what age a service-account key is due, unless :data:`EVERY` says otherwise."""

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


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
        minted_by: Who is said to have minted it.
        delegates: Service accounts between that one and the principal, nearest to it first.
        scopes: OAuth scopes of an access token.
        expiry: When it expires; None when it doesn't by itself.
        problem: Why the current version can't be used; empty when it can.
        trouble: The kind of that problem; None when there is none.
        aliases: Alias to version number.
        annotations: The secret's annotations.
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
    minted_by: str | None
    delegates: tuple[str, ...]
    scopes: tuple[str, ...]
    expiry: datetime | None
    problem: str
    trouble: CredentialState | None
    aliases: Mapping[str, int]
    annotations: Mapping[str, str]
    versions: tuple[VersionInfo, ...]
    rotation: Rotation | None
    abandoned: bool
    retirees: tuple[Retiree, ...]
    pins: tuple[Pin, ...]
    history: tuple[Done, ...]

    @property
    def state(self) -> CredentialState:
        """How it is, at a glance."""
        if self.rotation is not None and self.trouble is not CredentialState.EXPIRED:
            return CredentialState.ABANDONED if self.abandoned else CredentialState.ROTATING
        if self.trouble is not None:
            return self.trouble
        return CredentialState.DUE if self._age() else CredentialState.OK

    @property
    def is_key(self) -> bool:
        """Whether it holds a service-account key, which works for whoever has it."""
        return self.kind is DocumentKind.SERVICE_ACCOUNT_KEY

    def is_due(self, margin: timedelta | None = None) -> bool:
        """Tell whether a rotation should be made or ended now.

        Args:
            margin: How long before its expiry a credential is replaced, over what is annotated.
        """
        return bool(self.why_due(margin))

    def why_due(self, margin: timedelta | None = None) -> str:
        """Say why a rotation should be made or ended now; empty when none should.

        Args:
            margin: How long before its expiry a credential is replaced, over what is annotated.

        Raises:
            ConfigurationError: An annotation that says when is none.
        """
        if self.rotation is not None:
            return f"{self.rotation.who} left a rotation behind" if self.abandoned else ""
        if self.problem:
            return self.problem
        return self._age(margin) or ("old versions are to be ended" if self.has_old else "")

    @property
    def expires_soon(self) -> bool:
        """Whether its expiry, or the age at which it is replaced, has come near."""
        return bool(self._age())

    @property
    def has_old(self) -> bool:
        """Whether an old version, that nothing pins, is to be disabled or destroyed now."""
        pinned = {pin.version for pin in self.pins}
        return any(
            one.after <= now() and (one.stage is not Stage.WAITING or one.version not in pinned)
            for one in self.retirees
        )

    def _age(self, margin: timedelta | None = None) -> str:
        before = margin if margin is not None else self._annotated(BEFORE) or SOON
        if self.expiry is not None and self.expiry - before <= now():
            return f"it expires at {self.expiry:%Y-%m-%dT%H:%M:%SZ}"
        every = self._annotated(EVERY) or (OLD if self.is_key else None)
        made = next((one.created for one in self.versions if one.number == self.current), None)
        if every is not None and made is not None and made + every <= now():
            return f"it was made at {made:%Y-%m-%dT%H:%M:%SZ}"
        return ""

    def _annotated(self, name: str) -> timedelta | None:
        text = self.annotations.get(name)
        if text is None:
            return None
        found = _SPAN.fullmatch(text)
        if found is None:
            msg = f"the annotation {name} of {self.name} is no length of time"
            raise ConfigurationError(msg, hint="write it as 30d, 12h or 10m")
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


def read_status(store: SecretStore, name: SecretName) -> SecretStatus:
    """Read how a secret's credential stands.

    Raises:
        NotFoundError: There is no such secret.
        NotPermittedError: The secret may not be looked at; that it may not be read is a state.
        UnreachableError: Secret Manager did not answer.
        ConfigurationError: The journal in the secret is damaged.
    """
    state = store.get(name)
    seen = seen_of(state)
    aliases = dict(seen.aliases)
    current = aliases.get(CURRENT)
    document, problem, trouble = _document(store, name, current)
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
        minted_by=document.minted_by if document else None,
        delegates=document.delegates if document else (),
        scopes=document.scopes if document else (),
        expiry=document.expiry if document else None,
        problem=problem,
        trouble=trouble,
        aliases=aliases,
        annotations=state.annotations,
        versions=store.versions(name),
        rotation=rotation,
        abandoned=gone,
        retirees=seen.journal.retirees,
        pins=tuple(pin for pin in seen.pins if now() < pin.until),
        history=seen.journal.history,
    )


def _document(
    store: SecretStore, name: SecretName, current: int | None
) -> tuple[CredentialDocument | None, str, CredentialState | None]:
    """Return the current document, or why it can't be used."""
    if current is None:
        return None, "no version is current", CredentialState.MISSING
    problem: SpanctlError
    try:
        document = parse_document(store.access(name, current).material)
    except NotPermittedError as error:
        problem = error
        return None, problem.message, CredentialState.UNREADABLE
    except (ConfigurationError, NotFoundError, VersionStateError, VerificationError) as error:
        problem = error
        return None, problem.message, CredentialState.BROKEN
    if document.expiry is not None and document.expiry <= now():
        why = f"it expired at {document.expiry:%Y-%m-%dT%H:%M:%SZ}"
        return document, why, CredentialState.EXPIRED
    return document, "", None
