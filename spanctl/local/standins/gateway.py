"""The gateway in front of the Spanner emulator: live bearer tokens only, and readers don't write.

It forwards bytes. A request is looked into, with Google's own types, only if the caller may not
write.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from spanctl.local.standins import spannerrules
from spanctl.local.standins.policy import Policy
from spanctl.local.standins.status import RefusedError, Status
from spanctl.local.standins.tokens import Principal, Tokens

HOST: Final = "spanner.googleapis.com"
OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),  # a taken port is refused
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
"""For the gateway's server and for its channel to the emulator."""
DOOR: Final = (
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
)
"""For servers that everybody on the machine reaches: who says nothing there doesn't stay."""

_log = logging.getLogger(__name__)
_NOT_FORWARDED: Final = {"authorization", "user-agent", "te", "content-type"}
_PREFIX: Final = "google-cloud-resource-prefix"


class Gateway(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no annotations
    """Admits or refuses each RPC, and forwards what it admits to the emulator."""

    def __init__(self, tokens: Tokens, policy: Policy, emulator: grpc.aio.Channel) -> None:
        """Ask these about tokens and roles; forward to this channel."""
        self._tokens = tokens
        self._policy = policy
        self._emulator = emulator
        self._calls: dict[str, Callable[..., Any]] = {}
        self._snapshots = spannerrules.Snapshots()
        self._loaded = False

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return how an RPC is answered; gRPC asks for each one."""
        method: str = handler_call_details.method

        async def single(asked: AsyncIterator[bytes], context: Any) -> bytes:  # noqa: ANN401 - gRPC's
            return await self._single(method, asked, context)

        async def stream(asked: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - gRPC's
            async for part in self._stream(method, asked, context):
                yield part

        # As streams of one request: else gRPC would wait for it, whatever its size, before we are
        # asked whether the caller is let in.
        if method in spannerrules.STREAMS:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.stream_unary_rpc_method_handler(single)

    async def _single(self, method: str, asked: AsyncIterator[bytes], context: Any) -> bytes:  # noqa: ANN401 - gRPC's
        who, may_write, data = await self._admit(method, asked, context)
        if method == spannerrules.TEST_PERMISSIONS:
            return self._tested(data, who)
        call = self._forward(method, data, context)
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            await _fail(context, error)
        context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        if not may_write:
            self._snapshots.learn(method, data, answer)
        return answer

    async def _stream(
        self,
        method: str,
        asked: AsyncIterator[bytes],
        context: Any,  # noqa: ANN401 - gRPC's
    ) -> AsyncIterator[bytes]:
        _, may_write, data = await self._admit(method, asked, context)
        call = self._forward(method, data, context)
        learnt = may_write
        try:
            async for part in call:
                if not learnt:  # the first part tells the transaction
                    self._snapshots.learn(method, data, part)
                    learnt = True
                yield part
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            await _fail(context, error)

    def _forward(self, method: str, data: bytes, context: Any) -> Any:  # noqa: ANN401 - gRPC's
        send = self._calls.get(method)
        if send is None:
            is_stream = method in spannerrules.STREAMS
            make = self._emulator.unary_stream if is_stream else self._emulator.unary_unary
            send = self._calls[method] = make(method)
        metadata = tuple(
            (key, value)
            for key, value in context.invocation_metadata()
            if key not in _NOT_FORWARDED and not key.startswith("grpc-")
        )
        return send(data, metadata=metadata, timeout=context.time_remaining())

    async def _admit(
        self,
        method: str,
        asked: AsyncIterator[bytes],
        context: Any,  # noqa: ANN401 - gRPC's
    ) -> tuple[Principal, bool, bytes]:
        """Return who calls, whether they may write, and the request; or end the RPC."""
        metadata = dict(context.invocation_metadata())
        try:
            self._tokens.admit(metadata.get("authorization"), HOST)
            data = await anext(asked, b"")
            # Once more: the request may come long after the token was looked at.
            who = self._tokens.admit(metadata.get("authorization"), HOST)
            may_write = self._allowed(who, spannerrules.WRITE)
            self._require(who, spannerrules.permission(method), metadata)
            if not may_write:
                await self._load()
                if more := self._snapshots.needed(method, data):
                    self._require(who, more, metadata)
        except RefusedError as error:
            _log.info("%s: %s", method.rpartition("/")[2], error.status)
            await context.abort(grpc.StatusCode[error.status.value], error.message)
            raise  # not reached: abort raises
        return who, may_write, data

    async def _load(self) -> None:
        if not self._loaded:
            await asyncio.to_thread(spannerrules.load)
            self._loaded = True

    def _allowed(self, who: Principal, permission: str) -> bool:
        return self._policy.allowed(who.member, permission, self._policy.project)

    def _require(self, who: Principal, permission: str, metadata: dict[str, Any]) -> None:
        if permission != spannerrules.PUBLIC and not self._allowed(who, permission):
            resource = metadata.get(_PREFIX, self._policy.project)
            msg = f"Caller is missing IAM permission {permission} on resource {resource}."
            raise RefusedError(Status.PERMISSION_DENIED, msg)

    def _tested(self, data: bytes, who: Principal) -> bytes:
        """Answer in place of the emulator, which has no IAM."""
        from google.iam.v1 import iam_policy_pb2

        asked = iam_policy_pb2.TestIamPermissionsRequest.FromString(data).permissions
        held = [permission for permission in asked if self._allowed(who, permission)]
        told: bytes = iam_policy_pb2.TestIamPermissionsResponse(
            permissions=held
        ).SerializeToString()
        return told


async def _fail(context: Any, error: grpc.aio.AioRpcError) -> NoReturn:  # noqa: ANN401 - gRPC's
    trailing = tuple(error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", trailing)
    raise error  # not reached: abort raises
