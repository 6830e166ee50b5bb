"""Whether a credential is let in to a database, and what it may do there."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc
from google.api_core import exceptions
from google.cloud.spanner_admin_database_v1.services.database_admin import DatabaseAdminClient
from google.cloud.spanner_admin_database_v1.services.database_admin.transports import (
    DatabaseAdminGrpcTransport,
)
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport

from spanctl.credentials.document import CredentialDocument
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.sources import document_source
from spanctl.errors import (
    ConfigurationError,
    ConflictError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
)
from spanctl.proxies import spare_loopback
from spanctl.resources import DatabaseName
from spanctl.settings import Settings, Source

READING: Final = (
    "spanner.databases.beginReadOnlyTransaction",
    "spanner.databases.read",
    "spanner.databases.select",
    "spanner.sessions.create",
)
"""What a flow needs that only reads."""

WRITING: Final = (
    "spanner.databases.beginOrRollbackReadWriteTransaction",
    "spanner.databases.write",
)
"""What a flow needs besides to write."""

BEYOND: Final = (
    "spanner.databases.drop",
    "spanner.databases.setIamPolicy",
    "spanner.databases.updateDdl",
)
"""What no flow needs."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a credential may do in a database; it was let in, and a query answered.

    Attributes:
        permissions: Those that it has, of all that were asked for.
    """

    permissions: frozenset[str]

    @property
    def reads(self) -> bool:
        """Whether it has all that reading takes."""
        return self.permissions.issuperset(READING)

    @property
    def writes(self) -> bool:
        """Whether it has all that writing takes."""
        return self.permissions.issuperset(WRITING)

    @property
    def enough(self) -> str:
        """The least predefined role that holds what it can use, empty when it can't read."""
        if not self.reads:
            return ""
        return f"roles/spanner.{'databaseUser' if self.writes else 'databaseReader'}"

    @property
    def excess(self) -> tuple[str, ...]:
        """What it may do that no flow needs."""
        return tuple(sorted(self.permissions & set(BEYOND)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where credentials are tried: Spanner's API, or the gateway of a local stack.

    Attributes:
        database: The database.
        endpoint: ``host[:port]``, reached over TLS.
        ca_file: PEM file of the only roots to trust; None for the system's.
        timeout: Seconds that one RPC may take.
    """

    database: DatabaseName
    endpoint: str
    ca_file: str | None = None
    timeout: float = 10.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the door from resolved settings.

        Raises:
            ConfigurationError: No database is set, or it is an emulator's that asks nobody for
                credentials.
        """
        endpoint = settings.values["spanner_endpoint"]
        if settings.get("emulator_host") and endpoint.source is Source.DEFAULT:
            msg = "this emulator lets everybody in: no credential can be tried there"
            raise ConfigurationError(msg, hint="run: spanctl local up, or set spanner_endpoint")
        return cls(
            database=settings.database,
            endpoint=settings.require("spanner_endpoint"),
            ca_file=settings.get("ca_file"),
        )

    def enter(self, credentials: LiveCredentials) -> Admission:
        """Connect, query, and ask for permissions.

        Raises:
            NotPermittedError: The credentials are not let in.
            ConflictError: There is no such database: that says nothing of the credentials.
            UnreachableError: No answer came: that says nothing of them either.
        """
        credentials.ensure()
        try:
            self._query(credentials)
            return Admission(self._permissions(credentials))
        except exceptions.GoogleAPICallError as error:
            raise self._told(error) from None

    def _query(self, credentials: LiveCredentials) -> None:
        transport = SpannerGrpcTransport(**self._reached(credentials))
        how: dict[str, Any] = {"retry": None, "timeout": self.timeout}
        with SpannerClient(transport=transport) as client:
            session = client.create_session({"database": str(self.database)}, **how).name
            try:
                client.execute_sql({"session": session, "sql": "SELECT 1"}, **how)
            finally:
                with suppress(exceptions.GoogleAPICallError):  # it ends by itself, in an hour
                    client.delete_session({"name": session}, **how)

    def _permissions(self, credentials: LiveCredentials) -> frozenset[str]:
        transport = DatabaseAdminGrpcTransport(**self._reached(credentials))
        request = {
            "resource": str(self.database),
            "permissions": [*READING, *WRITING, *BEYOND],
        }
        with DatabaseAdminClient(transport=transport) as client:
            answer = client.test_iam_permissions(request, retry=None, timeout=self.timeout)
        return frozenset(answer.permissions)

    def _reached(self, credentials: LiveCredentials) -> dict[str, Any]:
        roots = None
        if self.ca_file:
            roots = grpc.ssl_channel_credentials(Path(self.ca_file).read_bytes())
        spare_loopback()  # gRPC looks at the environment when it opens the channel
        return {
            "host": self.endpoint,
            "credentials": credentials,
            "ssl_channel_credentials": roots,
        }

    def _told(self, error: exceptions.GoogleAPICallError) -> SpanctlError:
        match error:
            case exceptions.Unauthenticated():
                msg = f"Spanner at {self.endpoint} does not accept the credentials"
                return NotPermittedError(msg, hint="renew them: spanctl creds rotate NAME")
            case exceptions.PermissionDenied():
                msg = f"the credentials may not query {self.database}"
                return NotPermittedError(msg, hint="grant roles/spanner.databaseReader at least")
            case exceptions.NotFound():
                msg = f"there is no {self.database} to try credentials on"
                return ConflictError(msg, hint="check: spanctl context show")
            case _:
                msg = f"Spanner at {self.endpoint} did not answer"
                return UnreachableError(msg, hint="check the network, or: spanctl local status")


@dataclass(frozen=True, slots=True)
class SpannerTester:
    """Tries credential documents on a database.

    Implements :class:`~spanctl.credentials.rotation.ports.Tester`.
    """

    door: Door
    endpoints: Endpoints

    def test(self, document: CredentialDocument) -> None:
        """Connect with it, query, and check that it may read.

        Raises:
            NotPermittedError: It is not let in, or may not read.
            ConflictError: There is no such database.
            UnreachableError: No answer came.
        """
        source = document_source(document, self.endpoints)
        admission = self.door.enter(
            LiveCredentials(source, Http(self.endpoints), self.endpoints.universe)
        )
        if not admission.reads:
            missing = ", ".join(sorted(set(READING) - admission.permissions))
            msg = f"the credential lacks {missing}"
            raise NotPermittedError(msg, hint="grant roles/spanner.databaseReader at least")
