"""A database: reading, querying, and transactions that answer for themselves."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import (
    ExecuteSqlRequest,
    ReadRequest,
    TransactionSelector,
    Type,
)
from google.cloud.spanner_v1.types import (
    TransactionOptions as ReadOptions,
)
from google.protobuf.struct_pb2 import Struct

from spanctl import shelter
from spanctl.clock import monotonic
from spanctl.closing import Closing
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.secret import Kept
from spanctl.errors import SpanctlError
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import values
from spanctl.spanner.actors import Actors
from spanctl.spanner.binding import Binding
from spanctl.spanner.ddl import is_ledger
from spanctl.spanner.failures import lost_session, sql_of, translate
from spanctl.spanner.identity import LedgerIdentity, read_identity
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.limits import refuse_large_request, refuse_long_statement
from spanctl.spanner.operation import Call, Identified, TransactionOptions, check_tag
from spanctl.spanner.preflight import Tables
from spanctl.spanner.protocol import Execution
from spanctl.spanner.retrying import patience, read_again, resumed
from spanctl.spanner.rows import Rows
from spanctl.spanner.rpc import Rpc, Target
from spanctl.spanner.sessions import Lease, SessionPool
from spanctl.spanner.transaction import Transaction

__all__ = ["Call", "Database", "Target", "TransactionOptions", "shared", "shared_targets"]

T = TypeVar("T")

TIMEOUT: Final = 3600.0
"""Seconds that a query or read may take by default, as with Google's own clients."""
_LOOK_UP: Final = 30.0
"""The same for a read of the ledger's own rows, which are few and looked up by key."""
_LEAST: Final = 0.001
_RENEWING: Final = 30.0
_STRONG = ReadOptions(read_only=ReadOptions.ReadOnly(strong=True))


