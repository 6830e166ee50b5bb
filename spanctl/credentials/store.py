"""Secret Manager through Google's client: each RPC sent once, bounded, its checksum verified."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import Credentials
from google.cloud.secretmanager_v1 import (
    AddSecretVersionRequest,
    SecretManagerServiceClient,
    SecretPayload,
    SecretVersion,
    UpdateSecretRequest,
)
from google.cloud.secretmanager_v1 import (
    Secret as SecretResource,
)
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)
from google.protobuf.field_mask_pb2 import FieldMask

from spanctl.credentials import grpccore
from spanctl.credentials.crc32c import crc32c
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.hardening import without_locals
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.ports import (
    EtagConflictError,
    Payload,
    SecretState,
    VersionInfo,
    VersionState,
    VersionStateError,
)
from spanctl.credentials.secret import Secret
from spanctl.errors import (
    ConfigurationError,
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
    VerificationError,
)
from spanctl.exchanges import sending
from spanctl.proxies import is_loopback, spare_loopback

T = TypeVar("T")

_TRIES: Final = 3
_PAUSE: Final = 0.1
_STATES: Final = {
    SecretVersion.State.ENABLED: VersionState.ENABLED,
    SecretVersion.State.DISABLED: VersionState.DISABLED,
    SecretVersion.State.DESTROYED: VersionState.DESTROYED,
}
_REFUSED: Final = (exceptions.FailedPrecondition, exceptions.Aborted)


def open_client(
    endpoints: Endpoints, credentials: Credentials, host: str
) -> SecretManagerServiceClient:
    """Open a client of Secret Manager at a host.

    Args:
        endpoints: Whose roots are trusted, and whose universe it is in.
        credentials: What to authenticate with.
        host: Its ``host[:port]``.
    """
    roots = None
    if endpoints.ca_file:
        # Given to this channel alone: gRPC's variable for it holds for the whole process.
        roots = grpc.ssl_channel_credentials(Path(endpoints.ca_file).read_bytes())
    spare_loopback()  # gRPC looks at the environment when it opens the channel
    transport = SecretManagerServiceGrpcTransport(
        host=host, credentials=credentials, ssl_channel_credentials=roots, channel=_channel
    )
    options = ClientOptions(universe_domain=endpoints.universe)
    return SecretManagerServiceClient(transport=transport, client_options=options)


def _channel(host: str, *, options: Sequence[tuple[str, Any]], **given: Any) -> grpc.Channel:  # noqa: ANN401 - Google's
    """Open a transport's channel; no proxy of the environment leads to this machine."""
    near = [("grpc.enable_http_proxy", 0)] if is_loopback(host) else []
    grpccore.keep()
    create = SecretManagerServiceGrpcTransport.create_channel
    return create(host, options=[*options, *near], **given)


