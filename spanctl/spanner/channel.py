"""Channels to Spanner: plain to an emulator, over TLS with a live bearer token to all else.

The token is put on each RPC by us, just before it is sent: what is wrong with it is then told as
our own error, where gRPC would say UNAVAILABLE; no session or client keeps it; and Google's clients
neither see it nor look anything up with it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import grpc
import grpc.experimental

from spanctl.clock import monotonic
from spanctl.credentials.http import QUOTA_PROJECT
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.secret import Secret
from spanctl.errors import ConfigurationError, SpanctlError
from spanctl.exchanges import Sent, listened
from spanctl.proxies import is_loopback
from spanctl.spanner.cancelling import CancellableChannel

_UNBOUNDED: Final = -1
_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", _UNBOUNDED),
    ("grpc.max_receive_message_length", _UNBOUNDED),
    # A dead peer is found within a minute even when nothing is being sent.
    ("grpc.keepalive_time_ms", 60_000),
    # gRPC's own pause between attempts to connect grows to two minutes, in which every RPC fails.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Streams are read by who asks. With the thread that gRPC would share among them, Ctrl-C in the
    # wrong moment leaves a lock behind, on which every later stream of the channel waits for ever.
    (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
)
COMMIT: Final = "/google.spanner.v1.Spanner/Commit"
GET_SESSION: Final = "/google.spanner.v1.Spanner/GetSession"
DELETE_SESSION: Final = "/google.spanner.v1.Spanner/DeleteSession"
_SIDE_BY_SIDE: Final = frozenset({GET_SESSION, DELETE_SESSION})
"""Sent as streams of one reply, so that several can be under way without a thread."""
_LEAST: Final = 0.001


def plain(host: str) -> grpc.Channel:
    """Open the plain channel that an emulator listens on."""
    return _watched(CancellableChannel(grpc.insecure_channel(host, options=_options(host))), host)


def secure(endpoint: str, credentials: LiveCredentials, ca_file: str | None) -> grpc.Channel:
    """Open a channel over TLS, each RPC on which carries a live token.

    Args:
        endpoint: ``host[:port]``.
        credentials: Where tokens come from.
        ca_file: PEM file of the only roots to trust; None for the system's.

    Raises:
        ConfigurationError: The file can't be read.
    """
    roots = None
    if ca_file:
        try:
            roots = Path(ca_file).read_bytes()
        except OSError as error:
            msg = f"ca_file {ca_file} can't be read: {error.strerror}"
            hint = "run: spanctl local up, or: spanctl context set ca_file=PATH"
            raise ConfigurationError(msg, hint=hint) from error
    # The roots are this channel's: gRPC's variable for them would hold for the whole process.
    tls = grpc.ssl_channel_credentials(roots)
    opened = CancellableChannel(grpc.secure_channel(endpoint, tls, options=_options(endpoint)))
    channel = _watched(opened, endpoint)
    return grpc.intercept_channel(channel, _Bearer(credentials))


def _options(host: str) -> tuple[tuple[str, int], ...]:
    """Return a channel's options; no proxy of the environment leads to this machine."""
    return (*_OPTIONS, ("grpc.enable_http_proxy", 0)) if is_loopback(host) else _OPTIONS


def _watched(channel: grpc.Channel, host: str) -> grpc.Channel:
    """Tell of each RPC, if anybody listens."""
    return grpc.intercept_channel(channel, _Watch(host)) if listened() else channel


class _Details(NamedTuple):
    """What gRPC wants to know of a call: its ``ClientCallDetails``, by their names."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Watch(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]  # grpc ships no annotations
    """Tells of each RPC as it is sent and as it ends; what is in it is not looked at."""

    def __init__(self, host: str) -> None:
        self._host = host

    def _sent(self, details: Any) -> Sent:  # noqa: ANN401 - gRPC's
        names = dict(details.metadata or ())
        resource = names.get("google-cloud-resource-prefix", "")
        target = f"{self._host} {resource}".strip()
        return Sent("spanner", details.method.rpartition("/")[2], target)

    def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        details: Any,  # noqa: ANN401 - gRPC's
        request: Any,  # noqa: ANN401 - gRPC's
    ) -> Any:  # noqa: ANN401 - gRPC's
        """Send, and tell how it ended."""
        sent = self._sent(details)
        call = continuation(details, request)
        sent.ended(call.code().name)
        return call

    def intercept_unary_stream(
        self,
        continuation: Callable[[Any, Any], Any],
        details: Any,  # noqa: ANN401 - gRPC's
        request: Any,  # noqa: ANN401 - gRPC's
    ) -> Any:  # noqa: ANN401 - gRPC's
        """Send, and tell when the stream is over."""
        return _WatchedStream(continuation(details, request), self._sent(details))


class _Stream:
    """A stream in front of a call's; all else is the call's."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - gRPC's
        self._call = call

    def __iter__(self) -> Self:
        """Return itself, as gRPC's calls do."""
        return self

    def __next__(self) -> Any:  # noqa: ANN401 - a message
        """Return the next part."""
        return next(self._call)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - gRPC's
        """Ask the call."""
        return getattr(self._call, name)


