"""Secret Manager on the wire: bytes in, bytes out, the bearer token checked first."""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from spanctl.local.standins.secrets import SecretManager
from spanctl.local.standins.status import RefusedError, Status, invalid
from spanctl.local.standins.switches import Switches
from spanctl.local.standins.tokens import Principal, Tokens

if TYPE_CHECKING:
    import grpc

SERVICE: Final = "google.cloud.secretmanager.v1.SecretManagerService"
HOST: Final = "secretmanager.googleapis.com"

_log = logging.getLogger(__name__)

Method = Callable[[SecretManager, Any, Principal], Any]

_OWN: Final[dict[str, Method]] = {
    "CreateSecret": SecretManager.create_secret,
    "GetSecret": SecretManager.get_secret,
    "ListSecrets": SecretManager.list_secrets,
    "UpdateSecret": SecretManager.update_secret,
    "DeleteSecret": SecretManager.delete_secret,
    "AddSecretVersion": SecretManager.add_secret_version,
    "GetSecretVersion": SecretManager.get_secret_version,
    "ListSecretVersions": SecretManager.list_secret_versions,
    "EnableSecretVersion": SecretManager.enable_secret_version,
    "DisableSecretVersion": SecretManager.disable_secret_version,
    "DestroySecretVersion": SecretManager.destroy_secret_version,
}
_ACCESS: Final = "AccessSecretVersion"
_POLICY: Final[dict[str, Method]] = {
    "GetIamPolicy": SecretManager.get_iam_policy,
    "SetIamPolicy": SecretManager.set_iam_policy,
    "TestIamPermissions": SecretManager.test_iam_permissions,
}
METHODS: Final = (*_OWN, _ACCESS, *_POLICY)
"""Every RPC that is served, by name."""


def answer(
    method: str, data: bytes, who: Principal, manager: SecretManager, switches: Switches
) -> bytes:
    """Answer one RPC: bytes of Google's request in, bytes of Google's response out.

    Raises:
        RefusedError: It is refused, or its reply is to get lost.
    """
    from google.cloud import secretmanager_v1
    from google.iam.v1 import iam_policy_pb2

    try:
        if method in _POLICY:
            parse = getattr(iam_policy_pb2, f"{method}Request").FromString
        else:
            parse = getattr(secretmanager_v1, f"{method}Request").deserialize
        request = parse(data)
    except ValueError as error:
        msg = "The request can't be read."
        raise invalid(msg) from error
    if method == _ACCESS:
        told = manager.access_secret_version(request, who, switches)
    else:
        told = {**_OWN, **_POLICY}[method](manager, request, who)
    if method in switches.lose:
        msg = "Socket closed"
        raise RefusedError(Status.UNAVAILABLE, msg)
    raw = told if hasattr(told, "SerializeToString") else type(told).pb(told)
    written: bytes = raw.SerializeToString()
    return written


def handlers(
    manager: SecretManager, tokens: Tokens, switches: Callable[[], Switches]
) -> "grpc.GenericRpcHandler":
    """Return the service as a generic handler for a gRPC server with threads."""
    import grpc

    def handler(method: str) -> grpc.RpcMethodHandler:
        def respond(asked: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            metadata = dict(context.invocation_metadata())
            try:
                tokens.admit(metadata.get("authorization"), HOST)
                data = next(asked, b"")
                # Once more: the request may come long after the token was looked at.
                who = tokens.admit(metadata.get("authorization"), HOST)
                told = answer(method, data, who, manager, switches())
            except RefusedError as error:
                _log.info("%s: %s", method, error.status)
                context.abort(grpc.StatusCode[error.status.value], error.message)
            _log.info("%s by %s", method, who.email)
            return told

        # As a stream of one request: else each caller who sends none would hold one of the threads.
        return grpc.stream_unary_rpc_method_handler(respond)

    return grpc.method_handlers_generic_handler(SERVICE, {name: handler(name) for name in METHODS})
