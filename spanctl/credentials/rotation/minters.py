"""Mints for rotations: short-lived tokens by impersonation, and service-account keys."""

from collections.abc import Sequence
from datetime import timedelta

from spanctl.credentials import iam
from spanctl.credentials.document import (
    CredentialDocument,
    DocumentKind,
    access_token_document,
)
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.live import LiveCredentials
from spanctl.errors import ConfigurationError


class _Keys:
    """Ends service-account keys."""

    def __init__(self, endpoints: Endpoints, credentials: LiveCredentials) -> None:
        self._endpoints = endpoints
        self._credentials = credentials
        self._http = Http(endpoints)

    def _base(self) -> iam.AccessToken:
        self._credentials.ensure()
        base = self._credentials.live
        if base is None:
            msg = "the rotator has no credentials"
            raise ConfigurationError(msg)
        return base

    def key_of(self, document: CredentialDocument) -> str:
        """Return the name of the service-account key in a document; empty when it has none."""
        if document.kind is not DocumentKind.SERVICE_ACCOUNT_KEY:
            return ""
        return iam.key_name(document.principal or "", document.key_id or "")

    def disable_key(self, key: str) -> None:
        """Switch a key off; one that is gone is left."""
        iam.disable_key(self._http, self._endpoints, self._base(), key)

    def delete_key(self, key: str) -> None:
        """Delete a key; one that is gone is left."""
        iam.delete_key(self._http, self._endpoints, self._base(), key)


class TokenMinter(_Keys):
    """Mints access tokens of a service account that the rotator may act as."""

    def __init__(  # noqa: PLR0913 - what a token is made of
        self,
        endpoints: Endpoints,
        credentials: LiveCredentials,
        target: str,
        *,
        delegates: Sequence[str] = (),
        scopes: Sequence[str] = iam.SCOPES,
        lifetime: timedelta = iam.LONGEST,
    ) -> None:
        """Take the rotator's credentials, the target, and what tokens are for."""
        super().__init__(endpoints, credentials)
        self._target = target
        self._delegates = tuple(delegates)
        self._scopes = tuple(scopes)
        self._lifetime = lifetime

    def mint(self) -> CredentialDocument:
        """Mint a token.

        Raises:
            NotPermittedError: The rotator may not act as the target.
            UnreachableError: IAM did not answer.
        """
        base = self._base()
        minted = iam.impersonate(
            self._http,
            self._endpoints,
            base,
            self._target,
            delegates=self._delegates,
            scopes=self._scopes,
            lifetime=self._lifetime,
        )
        return access_token_document(
            minted.token,
            principal=self._target,
            expiry=minted.expiry,
            scopes=self._scopes,
            delegates=self._delegates,
            minted_by=base.principal,
        )


class KeyMinter(_Keys):
    """Makes service-account keys: they live until they are deleted, so tokens are better."""

    def __init__(self, endpoints: Endpoints, credentials: LiveCredentials, target: str) -> None:
        """Take the rotator's credentials and the service account."""
        super().__init__(endpoints, credentials)
        self._target = target

    def mint(self) -> CredentialDocument:
        """Make a key.

        A process that is killed before it could journal the key's name leaves a key that nobody
        has: nothing can tell it from other people's, so it is never deleted by guess.

        Raises:
            NotPermittedError: The rotator may not make keys of that account.
            UnreachableError: IAM did not answer; a key may have been made.
            ConfigurationError: The account has its ten keys.
        """
        return iam.create_key(self._http, self._endpoints, self._base(), self._target)
