"""Pins of a flow run: while it runs, no rotation disables the version that it was told by number.

Credentials that follow an alias need none: they take up a new version within its drain.
"""

import threading
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from spanctl.clock import now
from spanctl.errors import NotPermittedError, SpanctlError
from spanctl.references import (
    ChainReference,
    CredentialReference,
    ImpersonationReference,
    SecretReference,
    parse_reference,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanctl.credentials.rotation.ports import SecretStore
    from spanctl.spanner.rpc import Target

LEASE: Final = timedelta(minutes=15)
"""For how long a version is kept after a run was last heard of."""

_RENEWALS: Final = 3


def numbered(reference: CredentialReference) -> tuple[SecretReference, ...]:
    """Return the secrets that a reference names by a version's number."""
    match reference:
        case SecretReference():
            return (reference,) if reference.number is not None else ()
        case ImpersonationReference():
            return numbered(reference.base)
        case ChainReference(members):
            return tuple(found for one in members for found in numbered(one))
        case _:
            return ()


@dataclass
class Pinned:
    """The pins of one run in one process, renewed in the background until they are let go."""

    store: "SecretStore"
    secrets: tuple[SecretReference, ...]
    holder: str
    _over: threading.Event = field(default_factory=threading.Event)

    def hold(self) -> None:
        """Pin every version, and keep it so.

        Raises:
            ConflictError: A version is being disabled, or was.
            NotPermittedError: The run may not write pins (secretmanager.secrets.update).
            UnreachableError: Secret Manager did not answer.
        """
        self._pin()
        threading.Thread(target=self._renew, name="spanctl-pins", daemon=True).start()

    def release(self) -> None:
        """Let go of them; a pin that can't be removed lapses by itself."""
        from spanctl.credentials.rotation.pins import unpin

        self._over.set()
        for one in self.secrets:
            try:
                unpin(self.store, one.name, self.holder)
            except SpanctlError:
                continue  # it lapses

    def _pin(self) -> None:
        from spanctl.credentials.rotation.pins import pin

        for one in self.secrets:
            if one.number is not None and not self._over.is_set():
                pin(self.store, one.name, self.holder, one.number, now() + LEASE)

    def _renew(self) -> None:
        while not self._over.wait(LEASE.total_seconds() / _RENEWALS):
            try:
                self._pin()
            except SpanctlError:
                continue  # the lease is long enough for another try


def hold(target: "Target", run: str, warn: "Callable[[str], None]") -> Pinned | None:
    """Pin what a run's credentials name by number; None when they name nothing so.

    Args:
        target: The database, with the reference to its credentials.
        run: Id of the root flow run.
        warn: Told when the run may not write pins: it goes on without.

    Raises:
        ConflictError: A version is being disabled, or was: the run would lose it.
        UnreachableError: Secret Manager did not answer.
    """
    if target.emulator_host:
        return None
    secrets = numbered(parse_reference(target.credentials))
    if not secrets:
        return None
    from spanctl.credentials.resolve import resolve_store
    from spanctl.references import parse_reader

    store = resolve_store(parse_reader(target.secret_reader), target.identity)
    # Two executors of one flow run must not let go of each other's.
    pinned = Pinned(store, secrets, f"{run}.{uuid.uuid4().hex[:8]}")
    try:
        pinned.hold()
    except NotPermittedError as error:
        warn(f"a rotation may end the run's credentials under it: {error.message}")
        return None
    return pinned
