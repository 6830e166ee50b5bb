"""The secrets of a project that hold credentials: made, and found again."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.api_core import exceptions
from google.cloud.secretmanager_v1 import SecretManagerServiceClient

from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.journal import JOURNAL
from spanctl.credentials.store import open_client
from spanctl.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
)
from spanctl.exchanges import sending

MINTS: Final = "spanctl-mints"
"""Annotation that says, as a credential reference, whose tokens a rotation mints."""

_LABEL: Final = "spanctl"
_CREDENTIAL: Final = "credential"
_PAGE: Final = 1000


class SecretInventory:
    """The secrets that spanctl looks after; connects at the first use."""

    def __init__(
        self, endpoints: Endpoints, credentials: LiveCredentials, *, timeout: float = 10.0
    ) -> None:
        """Remember where they are; nothing is sent yet.

        Args:
            endpoints: Where Secret Manager is.
            credentials: What to authenticate with.
            timeout: Seconds that one RPC may take.
        """
        self._endpoints = endpoints
        self._credentials = credentials
        self._timeout = timeout

    def create(self, name: SecretName, annotations: Mapping[str, str]) -> None:
        """Make a secret without a version, labelled as a credential.

        Raises:
            ConflictError: There is such a secret already.
            NotPermittedError: Making secrets is not permitted.
            NotFoundError: There is no such project.
            UnreachableError: No answer came; the secret may have been made.
        """
        request = {
            "parent": name.parent,
            "secret_id": name.secret,
            "secret": {
                # A regional secret stays where it is.
                **({} if name.location else {"replication": {"automatic": {}}}),
                "labels": {_LABEL: _CREDENTIAL},
                "annotations": dict(annotations),
            },
        }
        what, location = f"secret {name}", name.location
        self._send(lambda client, **how: client.create_secret(request, **how), what, location)

    def names(self, project: str) -> tuple[SecretName, ...]:
        """Return the secrets that hold credentials, by name.

        Raises:
            NotPermittedError: Listing secrets is not permitted.
            NotFoundError: There is no such project.
            UnreachableError: No answer came.
        """
        request = {"parent": f"projects/{project}", "page_size": _PAGE}

        def every(client: SecretManagerServiceClient, **how: Any) -> list[str]:  # noqa: ANN401 - Google's
            # Google answers with the project's number in place of its id.
            return [
                secret.name.rpartition("/")[2]
                for secret in client.list_secrets(request, **how)
                if secret.labels.get(_LABEL) == _CREDENTIAL or JOURNAL in secret.annotations
            ]

        found = self._send(every, f"project {project}")
        return tuple(SecretName(project, one) for one in sorted(found))

    def _send(self, send: Callable[..., Any], what: str, location: str | None = None) -> Any:  # noqa: ANN401 - Google's
        """Connect, send once, and close; once more when the token was not accepted."""
        token = self._credentials.ensure()
        host = self._endpoints.secretmanager_of(location)
        how = {"retry": None, "timeout": self._timeout}
        with open_client(self._endpoints, self._credentials, host) as client:
            try:
                with sending("secretmanager", "secrets", host):
                    return send(client, **how)
            except exceptions.Unauthenticated:
                self._credentials.renew(token)
            except exceptions.GoogleAPICallError as error:
                raise self._told(error, what, host) from None
            try:
                return send(client, **how)
            except exceptions.GoogleAPICallError as error:
                raise self._told(error, what, host) from None

    def _told(self, error: exceptions.GoogleAPICallError, what: str, host: str) -> SpanctlError:
        match error:
            case exceptions.AlreadyExists():
                msg = f"there is a {what} already"
                return ConflictError(msg, hint="to renew what is in it: spanctl creds rotate NAME")
            case exceptions.NotFound():
                return NotFoundError(f"there is no {what}", hint="check: spanctl context show")
            case exceptions.PermissionDenied() | exceptions.Unauthenticated():
                msg = f"Secret Manager at {host} refused the credentials for {what}"
                return NotPermittedError(msg, hint="see who you are: spanctl creds whoami")
            case exceptions.InvalidArgument() | exceptions.FailedPrecondition():
                msg = f"Secret Manager at {host} refused the request for {what}"
                return ConfigurationError(msg, hint="check the name: spanctl context show")
            case _:
                msg = f"Secret Manager at {host} did not answer for {what}"
                return UnreachableError(msg, hint="check the network, or: spanctl local status")
