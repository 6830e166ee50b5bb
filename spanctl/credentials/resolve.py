"""From a reference to credentials that Google's clients can use, and that stay alive."""

import os
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.hardening import harden
from spanctl.credentials.http import Http
from spanctl.credentials.iam import LONGEST
from spanctl.credentials.live import LiveCredentials, TokenSource
from spanctl.credentials.redact import REDACTOR
from spanctl.credentials.secret import Secret
from spanctl.credentials.sources import (
    ChainSource,
    DefaultSource,
    ImpersonationSource,
)
from spanctl.errors import UsageError
from spanctl.references import (
    ChainReference,
    CredentialReference,
    DefaultReference,
    ImpersonationReference,
    SecretReference,
    SingleReference,
    parse_reader,
    parse_reference,
)

if TYPE_CHECKING:
    from spanctl.credentials.store import GoogleSecretStore

__all__ = ["LiveCredentials", "read_secret", "resolve", "resolve_store", "shared"]


def resolve(
    reference: CredentialReference | str,
    endpoints: Endpoints | None = None,
    *,
    reader: SingleReference | None = None,
    lifetime: timedelta = LONGEST,
) -> LiveCredentials:
    """Return credentials for a reference; nothing is sent before they are used.

    They are fetched again before they expire. The process is hardened first (see
    :mod:`spanctl.credentials.hardening`). A server's UNAUTHENTICATED is answered by
    :meth:`~spanctl.credentials.live.LiveCredentials.renew` and one more send.

    Args:
        reference: The reference, or its text.
        endpoints: Where Google's identity services are; the real ones when left out.
        reader: What secrets are read with; application default credentials when left out.
        lifetime: How long tokens that are minted by impersonation live.

    Raises:
        UsageError: The text is no reference.
    """
    harden()  # before this process holds anything
    where = endpoints or Endpoints()
    parsed = parse_reference(reference) if isinstance(reference, str) else reference
    source = _source(parsed, where, reader or DefaultReference(), lifetime)
    return LiveCredentials(source, Http(where), where.universe)


@lru_cache(maxsize=64)
def shared(reference: str, endpoints: Endpoints, reader: str) -> LiveCredentials:
    """Return this process's one set of credentials for a reference, and so one token for all.

    Args:
        reference: The reference's text.
        endpoints: Where Google's identity services are.
        reader: Reference to what secrets are read with.

    Raises:
        UsageError: A text is no reference.
    """
    return resolve(reference, endpoints, reader=parse_reader(reader))


# A forked child must not wait for a lock that a thread of its parent held.
os.register_at_fork(after_in_child=shared.cache_clear)


def resolve_store(
    reference: CredentialReference | str, endpoints: Endpoints | None = None
) -> "GoogleSecretStore":
    """Return Secret Manager as the credentials of a reference reach it.

    Raises:
        UsageError: The text is no reference.
    """
    from spanctl.credentials.store import GoogleSecretStore  # Google's client takes a while

    where = endpoints or Endpoints()
    return GoogleSecretStore(where, resolve(reference, where))


def _source(
    reference: CredentialReference,
    endpoints: Endpoints,
    reader: SingleReference,
    lifetime: timedelta = LONGEST,
) -> TokenSource:
    match reference:
        case DefaultReference():
            return DefaultSource(endpoints)
        case SecretReference():
            if isinstance(reader, SecretReference):
                msg = "what secrets are read with can't be in a secret itself"
                raise UsageError(msg, hint="read them with adc, or impersonate:EMAIL")
            from spanctl.credentials.secretsource import SecretSource

            return SecretSource(resolve_store(reader, endpoints), reference, endpoints)
        case ImpersonationReference(target, delegates, base):
            origin = _source(base, endpoints, reader)
            return ImpersonationSource(endpoints, origin, target, delegates, lifetime=lifetime)
        case ChainReference(members):
            return ChainSource(
                [(str(one), _source(one, endpoints, reader, lifetime)) for one in members]
            )


def read_secret(
    reference: SecretReference,
    endpoints: Endpoints | None = None,
    *,
    reader: SingleReference | None = None,
) -> Secret:
    """Return a secret's payload as it is, such as Prefect's API key; its checksum is verified.

    Args:
        reference: The secret and its alias or version.
        endpoints: Where Google's identity services are; the real ones when left out.
        reader: What it is read with; application default credentials when left out.

    Raises:
        NotFoundError: There is no such secret or version.
        NotPermittedError: A role is missing.
        UnreachableError: Secret Manager did not answer.
        VersionStateError: The version is disabled or destroyed.
        VerificationError: The payload arrived damaged.
    """
    store = resolve_store(reader or DefaultReference(), endpoints)
    try:
        version = reference.number if reference.number is not None else reference.version
        material = store.access(reference.name, version).material
    finally:
        store.close()
    REDACTOR.learn(material.reveal(), lasting=True)
    return material
