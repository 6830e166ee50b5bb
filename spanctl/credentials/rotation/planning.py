"""Who mints for a secret, and how a rotation that did not succeed is told."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.inventory import MINTS
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import ImpersonationReference, parse_reference
from spanctl.credentials.rotation.actions import Ending
from spanctl.credentials.rotation.driver import Rotator
from spanctl.credentials.rotation.minters import KeyMinter, TokenMinter
from spanctl.credentials.rotation.ports import Minter, SecretStore, Tester
from spanctl.credentials.rotation.results import RotationResult
from spanctl.credentials.rotation.status import SecretStatus
from spanctl.errors import (
    ConfigurationError,
    ConflictError,
    SpanctlError,
    UsageError,
    VerificationError,
)
from spanctl.references import SecretName

_KEYS_SETTLE: Final = timedelta(seconds=90)


def rotator_for(  # noqa: PLR0913 - what a rotation works with
    status: SecretStatus,
    *,
    store: SecretStore,
    endpoints: Endpoints,
    credentials: LiveCredentials,
    tester: Tester,
    report: Callable[[str], None],
) -> Rotator:
    """Return who rotates a secret, with the mint that fits what is in it.

    Raises:
        ConflictError: The secret doesn't say whose credential it holds, or holds nothing secret.
        ConfigurationError: Its annotation doesn't say whom to mint for.
    """
    minter = minter_for(status, endpoints, credentials)
    return Rotator(
        store=store,
        name=status.name,
        minter=minter,
        tester=tester,
        settle=_KEYS_SETTLE if isinstance(minter, KeyMinter) else timedelta(0),
        report=report,
    )


def minter_for(status: SecretStatus, endpoints: Endpoints, credentials: LiveCredentials) -> Minter:
    """Return the mint for a secret: the one it was created with, else the one of what is in it.

    Raises:
        ConflictError: The secret doesn't say whose credential it holds, or holds nothing secret.
        ConfigurationError: Its annotation doesn't say whom to mint for.
    """
    said = minted_for(status)
    if said is not None:
        if status.principal not in {None, said.target}:
            msg = f"{status.name} holds a credential of {status.principal}"
            msg += f" and would get one of {said.target}"
            raise ConflictError(msg, hint="correct the secret's annotation spanctl-mints")
        return TokenMinter(endpoints, credentials, said.target, delegates=said.delegates)
    if status.kind is not None and status.kind.is_keyless:
        msg = f"a document of type {status.kind} holds no secret that could be rotated"
        raise ConflictError(msg, hint="it is renewed by itself whenever it is used")
    if status.principal is None:
        msg = f"nothing says whose credential {status.name} holds"
        raise ConflictError(msg, hint="make another: spanctl creds create NAME --impersonate EMAIL")
    if status.is_key:
        return KeyMinter(endpoints, credentials, status.principal)
    return TokenMinter(
        endpoints,
        credentials,
        status.principal,
        delegates=status.delegates,
        scopes=status.scopes,
    )


def minted_for(status: SecretStatus) -> ImpersonationReference | None:
    """Return whom the secret says that its tokens are minted for, None when it doesn't say.

    Raises:
        ConfigurationError: What it says is no such reference.
    """
    text = status.annotations.get(MINTS)
    if not text:
        return None
    try:
        parsed = parse_reference(text)
    except UsageError:
        parsed = None
    if not isinstance(parsed, ImpersonationReference):
        msg = f"the annotation {MINTS} of {status.name} is no impersonate: reference"
        raise ConfigurationError(msg, hint="write impersonate:EMAIL there, or remove it")
    return parsed


def refusal(name: SecretName, result: RotationResult) -> SpanctlError | None:
    """Return the error of a rotation that did not succeed; None for one that did."""
    if result.ending not in {Ending.FAILED, Ending.REFUSED}:
        return None
    why = result.steps[-1] if result.steps else "it was refused"
    kept = f"version {result.current} is current" if result.current else "no version is current"
    if result.ending is Ending.FAILED:
        msg = f"the new credential of {name} was not let in to Spanner; {kept}"
        hint = "check the service account's roles, then rotate again"
        return VerificationError(msg, hint=hint)
    msg = f"{name} was not rotated: {why}; {kept}"
    return ConflictError(msg, hint=f"look: spanctl creds show {name.secret}")
