"""Secret Manager's gRPC service: Google's own messages over :class:`secretstore.Secrets`.

Google's types take a third of a second to import, so that is put off until the first request.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, TypeVar

from spanctl.local.standins import secretrules
from spanctl.local.standins.policy import Policy
from spanctl.local.standins.secretrows import Secret, State, Version
from spanctl.local.standins.secretstore import Secrets
from spanctl.local.standins.status import RefusedError, Status, denied, invalid
from spanctl.local.standins.switches import Switches
from spanctl.local.standins.tokens import Principal

_T = TypeVar("_T")
_PAGE: Final = 25_000
_IMMUTABLE: Final = {"name", "replication", "create_time", "etag", "tags", "secret_type"}
_FIELDS: Final = {
    "labels": "labels",
    "annotations": "annotations",
    "version_aliases": "aliases",
    "version_destroy_ttl": "destroy_delay",
}
_NOT_MODELLED: Final = (
    "topics",
    "expire_time",
    "ttl",
    "rotation",
    "customer_managed_encryption",
    "tags",
    "secret_type",
)


class SecretManager:
    """The methods of the service: each takes Google's request and returns Google's response."""

    def __init__(self, secrets: Secrets, policy: Policy, project: str, number: str) -> None:
        """Serve these secrets, of the project with this id and this number."""
        self._secrets = secrets
        self._policy = policy
        self._project = project
        self._number = number

    def create_secret(self, request: Any, who: Principal) -> Any:  # noqa: ANN401 - Google's messages, here and below
        """Make a secret; an initial set of aliases is refused, for there is no version yet."""
        self._allow(who, "secretmanager.secrets.create", secretrules.parse(request.parent, depth=1))
        given = request.secret
        self._refuse_unmodelled(given)
        if "automatic" not in given.replication and "user_managed" not in given.replication:
            msg = "The replication field is required."
            raise invalid(msg)
        secretrules.check_aliases(given.version_aliases, newest=0)
        replication = type(given.replication).serialize(given.replication)
        made = self._secrets.create(
            request.secret_id,
            replication,
            dict(given.labels),
            dict(given.annotations),
            _delay(given),
        )
        return self._told(made)

    def get_secret(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Return a secret's metadata."""
        name = self._secret(request.name, who, "secretmanager.secrets.get")
        return self._told(self._secrets.get(name.secret))

    def list_secrets(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Return the secrets of the project, newest first."""
        from google.cloud.secretmanager_v1 import ListSecretsResponse

        self._allow(who, "secretmanager.secrets.list", secretrules.parse(request.parent, depth=1))
        fits = secretrules.compile_filter(request.filter)
        found = [s for s in self._secrets.every() if fits(self._path(s.secret_id), "", s.labels)]
        page, token = _page(found, request.page_size, request.page_token)
        told = [self._told(secret) for secret in page]
        return ListSecretsResponse(secrets=told, next_page_token=token, total_size=len(found))

    def update_secret(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Replace the fields that the mask names, if the etag (when given) is the stored one."""
        given = request.secret
        name = self._secret(given.name, who, "secretmanager.secrets.update")
        paths = list(request.update_mask.paths)
        if not paths:
            msg = "The update_mask is required."
            raise invalid(msg)
        for path in paths:
            if path in _IMMUTABLE:
                msg = f"The field {path} can't be updated."
                raise invalid(msg)
            if path not in _FIELDS:
                self._refuse_field(path)
        values = {
            "labels": dict(given.labels),
            "annotations": dict(given.annotations),
            "version_aliases": dict(given.version_aliases),
            "version_destroy_ttl": _delay(given),
        }
        changes = {_FIELDS[path]: values[path] for path in paths}
        return self._told(self._secrets.update(name.secret, given.etag, changes))

    def delete_secret(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Remove a secret and all its versions."""
        from google.protobuf.empty_pb2 import Empty

        name = self._secret(request.name, who, "secretmanager.secrets.delete")
        self._secrets.delete(name.secret, request.etag)
        return Empty()

    def add_secret_version(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Add a version; a checksum that doesn't fit its payload is refused."""
        name = self._secret(request.parent, who, "secretmanager.versions.add")
        payload = request.payload
        checksum = payload.data_crc32c if "data_crc32c" in payload else None
        return self._told_version(self._secrets.add(name.secret, payload.data, checksum))

    def access_secret_version(self, request: Any, who: Principal, switches: Switches) -> Any:  # noqa: ANN401
        """Return a version's payload with its checksum, under the version's number."""
        from google.cloud.secretmanager_v1 import AccessSecretVersionResponse, SecretPayload

        name = self._version(request.name, who, "secretmanager.versions.access")
        version, data, checksum = self._secrets.access(name.secret, name.version)
        if switches.corrupt:
            data = bytes((data[0] ^ 1,)) + data[1:]
        return AccessSecretVersionResponse(
            name=self._version_path(version),
            payload=SecretPayload(data=data, data_crc32c=checksum),
        )

    def get_secret_version(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Return a version's metadata, by number or alias."""
        name = self._version(request.name, who, "secretmanager.versions.get")
        return self._told_version(self._secrets.version(name.secret, name.version))

    def list_secret_versions(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Return the versions of a secret, newest first."""
        from google.cloud.secretmanager_v1 import ListSecretVersionsResponse

        name = self._secret(request.parent, who, "secretmanager.versions.list")
        fits = secretrules.compile_filter(request.filter)
        versions = self._secrets.versions(name.secret)
        found = [v for v in versions if fits(self._version_path(v), v.state.value, {})]
        page, token = _page(found, request.page_size, request.page_token)
        told = [self._told_version(version) for version in page]
        return ListSecretVersionsResponse(
            versions=told, next_page_token=token, total_size=len(found)
        )

    def enable_secret_version(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Enable a version."""
        return self._change(request, who, "enable", State.ENABLED)

    def disable_secret_version(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Disable a version."""
        return self._change(request, who, "disable", State.DISABLED)

    def destroy_secret_version(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Destroy a version, at once or after the secret's delay."""
        return self._change(request, who, "destroy", State.DESTROYED)

    def get_iam_policy(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Return a secret's own policy."""
        name = self._secret(request.resource, who, "secretmanager.secrets.getIamPolicy")
        return self._told_policy(self._resource(name))

    def set_iam_policy(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Replace a secret's own policy, if the etag (when given) is the stored one's."""
        name = self._secret(request.resource, who, "secretmanager.secrets.setIamPolicy")
        resource = self._resource(name)
        self._secrets.get(name.secret)
        given = request.policy
        if given.etag and given.etag != self._told_policy(resource).etag:
            msg = "There were concurrent policy changes. Please retry with exponential backoff."
            raise RefusedError(Status.ABORTED, msg)
        wanted: dict[str, list[str]] = {}
        for binding in given.bindings:
            if binding.HasField("condition"):
                self._refuse_field("condition")
            wanted.setdefault(binding.role, []).extend(binding.members)
        self._policy.replace(resource, wanted)
        return self._told_policy(resource)

    def test_iam_permissions(self, request: Any, who: Principal) -> Any:  # noqa: ANN401
        """Return those of the permissions asked for that the caller has on a secret."""
        from google.iam.v1.iam_policy_pb2 import TestIamPermissionsResponse

        resource = self._resource(self._here(secretrules.parse(request.resource, depth=2)))
        held = [p for p in request.permissions if self._policy.allowed(who.member, p, resource)]
        return TestIamPermissionsResponse(permissions=held)

    def _change(self, request: Any, who: Principal, verb: str, state: State) -> Any:  # noqa: ANN401
        name = self._version(request.name, who, f"secretmanager.versions.{verb}")
        version = self._secrets.set_state(name.secret, name.version, request.etag, state)
        return self._told_version(version)

    def _secret(self, text: str, who: Principal, permission: str) -> secretrules.Name:
        return self._allow(who, permission, secretrules.parse(text, depth=2))

    def _version(self, text: str, who: Principal, permission: str) -> secretrules.Name:
        return self._allow(who, permission, secretrules.parse(text, depth=3))

    def _allow(self, who: Principal, permission: str, name: secretrules.Name) -> secretrules.Name:
        resource = self._resource(self._here(name))
        if not self._policy.allowed(who.member, permission, resource):
            version = f"/versions/{name.version}" if name.version else ""
            raise denied(permission, resource + version)
        return name

    def _here(self, name: secretrules.Name) -> secretrules.Name:
        if name.project not in {self._project, self._number}:
            permission = "resourcemanager.projects.get"
            raise denied(permission, f"projects/{name.project}")
        return name

    def _resource(self, name: secretrules.Name) -> str:
        """Return what policies are bound to."""
        path = f"projects/{self._project}"
        return f"{path}/secrets/{name.secret}" if name.secret else path

    def _path(self, secret_id: str) -> str:
        return f"projects/{self._number}/secrets/{secret_id}"

    def _version_path(self, version: Version) -> str:
        return f"{self._path(version.secret_id)}/versions/{version.number}"

    def _refuse_unmodelled(self, secret: Any) -> None:  # noqa: ANN401
        for name in _NOT_MODELLED:
            if name in secret:
                self._refuse_field(name)

    @staticmethod
    def _refuse_field(name: str) -> None:
        if name not in {*_NOT_MODELLED, "condition"}:
            msg = f"The update_mask names an unknown field: {name[:64]}."
            raise invalid(msg)
        msg = f"The local stand-in does not model {name}."
        raise RefusedError(Status.UNIMPLEMENTED, msg)

    def _told(self, secret: Secret) -> Any:  # noqa: ANN401
        from google.cloud.secretmanager_v1 import Replication
        from google.cloud.secretmanager_v1 import Secret as Message

        return Message(
            name=self._path(secret.secret_id),
            replication=Replication.deserialize(secret.replication),
            create_time=secret.created,
            labels=dict(secret.labels),
            annotations=dict(secret.annotations),
            version_aliases=dict(secret.aliases),
            version_destroy_ttl=secret.destroy_delay,
            etag=secret.etag,
        )

    def _told_version(self, version: Version) -> Any:  # noqa: ANN401
        from google.cloud.secretmanager_v1 import ReplicationStatus, SecretVersion

        return SecretVersion(
            name=self._version_path(version),
            create_time=version.created,
            destroy_time=version.destroyed,
            scheduled_destroy_time=version.scheduled,
            state=getattr(SecretVersion.State, version.state.value),
            etag=version.etag,
            client_specified_payload_checksum=version.checksum_given,
            replication_status=ReplicationStatus(automatic={}),
        )

    def _told_policy(self, resource: str) -> Any:  # noqa: ANN401
        from google.iam.v1.policy_pb2 import Binding, Policy

        bindings = self._policy.bindings(resource)
        etag = hashlib.sha256(repr(bindings).encode()).digest()[:8]
        told = [Binding(role=role, members=members) for role, members in bindings.items()]
        return Policy(version=1, bindings=told, etag=etag)


def _page(found: Sequence[_T], size: int, token: str) -> tuple[Sequence[_T], str]:
    """Return one page of a list, and the token of the next one; empty if it is the last."""
    if size < 0:
        msg = "The page_size must not be negative."
        raise invalid(msg)
    try:
        start = int(base64.urlsafe_b64decode(token)) if token else 0
    except ValueError:
        start = -1
    if start < 0:
        msg = "The page_token is invalid."
        raise invalid(msg)
    end = start + min(size or _PAGE, _PAGE)
    following = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(found) else ""
    return found[start:end], following


def _delay(secret: Any) -> timedelta | None:  # noqa: ANN401
    delay: timedelta | None = secret.version_destroy_ttl
    return delay or None
