"""One attempt at a transaction, on the wire: it begins inline, is guarded, and ends for good."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain
from math import inf
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import (
    BeginTransactionRequest,
    ExecuteSqlRequest,
    PartialResultSet,
    RequestOptions,
    ResultSet,
    RollbackRequest,
    TransactionOptions,
)
from grpc import StatusCode

from spanctl import interrupts, shelter
from spanctl.clock import monotonic
from spanctl.errors import SpanctlError, StepIdleError, UsageError
from spanctl.spanner import limits
from spanctl.spanner.failures import lost_session, sql_of, translate
from spanctl.spanner.idle import LIMIT, guard
from spanctl.spanner.opened import OVER
from spanctl.spanner.recorded import Recorded
from spanctl.spanner.retrying import read_again, resumed, write_again
from spanctl.spanner.rpc import Rpc, Target, status_of

_READ_WRITE = TransactionOptions.pb(TransactionOptions(read_write=TransactionOptions.ReadWrite()))
_ROLLBACK_TIMEOUT = 5.0
_NAMING = 5.0
"""Seconds in which a begin that is interrupted is still told its transaction's id."""
_GOING_ON = 3.0
"""Seconds in which a stream that broke is gone on with; then the whole body is run again."""


class Status(StrEnum):
    """Where a transaction stands."""

    OPEN = "open"
    DOOMED = "doomed"
    ENDED = "ended"


class AttemptLostError(Exception):
    """This attempt can't commit any more, and the body may be run again."""

    def __init__(self, cause: GoogleAPICallError) -> None:
        """Keep why: Google's error."""
        super().__init__(status_of(cause).name)
        self.cause = cause


