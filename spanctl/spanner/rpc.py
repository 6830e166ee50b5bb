"""The RPCs of Spanner that spanctl sends: each with a deadline, none retried behind our back."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.cloud.spanner_v1.types import (
    BeginTransactionRequest,
    CommitRequest,
    CommitResponse,
    CreateSessionRequest,
    ExecuteSqlRequest,
    PartialResultSet,
    ReadRequest,
    ResultSet,
    RollbackRequest,
    Session,
    Transaction,
)

from spanctl.resources import DatabaseName
from spanctl.settings import Settings

_UNBOUNDED = -1
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _UNBOUNDED),
    ("grpc.max_receive_message_length", _UNBOUNDED),
    # A dead peer is found within a minute even when nothing is being sent.
    ("grpc.keepalive_time_ms", 60_000),
    # gRPC's own pause between attempts to connect grows to two minutes, in which every RPC fails.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a database is and how it is reached; it pickles, and holds no secret.

    Attributes:
        database: The database.
        emulator_host: ``host:port`` of an emulator; None for the real service.
        endpoint: API endpoint of the real service.
    """

    database: DatabaseName
    emulator_host: str | None = None
    endpoint: str = "spanner.googleapis.com"

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the target from resolved settings.

        Raises:
            ConfigurationError: Project, instance or database is unset.
        """
        return cls(
            database=settings.database,
            emulator_host=settings.get("emulator_host"),
            endpoint=settings.require("spanner_endpoint"),
        )

    @property
    def host(self) -> str:
        """The ``host:port`` or endpoint that is talked to."""
        return self.emulator_host or self.endpoint


def status_of(error: BaseException) -> grpc.StatusCode:
    """Return the gRPC status of an error of Google's client; UNKNOWN if it has none."""
    if isinstance(error, GoogleAPICallError) and isinstance(
        error.grpc_status_code, grpc.StatusCode
    ):
        return error.grpc_status_code
    return grpc.StatusCode.UNKNOWN


def insecure_transport(host: str) -> grpc.Channel:
    """Open the plain channel that an emulator listens on."""
    return grpc.insecure_channel(host, options=_CHANNEL_OPTIONS)


class Rpc:
    """Thin, thread-safe calls on one channel.

    Every method sends once, waits at most ``timeout`` seconds and raises
    :class:`~google.api_core.exceptions.GoogleAPICallError` as it came.
    """

    def __init__(self, target: Target, credentials: Credentials | None = None) -> None:
        """Remember where to connect; the channel is opened by the first call.

        Args:
            target: The database.
            credentials: What to authenticate with; application default credentials when left out,
                none at all for an emulator.
        """
        self._target = target
        self._credentials = credentials
        self._metadata = (
            ("google-cloud-resource-prefix", str(target.database)),
            ("x-goog-spanner-route-to-leader", "true"),
        )
        self._connected: SpannerClient | None = None
        self._connecting = threading.Lock()

    @property
    def _client(self) -> SpannerClient:
        if (found := self._connected) is not None:
            return found
        with self._connecting:  # threads that begin together share one channel
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> SpannerClient:
        if self._target.emulator_host:
            channel = insecure_transport(self._target.emulator_host)
            transport = SpannerGrpcTransport(channel=channel, credentials=AnonymousCredentials())
            return SpannerClient(transport=transport)
        options = {"api_endpoint": self._target.endpoint}
        return SpannerClient(credentials=self._credentials, client_options=options)

    def _call(self, method: str, request: Any, timeout: float) -> Any:  # noqa: ANN401 - proto messages
        send = getattr(self._client, method)
        return send(request=request, retry=None, timeout=timeout, metadata=self._metadata)

    def create_session(
        self, *, labels: Mapping[str, str], multiplexed: bool, timeout: float
    ) -> Session:
        """Create a session; only regular sessions carry labels."""
        session = Session(multiplexed=True) if multiplexed else Session(labels=dict(labels))
        request = CreateSessionRequest(database=str(self._target.database), session=session)
        created: Session = self._call("create_session", request, timeout)
        return created

    def delete_session(self, name: str, *, timeout: float) -> None:
        """Delete a session that has no open transaction."""
        self._call("delete_session", {"name": name}, timeout)

    def begin(self, request: BeginTransactionRequest, *, timeout: float) -> Transaction:
        """Begin a transaction."""
        begun: Transaction = self._call("begin_transaction", request, timeout)
        return begun

    def execute_sql(self, request: ExecuteSqlRequest, *, timeout: float) -> ResultSet:
        """Execute a statement and return its whole result."""
        result: ResultSet = self._call("execute_sql", request, timeout)
        return result

    def stream_sql(
        self, request: ExecuteSqlRequest, *, timeout: float
    ) -> Iterator[PartialResultSet]:
        """Execute a query and return its result in parts."""
        parts: Iterator[PartialResultSet] = self._call("execute_streaming_sql", request, timeout)
        return parts

    def stream_read(self, request: ReadRequest, *, timeout: float) -> Iterator[PartialResultSet]:
        """Read rows by key and return them in parts."""
        parts: Iterator[PartialResultSet] = self._call("streaming_read", request, timeout)
        return parts

    def commit(self, request: CommitRequest, *, timeout: float) -> CommitResponse:
        """Commit once."""
        response: CommitResponse = self._call("commit", request, timeout)
        return response

    def rollback(self, request: RollbackRequest, *, timeout: float) -> None:
        """Roll back once."""
        self._call("rollback", request, timeout)

    def close(self) -> None:
        """Close the channel, if one was opened."""
        with self._connecting:
            if self._connected is not None:
                self._connected.transport.close()