class Database(Kept, Closing):
    """A Spanner database; thread-safe, connects at the first use, a context manager.

    Attributes:
        target: Where it is; this can be pickled, the open database can't.
        rpc: The channel to it.
        binding: Which database it is, and that it stays the same one.
        sessions: The sessions on it.
        actors: Who acts on it.
        tables: Its tables as they were last read, for what is counted before a Commit.
        requests: Roots of idempotency keys, each with the request that is known to be kept for it.
        is_installing: Whether its ledger is being written just now: nothing to hold a write to.
    """

    _instead = "pass its target on, and open it where it is used"

    def __init__(self, target: Target, *, credentials: LiveCredentials | None = None) -> None:
        """Remember where the database is; nothing is sent yet.

        Args:
            target: Where it is and how it is reached.
            credentials: What to authenticate with, in place of what the target refers to.

        Raises:
            UsageError: The target's reference is none.
        """
        self.target = target
        self.rpc = Rpc(target, credentials)
        self.binding = Binding(self)
        self.sessions = SessionPool(self.rpc, target, self.binding)
        self.actors = Actors(self.rpc, target)
        self.tables = Tables(self)
        self._ledger: LedgerIdentity | None = None
        self._identifying = threading.Lock()
        self.is_installing = False
        self.requests: set[tuple[str, str]] = set()

    @property
    def ledger(self) -> LedgerIdentity:
        """The ledger in this database: its id, key and schema version; read once.

        Raises:
            SchemaVersionError: There is none, or it is of a version that this spanctl doesn't know.
            SpanctlError: The database could not be read.
        """
        if (found := self._ledger) is not None:
            return found
        with self._identifying:
            if self._ledger is None:
                self._ledger = read_identity(self)
            return self._ledger

    def ledger_or(self, found: LedgerIdentity) -> LedgerIdentity:
        """Return the ledger that was read here first; the one that is ``found`` where none was."""
        with self._identifying:
            self._ledger = self._ledger or found
            return self._ledger

    def assume_ledger(self, ledger: LedgerIdentity) -> None:
        """Take a ledger for the one in the database: of whoever is installing it just now."""
        with self._identifying:
            self._ledger = ledger
            self.is_installing = True

    def forget_ledger(self) -> None:
        """Read the ledger's identity anew when it is next asked for, and before the next write."""
        with self._identifying:
            self._ledger = None
            self.is_installing = False
        self.requests.clear()
        self.binding.lose()

    def renew(self, lease: Lease, *, timeout: float = _RENEWING) -> None:
        """Give a borrower another session for one that the server has forgotten.

        A server that forgot may be another one (an emulator that was started anew, a database that
        was restored): no session of this database writes before that was looked at.

        Raises:
            ConflictError: The database holds another ledger now, or is a copy.
            SpanctlError: The server could not be reached or refused.
        """
        self.binding.lose()
        self.sessions.exchange(lease, timeout=timeout)

    # -- reading

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        types: Mapping[str, Type] | None = None,
        *,
        read_timestamp: datetime | None = None,
        timeout: float = TIMEOUT,
    ) -> Rows:
        """Run a query outside of any transaction; strong unless a read timestamp is given.

        Args:
            sql: The query.
            params: Parameter name to value.
            types: Parameter name to type, where it can't be inferred from the value.
            read_timestamp: The time at which to read.
            timeout: Seconds for all of it, until the last row has come.

        Raises:
            StatementError: Spanner refused the query.
            LimitError: It is larger than a request may be; nothing was sent.
            NotFoundError: The database does not exist.
            TimeOverError: It took longer than that.
            UnreachableError: Spanner can't be reached.
            NotPermittedError: The credentials don't allow it.
        """
        refuse_long_statement(sql, len(params or ()))
        request = ExecuteSqlRequest(sql=sql, transaction=_selector(read_timestamp))
        if params:
            given = types or {}
            request.params = Struct(fields={k: values.encode(v) for k, v in params.items()})
            kinds = {k: given.get(k) or values.infer_type(v) for k, v in params.items()}
            request.param_types = {k: kind for k, kind in kinds.items() if kind is not None}
        return self._stream(request, self.rpc.stream_sql, timeout, "a query was run")

    def read(  # noqa: PLR0913 - the Read API's own parameters
        self,
        table: str,
        columns: Sequence[str],
        keys: KeySet,
        *,
        index: str = "",
        limit: int = 0,
        read_timestamp: datetime | None = None,
        timeout: float | None = None,
    ) -> Rows:
        """Read rows by key or by key range, of a table or an index; strong by default.

        Args:
            table: The table.
            columns: The columns to return, in order.
            keys: Which rows; keys of the index when one is named.
            index: The index to read through.
            limit: At most so many rows; 0 for all.
            read_timestamp: The time at which to read.
            timeout: Seconds for all of it; left out, as long as a query, and half a minute for
                the ledger's own tables.

        Raises:
            StatementError: The table, a column or the index does not exist.
            LimitError: The keys are larger than a request may be; nothing was sent.
            NotFoundError: The database does not exist.
            TimeOverError: It took longer than that.
            UnreachableError: Spanner can't be reached.
            NotPermittedError: The credentials don't allow it.
        """
        usual = _LOOK_UP if is_ledger(table) else TIMEOUT
        request = ReadRequest(
            table=table,
            index=index,
            columns=list(columns),
            key_set=keys._to_pb(),  # noqa: SLF001 - the only way from a KeySet to its message
            limit=limit,
            transaction=_selector(read_timestamp),
        )
        given = usual if timeout is None else timeout
        return self._stream(request, self.rpc.stream_read, given, f"table {table} was read")

    def _stream(self, request: Any, send: Any, timeout: float, doing: str) -> Rows:  # noqa: ANN401 - SQL or read
        refuse_large_request(type(request).pb(request).ByteSize(), "a query or read")
        until = monotonic() + timeout

        def opened(token: bytes) -> Any:  # noqa: ANN401 - the parts
            request.session = self.sessions.reader(max(_LEAST, until - monotonic()))
            request.resume_token = token
            with shelter.calling(None, quick=True):
                return send(request, timeout=max(_LEAST, until - monotonic()))

        def again(error: GoogleAPICallError, yielded: bool) -> bool:
            if not lost_session(error):
                return read_again(error)
            self.binding.lose()
            self.sessions.forget_reader()
            return not yielded

        def told(error: GoogleAPICallError) -> SpanctlError:
            given = timeout if monotonic() >= until - _LEAST else None
            return translate(error, self.target, doing, given=given, sql=sql_of(request))

        parts = resumed(opened, again, until=until, silence=patience(self.rpc))
        try:
            return Rows(shelter.parts(parts) if shelter.is_exposed() else parts, told)
        except GoogleAPICallError as error:
            raise told(error) from None

    # -- writing

    def execution(  # noqa: PLR0913 - one operation, told in full
        self,
        call: Call,
        body: Callable[[Transaction], T],
        *,
        provenance: Provenance,
        lease_anew: Callable[[Call], None],
        arguments: Mapping[str, Any] | None = None,
        identified: Identified | None = None,
        options: TransactionOptions | None = None,
        expect_replay: bool = False,
    ) -> Execution[T]:
        """Prepare a read-write transaction that commits at most once per operation.

        The caller holds a lease on ``call``: :class:`spanctl.spanner.run.Run` is that caller.

        Args:
            call: The operation.
            body: Gets the :class:`~spanctl.spanner.transaction.Transaction`; it is run again
                whenever an attempt is lost, so it must not have effects elsewhere.
            provenance: Where the operation comes from.
            lease_anew: Leases the operation once more, in the epoch in which it was reopened.
            arguments: What the body works on; the same operation with others is refused.
            identified: Which function the body is; the same operation with another is refused.
            options: Deadlines, and what the receipt keeps.
            expect_replay: Look for the receipt before the body is run: for retries and keys that
                somebody else may have used before.

        Raises:
            UsageError: The transaction tag is one that Spanner would refuse.
        """
        check_tag(provenance.tag)
        return Execution(
            database=self,
            call=call,
            body=body,
            provenance=provenance,
            lease_anew=lease_anew,
            arguments=arguments,
            identified=identified,
            options=options or TransactionOptions(),
            fresh=not expect_replay,
        )

    def close(self) -> None:
        """Delete the sessions and close the channel."""
        self.sessions.close()
        self.rpc.close()


def _selector(read_timestamp: datetime | None) -> TransactionSelector:
    if read_timestamp is None:
        return TransactionSelector(single_use=_STRONG)
    read_only = ReadOptions.ReadOnly(read_timestamp=read_timestamp)
    return TransactionSelector(single_use=ReadOptions(read_only=read_only))


_shared: dict[Target, Database] = {}
_sharing = threading.Lock()
_inherited: list[dict[Target, Database]] = []
"""A parent's: to let go of its channels in a forked child could wait for threads it lacks."""


def _begin_anew() -> None:
    global _shared, _sharing
    _inherited.append(_shared)
    _shared, _sharing = {}, threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


def shared_targets() -> list[Target]:
    """Return the targets for which this process has a :func:`shared` database."""
    with _sharing:
        return list(_shared)


def shared(target: Target) -> Database:
    """Return this process's one :class:`Database` for a target; it lives as long as the process."""
    with _sharing:
        if target not in _shared:
            _shared[target] = Database(target)
        return _shared[target]
