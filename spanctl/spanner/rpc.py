"""The RPCs of Spanner that spanctl sends: each with a deadline, none retried behind our back."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast

import grpc
from google.api_core.exceptions import GoogleAPICallError, Unauthenticated
from google.auth.credentials import AnonymousCredentials
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport
from google.cloud.spanner_v1.types import (
    BeginTransactionRequest,
    CommitRequest,
    CommitResponse,
    CreateSessionRequest,
    DeleteSessionRequest,
    ExecuteSqlRequest,
    GetSessionRequest,
    PartialResultSet,
    ReadRequest,
    ResultSet,
    RollbackRequest,
    Session,
    Transaction,
)

from spanctl.clock import monotonic, parse_duration
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.hardening import forget_locals
from spanctl.credentials.live import LiveCredentials
from spanctl.errors import SpanctlError
from spanctl.proxies import is_loopback
from spanctl.resources import DatabaseName
from spanctl.settings import Settings
from spanctl.shelter import uninterrupted
from spanctl.spanner import channel
from spanctl.spanner.opened import Opened

if TYPE_CHECKING:
    from google.cloud.spanner_admin_database_v1.types import Database as DatabaseRecord

DEFAULT: Final = "adc"
_GOOGLE: Final = Endpoints()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a database is and how it is reached; it pickles, and holds no secret.

    Attributes:
        database: The database.
        emulator_host: ``host:port`` of an emulator; None for the real service. It wins over all
            that follows, and wants no credentials.
        endpoint: API endpoint of the real service.
        credentials: Reference to the credentials (see :mod:`spanctl.references`).
        secret_reader: Reference to what secrets are read with.
        identity: Where Google's identity services are, and the roots that servers are verified by.
        sign_as: The service accounts whose signature says who asked for a deployment's run,
            separated by commas; the one that the credentials act as when left out.
        heartbeat_interval: Seconds after which a process that writes there says that it is alive.
        presumed_dead_after: Seconds of silence after which one that can't be looked at counts as
            dead.
    """

    database: DatabaseName
    emulator_host: str | None = None
    endpoint: str = "spanner.googleapis.com"
    credentials: str = DEFAULT
    secret_reader: str = DEFAULT
    identity: Endpoints = _GOOGLE
    sign_as: str | None = None
    heartbeat_interval: float = 15.0
    presumed_dead_after: float = 60.0

    @classmethod
    def from_settings(cls, settings: Settings, database: DatabaseName | None = None) -> Self:
        """Take the target from resolved settings.

        Args:
            settings: The settings.
            database: The database, if it isn't the one of the settings.

        Raises:
            ConfigurationError: Project, instance or database is unset, or a URL is not HTTPS.
        """
        name = database or settings.database
        interval = parse_duration(settings.require("heartbeat_interval"))
        silence = parse_duration(settings.require("presumed_dead_after"))
        if emulator := settings.get("emulator_host"):
            return cls(
                database=name,
                emulator_host=emulator,
                endpoint=settings.require("spanner_endpoint"),
                heartbeat_interval=interval,
                presumed_dead_after=silence,
            )
        return cls(
            database=name,
            endpoint=settings.require("spanner_endpoint"),
            credentials=settings.require("credentials"),
            secret_reader=settings.require("secret_reader"),
            identity=Endpoints.from_settings(settings),
            sign_as=settings.get("sign_as"),
            heartbeat_interval=interval,
            presumed_dead_after=silence,
        )

    @property
    def host(self) -> str:
        """The ``host:port`` or endpoint that is talked to."""
        return self.emulator_host or self.endpoint

    @property
    def is_emulated(self) -> bool:
        """Whether an emulator answers there, perhaps behind a gateway on this machine."""
        return self.emulator_host is not None or is_loopback(self.endpoint)

    def live_credentials(self) -> LiveCredentials | None:
        """Return the credentials, the same for all in this process; None for an emulator.

        Raises:
            UsageError: A text is no reference.
        """
        if self.emulator_host:
            return None
        from spanctl.credentials.resolve import shared

        return shared(self.credentials, self.identity, self.secret_reader)

    def open_channel(self, credentials: LiveCredentials | None = None) -> grpc.Channel:
        """Open a channel to it; nothing is sent yet.

        Args:
            credentials: What to authenticate with; those that are referred to when left out.

        Raises:
            ConfigurationError: The file with the roots can't be read.
            UsageError: A text is no reference.
        """
        live = credentials or self.live_credentials()
        if self.emulator_host or live is None:
            return channel.plain(self.host)
        return channel.secure(self.endpoint, live, self.identity.ca_file)


def status_of(error: BaseException) -> grpc.StatusCode:
    """Return the gRPC status of an error of Google's client; UNKNOWN if it has none."""
    if isinstance(error, GoogleAPICallError) and isinstance(
        error.grpc_status_code, grpc.StatusCode
    ):
        return error.grpc_status_code
    return grpc.StatusCode.UNKNOWN


