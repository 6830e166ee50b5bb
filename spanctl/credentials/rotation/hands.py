"""What a rotator does outside of the journal: mint, add, look, test, disable, destroy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from spanctl.credentials.crc32c import crc32c
from spanctl.credentials.document import CredentialDocument, parse_document
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.actions import Found, Inspection, Locate
from spanctl.credentials.rotation.ports import (
    Minter,
    SecretStore,
    Tester,
    VersionState,
    VersionStateError,
)
from spanctl.credentials.secret import Secret
from spanctl.errors import (
    ConfigurationError,
    NotFoundError,
    NotPermittedError,
    UnreachableError,
    VerificationError,
)

_READS: Final = 3
_PAUSE: Final = 0.5


@dataclass(slots=True)
class Hands:
    """The actions on one secret; ``_payload`` is the only material that a rotation holds."""

    store: SecretStore
    name: SecretName
    minter: Minter
    tester: Tester
    settle: timedelta
    clock: Callable[[], datetime]
    pause: Callable[[float], None]
    _payload: Secret | None = field(default=None, repr=False)

    def inspect(self, current: int | None) -> Inspection:
        """Learn of the current version; one that can't be used is just replaced."""
        highest = max((found.number for found in self.store.versions(self.name)), default=0)
        if current is None:
            return Inspection(None, highest)
        try:
            document = self._document(current)
        except (ConfigurationError, VersionStateError, VerificationError, NotFoundError):
            return Inspection(current, highest)
        return Inspection(current, highest, self.minter.key_of(document), document.expiry)

    def mint(self) -> tuple[int, str]:
        """Make a credential and keep it; returns its checksum and the key in it."""
        document = self.minter.mint()
        self._payload = document.material
        return crc32c(document.material.reveal()), self.minter.key_of(document)

    def add(self) -> int | None:
        """Send what was minted; returns the version's number, None when no answer came."""
        if self._payload is None:
            msg = "nothing was minted"
            raise ValueError(msg)
        try:
            return self.store.add(self.name, self._payload)
        except UnreachableError:
            self.pause(_PAUSE)
            return None

    def locate(self, look: Locate) -> tuple[Found, ...]:
        """Look for versions by checksum: in the list, and behind its end, for it may lag."""
        listed = self.store.versions(self.name)
        numbers = sorted(
            version.number
            for version in listed
            if version.number > look.base and version.state is VersionState.ENABLED
        )
        found = [self._found(number, look) for number in numbers]
        behind = max((version.number for version in listed), default=look.base) + 1
        while True:
            try:
                found.append(self._found(behind, look))
            except NotFoundError:
                return tuple(one for one in found if one is not None)
            behind += 1

    def _found(self, number: int, look: Locate) -> Found | None:
        try:
            material = self._read(number)
        except (VersionStateError, VerificationError):
            return None
        checksum = crc32c(material.reveal())
        return Found(number, checksum) if checksum in look.checksums else None

    def works(self, version: int) -> bool:
        """Read a version by its number, its checksum verified, and connect with it."""
        deadline = self.clock() + self.settle
        while True:
            try:
                self.tester.test(self._document(version))
            except NotPermittedError:
                if self.clock() >= deadline:
                    return False
                self.pause(_PAUSE)
            except (VersionStateError, VerificationError, ConfigurationError, NotFoundError):
                return False
            else:
                return True

    def disable(self, version: int, key: str) -> None:
        """Disable a version, then the key in it."""
        if version:
            self.store.disable(self.name, version)
        if key:
            self.minter.disable_key(key)

    def destroy(self, version: int, key: str) -> None:
        """Delete the key, then destroy the version that held it."""
        if key:
            self.minter.delete_key(key)
        if version:
            self.store.destroy(self.name, version)

    def _document(self, version: int) -> CredentialDocument:
        return parse_document(self._read(version))

    def _read(self, version: int) -> Secret:
        """Read a payload; one that arrives damaged is read again."""
        for _ in range(_READS - 1):
            try:
                return self.store.access(self.name, version).material
            except VerificationError:
                self.pause(_PAUSE)
        return self.store.access(self.name, version).material
