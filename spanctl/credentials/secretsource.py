"""Tokens from the credential document in a secret, through rotations and lagging aliases."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from spanctl.clock import now
from spanctl.credentials.document import parse_document
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.reference import SecretReference
from spanctl.credentials.rotation.ports import Payload, SecretStore, VersionStateError
from spanctl.credentials.secret import Secret
from spanctl.credentials.sources import document_source
from spanctl.errors import NotFoundError, NotPermittedError, SpanctlError, VerificationError

if TYPE_CHECKING:
    from spanctl.credentials.live import TokenSource

_SOON: Final = timedelta(seconds=10)
_READS: Final = 3


class SecretSource:
    """Tokens from the credential document in a secret, whichever version is current."""

    def __init__(
        self, store: SecretStore, reference: SecretReference, endpoints: Endpoints
    ) -> None:
        """Take the store and the reference."""
        self._store = store
        self._reference = reference
        self._endpoints = endpoints
        self._number: int | None = None
        self._source: TokenSource | None = None

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Read the secret again and return a token from it.

        Raises:
            NotPermittedError: The newest version's credential doesn't work.
            NotFoundError: There is no such secret or alias.
            VersionStateError: The version is disabled or destroyed.
            VerificationError: The payload arrived damaged, time after time.
        """
        served: Payload | None = None
        failed: SpanctlError | None = None
        try:
            served = self._served()
            found = self._from(served, http, rejected)
        except (NotPermittedError, NotFoundError, VersionStateError) as error:
            # An alias may lag behind a rotation; the secret itself says which version it names.
            failed = error
        else:
            if found.expiry > now() + _SOON or self._reference.number is not None:
                return found
        newer = self._newer(served.number if served else None)
        if newer is not None:
            return self._from(newer, http, rejected)
        if failed is not None:
            raise failed
        return found

    def _served(self) -> Payload:
        """Access the version by the alias: number and payload come in one answer, and agree."""
        reference = self._reference
        version = reference.version if reference.number is None else reference.number
        return self._access(version)

    def _newer(self, served: int | None) -> Payload | None:
        """Look the alias up in the secret and access by number, if it is another one."""
        if self._reference.number is not None:
            return None
        try:
            state = self._store.get(self._reference.name)
        except NotPermittedError:
            return None  # who may only access payloads has to rely on the alias
        number = state.aliases.get(self._reference.version)
        return None if number is None or number == served else self._access(number)

    def _access(self, version: int | str) -> Payload:
        for _ in range(_READS - 1):
            try:
                return self._store.access(self._reference.name, version)
            except VerificationError:
                continue  # damaged on its way: read it again
        return self._store.access(self._reference.name, version)

    def _from(self, payload: Payload, http: Http, rejected: Secret | None) -> AccessToken:
        if self._source is None or payload.number != self._number:
            document = parse_document(payload.material)
            self._source = document_source(document, self._endpoints)
            self._number = payload.number
        return replace(self._source.fetch(http, rejected), version=payload.number)