class Rpc:
    """Thin, thread-safe calls on one channel.

    Every method sends once, waits at most ``timeout`` seconds and raises
    :class:`~google.api_core.exceptions.GoogleAPICallError` as it came. A token that the server
    does not accept is renewed and the request sent again, but for Commit. Without a live token
    nothing is sent, and our own error says why.

    Attributes:
        credentials: What it authenticates with; None for an emulator.
        opened: In which sessions a transaction may be open.
        has_answered: Whether the server has answered an RPC with OK.
    """

    def __init__(self, target: Target, credentials: LiveCredentials | None = None) -> None:
        """Remember where to connect; the channel is opened by the first call.

        Args:
            target: The database.
            credentials: What to authenticate with, in place of what the target refers to.

        Raises:
            UsageError: The target's reference is none.
        """
        self._target = target
        self.credentials = (
            None if target.emulator_host else credentials or target.live_credentials()
        )
        self._metadata = (
            ("google-cloud-resource-prefix", str(target.database)),
            ("x-goog-spanner-route-to-leader", "true"),
        )
        self.opened = Opened()
        self.has_answered = False
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
        opened = self._target.open_channel(self.credentials)
        # Anonymous to Google's client: the channel itself puts the token on each RPC.
        transport = SpannerGrpcTransport(channel=opened, credentials=AnonymousCredentials())
        return SpannerClient(transport=transport)

    def authenticate(self) -> None:
        """Make sure that there is a live token, before something that must not fail for want of it.

        Raises:
            SpanctlError: There is none.
        """
        if self.credentials is not None:
            self.credentials.ensure()

    def _call(self, method: str, request: Any, timeout: float) -> Any:  # noqa: ANN401 - proto messages
        send = getattr(self._client, method)
        try:
            with uninterrupted():
                answer = send(request=request, retry=None, timeout=timeout, metadata=self._metadata)
        except BaseException as error:
            forget_locals(error)  # gRPC's frames hold the bearer token
            raise
        self.has_answered = True
        return answer

    def create_session(
        self, *, labels: Mapping[str, str], multiplexed: bool, timeout: float
    ) -> Session:
        """Create a session; only regular sessions carry labels."""
        session = Session(multiplexed=True) if multiplexed else Session(labels=dict(labels))
        request = CreateSessionRequest(database=str(self._target.database), session=session)
        created: Session = self._call("create_session", request, timeout)
        return created

    def get_database(self, *, timeout: float) -> "DatabaseRecord":
        """Return what the admin API says of the database."""
        from google.cloud.spanner_admin_database_v1 import DatabaseAdminClient
        from google.cloud.spanner_admin_database_v1.services.database_admin.transports import (
            DatabaseAdminGrpcTransport,
        )

        shared = cast("SpannerGrpcTransport", self._client.transport).grpc_channel
        transport = DatabaseAdminGrpcTransport(channel=shared, credentials=AnonymousCredentials())
        client = DatabaseAdminClient(transport=transport)
        try:
            found: DatabaseRecord = client.get_database(
                name=str(self._target.database), retry=None, timeout=timeout
            )
        except BaseException as error:
            forget_locals(error)
            raise
        return found

    def delete_sessions(self, sessions: Sequence[Session], *, timeout: float) -> None:
        """Delete sessions without open transactions, side by side; what fails is passed over.

        Nothing is connected for that, no token is fetched, and no thread is started: it may be
        the end of the process. An emulator that was started anew gives the same names once more,
        so there only those go that are still as old as they were.

        Args:
            sessions: The sessions, as they were created.
            timeout: Seconds for all of them.
        """
        until = monotonic() + timeout
        names = [one.name for one in sessions]
        if self._target.is_emulated:
            found = self._side_by_side(channel.GET_SESSION, GetSessionRequest, names, timeout)
            known = [Session.deserialize(one) for one in found if one is not None]
            born = {one.name: one.create_time for one in known}
            names = [one.name for one in sessions if born.get(one.name) == one.create_time]
        left = max(0.0, until - monotonic())
        self._side_by_side(channel.DELETE_SESSION, DeleteSessionRequest, names, left)

    def _side_by_side(
        self,
        method: str,
        kind: type[GetSessionRequest | DeleteSessionRequest],
        names: Sequence[str],
        timeout: float,
    ) -> list[bytes | None]:
        """Send an RPC for each session; return the replies, None where there was none."""
        unready = self.credentials is not None and self.credentials.live is None
        if not names or self._connected is None or unready:
            return []
        send = cast("SpannerGrpcTransport", self._connected.transport).grpc_channel.unary_stream(
            method, request_serializer=kind.serialize
        )
        replies: list[bytes | None] = []
        with suppress(ValueError):  # the channel was closed
            requests = [kind(name=name) for name in names]
            calls = [send(one, timeout=timeout, metadata=self._metadata) for one in requests]
            for call in calls:
                try:
                    replies.extend(list(call)[:1])
                except grpc.RpcError:
                    replies.append(None)
        return replies

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
        """Commit once.

        Without a live token, too, it raises UNAUTHENTICATED, with our own error as its cause: of an
        earlier send of the same request that says nothing.
        """
        try:
            self.authenticate()
        except SpanctlError as error:
            msg = "there is no live token"
            raise Unauthenticated(msg) from error
        single_use = not request.transaction_id
        with self.opened.within(request.session) if single_use else nullcontext():
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