class Attempt(Recorded):
    """One attempt at a read-write transaction, from its begin to its end; thread-safe.

    Attributes:
        txn_id: The ID under which it will be known once it is committed.
        status: Where it stands.
        orphaned: Whether it, or a first try at it, may have begun without telling its id: then
            nobody can roll that back, and its session is of no more use.
    """

    def __init__(  # noqa: PLR0913 - what one attempt needs, all of it required
        self,
        rpc: Rpc,
        target: Target,
        session: str,
        *,
        txn_id: str,
        tag: str | None,
        deadline: float,
        rpc_timeout: float = inf,
        idle_limit: float = LIMIT,
    ) -> None:
        """Prepare an attempt; nothing is sent yet.

        Args:
            rpc: The channel to send on.
            target: The database, for error messages.
            session: A regular session's name.
            txn_id: The ID of the operation.
            tag: Spanner's transaction tag, at most 50 printable ASCII characters.
            deadline: Monotonic time in seconds after which nothing is sent.
            rpc_timeout: Longest wait for one reply, in seconds; what is left by default.
            idle_limit: Seconds that it may be quiet once it has begun.
        """
        super().__init__()
        self.txn_id = txn_id
        self.status = Status.OPEN
        self.orphaned = False
        self._mark = object()
        self._rpc = rpc
        self._target = target
        self._session = session
        self._options = RequestOptions.pb(RequestOptions(transaction_tag=tag or ""))
        self._deadline = deadline
        self._rpc_timeout = rpc_timeout
        self._id: bytes = b""
        self._seqno = 0
        self._lost: AttemptLostError | None = None
        self._released = False
        self._idle_limit = idle_limit
        self._active = 0.0
        self._expired: StepIdleError | None = None
        self._shelter = shelter.current()
        self._sql = ""

    # -- what is sent

    def _begun(self, request: Any, send: Any) -> Any:  # noqa: ANN401 - any request, any reply
        """Send within this transaction; begin it inline with the first statement."""
        with shelter.uninterrupted():
            return self._sent(request, send)

    def _sent(self, request: Any, send: Any) -> Any:  # noqa: ANN401 - any request, any reply
        self._check()
        limits.refuse_large_request(type(request).pb(request).ByteSize(), "a statement or read")
        inline = not self._id
        self._select(request)
        try:
            return self._send(request, send)
        except GoogleAPICallError as error:
            if not inline or self._id:
                raise self._told(error) from None
        # The failed statement began nothing. It is sent again inside an explicit transaction, so
        # that what the body concludes from the failure holds when it commits.
        self.begin()
        self._select(request)
        try:
            return self._send(request, send)
        except GoogleAPICallError as error:
            raise self._told(error) from None

    def _send(self, request: Any, send: Any) -> Any:  # noqa: ANN401 - any request, any reply
        if not self._id:
            self._rpc.opened.note(self._session, self._mark)
        try:
            return send(request, timeout=self._patience())
        except GoogleAPICallError as error:
            status = status_of(error)
            self.orphaned |= not self._id and status not in OVER
            if not self._id or status is StatusCode.ABORTED:
                self.over()
            if write_again(error) or lost_session(error):
                raise self._lose(error) from None
            raise
        except BaseException:
            self.orphaned |= not self._id
            raise
        finally:
            if not self._active:
                guard.watch(self)
            self._active = monotonic()

    def expire(self) -> bool:
        """Roll back if the body was quiet for too long; tell whether there is nothing to guard.

        Its next statement, and its end, raise what it failed by.
        """
        if not self._turn.acquire(blocking=False):
            return False  # a statement is on its way
        try:
            if self.status is not Status.OPEN:
                return True
            if not self._id or monotonic() - self._active < self._idle_limit:
                return False
            msg = f"the body of transaction {self.txn_id} was quiet for {self._idle_limit:g} s"
            hint = (
                "nothing is committed; do slow work before the first statement, or outside of the"
                " step; a read now and then keeps a transaction open"
            )
            self._expired = StepIdleError(msg, hint=hint, txn_id=self.txn_id)
            self.status = Status.DOOMED
        finally:
            self._turn.release()
        self.rollback()
        return True

    def _whole(self, request: ExecuteSqlRequest, timeout: float) -> ResultSet:
        with self._named():
            result = self._rpc.execute_sql(request, timeout=timeout)
            self._id = self._id or result.metadata.transaction.id
        return result

    def _explicit(self, request: BeginTransactionRequest, timeout: float) -> None:
        with self._named():
            self._id = self._rpc.begin(request, timeout=timeout).id

    def _streamed(self, request: Any, send: Any) -> Iterator[PartialResultSet]:  # noqa: ANN401
        def opened(token: bytes) -> Iterator[PartialResultSet]:
            self._select(request)
            request.resume_token = token
            # The first part comes with the call, and its id at once: should a later one be lost,
            # this is what can be rolled back.
            with self._named():
                parts = iter(send(request, timeout=self._patience()))
                first = next(parts, None)
                if first is not None:
                    self._id = self._id or first.metadata.transaction.id
            return parts if first is None else chain((first,), parts)

        def again(error: GoogleAPICallError, _yielded: bool) -> bool:
            return bool(self._id) and read_again(error)

        return resumed(opened, again, until=self._deadline, silence=_GOING_ON)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Also when interrupted, await the reply that names the transaction: to roll that back."""
        if self._id:
            with shelter.calling(self._shelter, quick=True):
                yield
            return
        with interrupts.shielded(_NAMING), shelter.calling(self._shelter, quick=False):
            yield

    def _told(self, error: GoogleAPICallError) -> Exception:
        return translate(error, self._target, "a statement was executed", sql=self._sql)

    def _lose(self, error: GoogleAPICallError) -> AttemptLostError:
        self.status = Status.DOOMED
        self._lost = AttemptLostError(error)
        return self._lost

    def _check(self) -> None:
        interrupts.check()
        if self._shelter is not None:
            self._shelter.check()
        if self._expired is not None:
            raise self._expired
        if self._lost is not None:
            raise self._lost
        if self.status is not Status.OPEN:
            msg = "the transaction has ended"
            raise UsageError(msg, hint="use txn only inside the function that it was given to")

    def _select(self, request: Any) -> None:  # noqa: ANN401 - any request within a transaction
        self._sql = sql_of(request)
        selector = type(request).pb(request).transaction
        if self._id:
            selector.id = self._id
        else:
            selector.begin.CopyFrom(_READ_WRITE)

    def _patience(self) -> float:
        return max(0.001, min(self._rpc_timeout, self._deadline - monotonic()))

    # -- for the protocol

    def over(self) -> None:
        """Note that it has surely ended, so that its session may be deleted; not if orphaned."""
        if not self.orphaned:
            self._rpc.opened.over(self._session, self._mark)

    @property
    def id(self) -> bytes:
        """Spanner's id of the transaction; empty before it has begun."""
        return self._id

    def conclude(self) -> None:
        """Make sure that the transaction has begun and can be committed; refuse all further use.

        It waits for a statement that a thread of the body sends.

        Raises:
            AttemptLostError: This attempt is over, even if the body swallowed the news.
            SpanctlError: Spanner refused to begin it.
        """
        with self._turn:
            if not self._id:
                self.begin()
            self._check()
            self.status = Status.ENDED
        guard.forget(self)

    def begin(self) -> None:
        """Begin explicitly, when nothing else has begun the transaction.

        Raises:
            AttemptLostError: This attempt is over.
            SpanctlError: Spanner refused.
        """
        self._check()
        request = BeginTransactionRequest()
        message = BeginTransactionRequest.pb(request)
        message.session = self._session
        message.options.CopyFrom(_READ_WRITE)
        message.request_options.CopyFrom(self._options)
        try:
            self._send(request, self._explicit)
        except GoogleAPICallError as error:
            raise translate(error, self._target, "a transaction was begun") from None

    def rollback(self) -> None:
        """Refuse all further use, and release the locks at once.

        Nothing is concluded from its reply, not even from its OK.
        """
        with self._turn:
            self.status = Status.ENDED
            released, self._released = self._released, True
        guard.forget(self)
        if not self._id or released:
            return
        request = RollbackRequest(session=self._session, transaction_id=self._id)
        try:
            self._rpc.rollback(request, timeout=_ROLLBACK_TIMEOUT)
        except (GoogleAPICallError, SpanctlError, ValueError):  # the last: the channel was closed
            return
        self.over()