class _WatchedStream(_Stream):
    """A stream that tells when it is over."""

    def __init__(self, call: Any, sent: Sent) -> None:  # noqa: ANN401 - gRPC's
        super().__init__(call)
        self._sent = sent

    def __next__(self) -> Any:  # noqa: ANN401 - a message
        """Return the next part."""
        try:
            return super().__next__()
        except (StopIteration, grpc.RpcError):
            self._sent.ended(self._call.code().name)
            raise


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc]  # grpc ships no annotations
    """Puts a live token on each RPC; renews it and sends again when it is not accepted.

    UNAUTHENTICATED says that nothing was done, but for Commit, where it may answer a second send
    of Google's own network: it is passed on, after the token was renewed for whoever sends again.
    """

    def __init__(self, credentials: LiveCredentials) -> None:
        self._credentials = credentials

    def intercept_unary_unary(
        self,
        continuation: Callable[[Any, Any], Any],
        details: Any,  # noqa: ANN401 - gRPC's
        request: Any,  # noqa: ANN401 - gRPC's
    ) -> Any:  # noqa: ANN401 - gRPC's
        """Send, and send again if the token was not accepted."""
        since = monotonic()
        token = self._credentials.ensure()
        call = continuation(self._with(details, token), request)
        if call.code() is not grpc.StatusCode.UNAUTHENTICATED:
            return call
        if details.method == COMMIT:
            self._renew_quietly(token)
            return call
        self._credentials.renew(token)
        return continuation(self._with(details, self._credentials.ensure(), since), request)

    def _renew_quietly(self, token: Secret) -> None:
        try:
            self._credentials.renew(token)
        except SpanctlError:
            return  # who sends again is told by that send

    def intercept_unary_stream(
        self,
        continuation: Callable[[Any, Any], Any],
        details: Any,  # noqa: ANN401 - gRPC's
        request: Any,  # noqa: ANN401 - gRPC's
    ) -> Any:  # noqa: ANN401 - gRPC's
        """Send and wait for the first part; send again if the token was not accepted."""
        if details.method in _SIDE_BY_SIDE and (live := self._credentials.live) is not None:
            return continuation(self._with(details, live.token), request)
        since = monotonic()
        token = self._credentials.ensure()
        call = continuation(self._with(details, token), request)
        try:
            return _Begun(call, next(call))
        except (StopIteration, grpc.RpcError):
            if call.code() is not grpc.StatusCode.UNAUTHENTICATED:
                return call  # tells the same again when it is asked for its parts
        self._credentials.renew(token)
        return continuation(self._with(details, self._credentials.ensure(), since), request)

    def _with(self, details: Any, token: Secret, since: float | None = None) -> _Details:  # noqa: ANN401 - gRPC's
        timeout = details.timeout
        if since is not None and timeout is not None:
            timeout = max(_LEAST, timeout - (monotonic() - since))
        headers = [("authorization", f"Bearer {token.reveal_text()}")]
        if project := self._credentials.quota_project_id:
            headers.append((QUOTA_PROJECT, project))
        return _Details(
            method=details.method,
            timeout=timeout,
            metadata=(*(details.metadata or ()), *headers),
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )


class _Begun(_Stream):
    """A stream whose first part was read."""

    def __init__(self, call: Any, first: Any) -> None:  # noqa: ANN401 - gRPC's
        super().__init__(call)
        self._first = first

    def __next__(self) -> Any:  # noqa: ANN401 - a message
        """Return the next part."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return super().__next__()