class GoogleSecretStore:
    """Secret Manager; thread-safe, connects at the first use.

    Implements :class:`~spanctl.credentials.rotation.ports.SecretStore`.
    """

    def __init__(
        self, endpoints: Endpoints, credentials: Credentials, *, timeout: float = 10.0
    ) -> None:
        """Remember where it is; nothing is sent yet.

        Args:
            endpoints: Where Secret Manager is.
            credentials: What to authenticate with.
            timeout: Seconds that one RPC may take.
        """
        self._endpoints = endpoints
        self._credentials = credentials
        self._timeout = timeout
        self._opening = threading.RLock()  # who unwinds closes it
        self._opened: dict[str, SecretManagerServiceClient] = {}

    def _client(self, host: str) -> SecretManagerServiceClient:
        with self._opening:
            if host not in self._opened:
                self._opened[host] = open_client(self._endpoints, self._credentials, host)
            return self._opened[host]

    def get(self, name: SecretName) -> SecretState:
        """Read a secret, without any payload."""
        return _state(self._read("get_secret", {"name": str(name)}, f"secret {name}", name))

    def update(
        self,
        name: SecretName,
        *,
        aliases: Mapping[str, int],
        annotations: Mapping[str, str],
        etag: str,
    ) -> SecretState:
        """Replace aliases and annotations together, if the etag is still the stored one."""
        if not etag:
            # Without one, Secret Manager writes whatever is there.
            msg = f"{name} was read without an etag"
            raise VerificationError(msg, hint="nothing was written; report this")
        secret = SecretResource(
            name=str(name),
            version_aliases=dict(aliases),
            annotations=dict(annotations),
            etag=etag,
        )
        mask = FieldMask(paths=["version_aliases", "annotations"])
        request = UpdateSecretRequest(secret=secret, update_mask=mask)
        try:
            return _state(self._send("update_secret", request, name))
        except _REFUSED:
            msg = f"{name} was changed by somebody else meanwhile"
            raise EtagConflictError(msg, hint="try again") from None
        except exceptions.GoogleAPICallError as error:
            raise self._told(error, f"secret {name}", name) from None

    def add(self, name: SecretName, material: Secret) -> int:
        """Add a version, sent once, with its checksum, and return its number."""
        with without_locals():
            return self._add(name, material)

    def _add(self, name: SecretName, material: Secret) -> int:
        data = material.reveal()
        payload = SecretPayload(data=data, data_crc32c=crc32c(data))
        request = AddSecretVersionRequest(parent=str(name), payload=payload)
        try:
            added = self._send("add_secret_version", request, name)
        except exceptions.GoogleAPICallError as error:
            raise self._told(error, f"secret {name}", name) from None
        return _number(added.name)

    def access(self, name: SecretName, version: int | str) -> Payload:
        """Read a version's payload, by number or alias, its checksum verified."""
        with without_locals():
            return self._access(name, version)

    def _access(self, name: SecretName, version: int | str) -> Payload:
        what = f"version {version} of {name}"
        request = {"name": name.version(version)}
        try:
            answer = self._read("access_secret_version", request, what, name)
        except ConfigurationError as error:
            if error.details.get("status") != "FAILED_PRECONDITION":
                raise
            msg = f"{what} is disabled or destroyed"
            raise VersionStateError(msg, hint="run: spanctl creds rotate") from None
        number = _number(answer.name)
        data = answer.payload.data
        if "data_crc32c" not in answer.payload or answer.payload.data_crc32c != crc32c(data):
            msg = f"{what} arrived damaged: it doesn't fit its checksum"
            raise VerificationError(msg, hint="try again; if it stays: spanctl creds rotate")
        if isinstance(version, int) and number != version:
            msg = f"Secret Manager answered with version {number} in place of {what}"
            raise VerificationError(msg, hint="try again")
        return Payload(number, Secret(data))

    def versions(self, name: SecretName) -> tuple[VersionInfo, ...]:
        """List a secret's versions, newest first."""
        request = {"parent": str(name), "page_size": 1000}

        def every() -> tuple[SecretVersion, ...]:
            return tuple(self._send("list_secret_versions", request, name))

        listed = self._retried(every, f"secret {name}", name)
        told = [
            VersionInfo(_number(one.name), _STATES[one.state], one.create_time)
            for one in listed
            if one.state in _STATES
        ]
        return tuple(sorted(told, key=lambda one: one.number, reverse=True))

    def disable(self, name: SecretName, number: int) -> None:
        """Disable a version; one that is disabled or destroyed already is left."""
        self._turn("disable_secret_version", name, number)

    def destroy(self, name: SecretName, number: int) -> None:
        """Destroy a version, after the secret's own delay if it has one; done twice is done."""
        self._turn("destroy_secret_version", name, number)

    def close(self) -> None:
        """Close the channel, if one was opened."""
        with self._opening:
            opened, self._opened = self._opened, {}
        for client in opened.values():
            client.transport.close()

    def _turn(self, method: str, name: SecretName, number: int) -> None:
        what = f"version {number} of {name}"
        try:
            self._read(method, {"name": name.version(number)}, what, name)
        except ConfigurationError as error:
            # A destroyed version has no other state to go to.
            if error.details.get("status") != "FAILED_PRECONDITION":
                raise

    def _read(self, method: str, request: Any, what: str, name: SecretName) -> Any:  # noqa: ANN401 - proto messages
        return self._retried(lambda: self._send(method, request, name), what, name)

    def _retried(self, send: Callable[[], T], what: str, name: SecretName) -> T:
        """Send what may be sent twice, and send it again when no answer came."""
        for attempt in range(1, _TRIES):
            try:
                return send()
            except exceptions.GoogleAPICallError as error:
                told = self._told(error, what, name)
            if not isinstance(told, UnreachableError):
                raise told
            time.sleep(_PAUSE * attempt)
        try:
            return send()
        except exceptions.GoogleAPICallError as error:
            raise self._told(error, what, name) from None

    @without_locals()
    def _send(self, method: str, request: Any, name: SecretName) -> Any:  # noqa: ANN401 - proto messages
        """Send once; again, with renewed credentials, when they were not accepted."""
        host = self._endpoints.secretmanager_of(name.location)
        send = getattr(self._client(host), method)
        live = self._credentials if isinstance(self._credentials, LiveCredentials) else None
        # In the channel its errors would become UNAVAILABLE, and lose what they say.
        used = live.ensure() if live else None
        try:
            with sending("secretmanager", method, host):
                return send(request=request, retry=None, timeout=self._timeout)
        except exceptions.Unauthenticated:
            if live is None or used is None:
                raise
        live.renew(used)
        with sending("secretmanager", method, host):
            return send(request=request, retry=None, timeout=self._timeout)

    def _told(
        self, error: exceptions.GoogleAPICallError, what: str, name: SecretName
    ) -> SpanctlError:
        host = self._endpoints.secretmanager_of(name.location)
        status = str(getattr(error.grpc_status_code, "name", "UNKNOWN"))
        match error:
            case exceptions.NotFound():
                msg = f"there is no {what}"
                return NotFoundError(msg, hint="check the name and the project", status=status)
            case exceptions.PermissionDenied() | exceptions.Unauthenticated():
                msg = f"Secret Manager at {host} refused the credentials for {what}"
                return NotPermittedError(msg, hint="run: spanctl creds check", status=status)
            case exceptions.FailedPrecondition() | exceptions.InvalidArgument():
                msg = f"Secret Manager at {host} answered {status} for {what}"
                return ConfigurationError(msg, hint="check the secret's settings", status=status)
            case _:
                msg = f"Secret Manager at {host} did not answer for {what}"
                return UnreachableError(msg, hint="check the network, or try again", status=status)


def _state(secret: SecretResource) -> SecretState:
    aliases = {str(alias): int(number) for alias, number in secret.version_aliases.items()}
    return SecretState(aliases, dict(secret.annotations), secret.etag)


def _number(name: str) -> int:
    return int(name.rpartition("/")[2])
