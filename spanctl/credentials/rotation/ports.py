"""What a rotation needs from the outside: a store of secrets, a mint, and a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from spanctl.credentials.document import CredentialDocument
from spanctl.credentials.reference import SecretName
from spanctl.credentials.secret import Secret
from spanctl.errors import ConflictError


class EtagConflictError(ConflictError):
    """The secret was changed by somebody else since it was read: nothing was written (exit 6)."""

    code = "etag_conflict"


class VersionStateError(ConflictError):
    """The version is disabled or destroyed (exit 6)."""

    code = "version_state"


class VersionState(StrEnum):
    """The state of a secret's version."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class SecretState:
    """A secret as it was read once, without its payloads.

    Attributes:
        aliases: Alias to version number.
        annotations: Its annotations.
        etag: What a write on top of it must quote.
    """

    aliases: Mapping[str, int] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version, without its payload.

    Attributes:
        number: Its number.
        state: Its state.
        created: When it was added.
    """

    number: int
    state: VersionState
    created: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """A version's payload, its checksum verified.

    Attributes:
        number: The number of the version that was served.
        material: The payload.
    """

    number: int
    material: Secret


class SecretStore(Protocol):
    """Secret Manager, as far as it is used.

    Every method raises ``NotFoundError``, ``NotPermittedError``, or ``UnreachableError`` when no
    answer came; after the latter a write may or may not have been done.
    """

    def get(self, name: SecretName) -> SecretState:
        """Read a secret."""
        ...

    def update(
        self,
        name: SecretName,
        *,
        aliases: Mapping[str, int],
        annotations: Mapping[str, str],
        etag: str,
    ) -> SecretState:
        """Replace aliases and annotations together, if the etag is still the stored one.

        Raises:
            EtagConflictError: It isn't; nothing was written.
        """
        ...

    def add(self, name: SecretName, material: Secret) -> int:
        """Add a version, sent once, and return its number."""
        ...

    def access(self, name: SecretName, version: int | str) -> Payload:
        """Read a version's payload, by number or alias.

        Raises:
            VersionStateError: It is disabled or destroyed.
            VerificationError: The payload doesn't fit its checksum.
        """
        ...

    def versions(self, name: SecretName) -> tuple[VersionInfo, ...]:
        """List a secret's versions, newest first."""
        ...

    def disable(self, name: SecretName, number: int) -> None:
        """Disable a version; one that is disabled or destroyed already is left."""
        ...

    def destroy(self, name: SecretName, number: int) -> None:
        """Destroy a version, after the secret's own delay if it has one; done twice is done."""
        ...


class Minter(Protocol):
    """Makes credentials of one kind, and ends the service-account keys that it made."""

    def mint(self) -> CredentialDocument:
        """Make a new credential."""
        ...

    def key_of(self, document: CredentialDocument) -> str:
        """Return the name of the service-account key in a document; empty when it has none."""
        ...

    def disable_key(self, key: str) -> None:
        """Switch a key off; one that is gone is left."""
        ...

    def delete_key(self, key: str) -> None:
        """Delete a key; one that is gone is left."""
        ...


class Tester(Protocol):
    """Tries a credential against what it is for."""

    def test(self, document: CredentialDocument) -> None:
        """Connect to Spanner with it, read, and check permissions.

        Raises:
            NotPermittedError: It is not let in.
            UnreachableError: No answer came: that says nothing of the credential.
        """
        ...
