"""The transaction protocol: a body runs, and its one commit carries its receipt.

In short (the reasons are in ``docs/PROTOCOL.md``):

1. The receipt is a plain insert under the operation's txn ID, in the body's own commit; it can be
   inserted once, so the operation commits at most once, whoever runs it and however often.
2. Commit is sent by us, once at a time. Its OK means COMMITTED; an allow-listed status that answers
   the first and only send means NOT_COMMITTED; ABORTED runs the whole body again. All else is
   ambiguous: the same Commit is replayed, then the receipt is read.
3. Whatever ends an attempt other than that OK, the receipt is read before anything is reported.
4. On every path that is neither OK nor ambiguous, Rollback is sent at once; never after an
   ambiguous Commit.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import CommitRequest, Mutation
from grpc import StatusCode

from spanctl import __version__
from spanctl.clock import monotonic, now
from spanctl.errors import (
    DeadlineError,
    KeyClosedError,
    KeyReusedError,
    NotPermittedError,
    OutcomeUnknownError,
    SpanctlError,
    UnreachableError,
)
from spanctl.ledger.canonical import arguments_digest, result_json
from spanctl.ledger.receipt import EntryKind, Outcome, Provenance, Receipt, TransactionResult
from spanctl.spanner import receipts, values
from spanctl.spanner.failures import (
    NOT_COMMITTED,
    TRANSIENT,
    lost_session,
    retry_delay,
    translate,
)
from spanctl.spanner.operation import Call, TransactionOptions
from spanctl.spanner.rows import as_datetime
from spanctl.spanner.rpc import status_of
from spanctl.spanner.sessions import Lease
from spanctl.spanner.transaction import AttemptLostError, Transaction

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

T = TypeVar("T")

_REPLAYS: Final = 3
_TRANSIENT_ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 1.0
_LEAST_PATIENCE: Final = 1.0
_LOOK_AGAIN: Final = 0.1
_SILENCE: Final = (UnreachableError, NotPermittedError, DeadlineError)
"""What a database that can't be asked ends an attempt with."""


class _CommitLostError(Exception):
    """The commit's outcome is open: replay did not tell."""

    def __init__(self, cause: GoogleAPICallError) -> None:
        super().__init__(status_of(cause).name)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class _Sent:
    """What an attempt of this very call would return, should its commit turn out to have landed."""

    value: Any
    row_counts: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Execution(Generic[T]):
    """One call of :meth:`spanctl.spanner.client.Database.transact`, from start to outcome.

    Attributes:
        database: Where it runs.
        call: The operation.
        body: The user's function.
        provenance: Where it comes from; goes into the receipt.
        arguments: What the body was called with, for the digest; None when there is nothing to
            compare.
        options: Deadlines and what to keep.
        fresh: Whether nobody can have run this operation before, so that no receipt is looked for
            first.
        in_doubt: Whether the outcome is open: a Commit was sent whose reply did not tell, or the
            receipt that would tell can't be read.
    """

    database: "Database"
    call: Call
    body: Callable[[Transaction], T]
    provenance: Provenance
    arguments: Mapping[str, Any] | None
    options: TransactionOptions
    fresh: bool
    in_doubt: bool = False
    _landed: bool = False
    _attempts: int = 0
    _aborts: int = 0
    _deadline: float = 0.0
    _digest: str | None = None
    _sent: dict[str, _Sent] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """What came of the operation, as far as :meth:`run` found out before it returned or raised.

        NOT_COMMITTED speaks of this call: a later one may still commit the operation.
        """
        if self.in_doubt:
            return Outcome.UNKNOWN
        return Outcome.COMMITTED if self._landed else Outcome.NOT_COMMITTED

    def run(self) -> TransactionResult:
        """Run the body until its outcome is known.

        Raises:
            KeyReusedError: The key was used before with other arguments.
            KeyClosedError: The operation is fenced.
            OutcomeUnknownError: The database could not be reached to find out.
            DeadlineError: Every attempt was aborted until the deadline; not committed.
            SpanctlError: Spanner refused or could not be reached; not committed.
            BaseException: What the body raised; not committed.
        """
        self._deadline = monotonic() + self.options.deadline
        if self.arguments is not None:
            self._digest = arguments_digest(self.database.ledger.key, self.arguments)
        if not self.fresh and (found := self._receipt()) is not None:
            return self._from_receipt(found)
        with self.database.sessions.writer(self.options.deadline) as lease:
            while True:
                try:
                    return self._attempt(lease)
                except AttemptLostError as lost:
                    if (error := self._gives_up(lost.cause, lease)) is not None:
                        return self._ended_by(error)

    def _attempt(self, lease: Lease) -> TransactionResult:
        self._attempts += 1
        transaction = Transaction(
            self.database.rpc,
            self.database.target,
            lease.name,
            txn_id=self.call.txn_id,
            tag=self.provenance.tag,
            deadline=self._deadline,
            rpc_timeout=self.options.rpc_timeout,
        )
        try:
            value = self.body(transaction)
            kept = result_json(value) if self.options.keep_result else None
            transaction.ready()
            transaction.finish()
            request = self._request(transaction, lease, kept)
        except AttemptLostError as lost:
            if status_of(lost.cause) is not StatusCode.ABORTED:
                transaction.rollback()
            raise
        except BaseException as error:  # noqa: BLE001 - Ctrl-C, too, must release the locks
            transaction.rollback()
            return self._ended_by(error)
        returned = json.loads(kept) if kept is not None else value
        self._sent[transaction.id.hex()] = _Sent(returned, transaction.row_counts)
        return self._commit(request, transaction, lease)

    # -- commit

    def _request(self, transaction: Transaction, lease: Lease, kept: str | None) -> CommitRequest:
        request = CommitRequest()
        message = CommitRequest.pb(request)  # filling the plain message is ten times as fast
        message.session = lease.name
        message.transaction_id = transaction.id
        message.mutations.extend(Mutation.pb(one) for one in transaction.mutations)
        message.request_options.transaction_tag = self.provenance.tag or ""
        insert = message.mutations.add().insert
        insert.table = receipts.TABLE
        insert.columns.extend(receipts.COLUMNS)
        insert.values.append(values.encode_row(receipts.row(self._receipt_of(transaction, kept))))
        return request

    def _commit(
        self, request: CommitRequest, transaction: Transaction, lease: Lease
    ) -> TransactionResult:
        try:
            committed_at = self._send_commit(request)
        except GoogleAPICallError as error:
            if status_of(error) is StatusCode.ABORTED:
                raise AttemptLostError(error) from None
            transaction.rollback()
            told = translate(error, self.database.target, "the transaction was committed")
            return self._ended_by(told)
        except _CommitLostError as lost:
            lease.lost = True  # its transaction may still be open there
            if (found := self._receipt_or_unknown(lost)) is not None:
                return self._from_receipt(found)
            # Running the body again is safe: should the lost commit land after all, the receipt's
            # key lets only one of the two in.
            raise AttemptLostError(lost.cause) from None
        except BaseException as interruption:  # noqa: BLE001 - settled, then raised again
            lease.lost = True
            return self._settle_interrupted(request, interruption)
        return self._result(transaction.id.hex(), committed_at)

    def _send_commit(self, request: CommitRequest, *, first: bool = True) -> datetime:
        """Send Commit; when its outcome is open, replay it. Return the commit timestamp.

        Raises:
            GoogleAPICallError: A status that proves "not committed", or ABORTED.
            _CommitLostError: Open, also after replay.
        """
        for replay in range(1 + _REPLAYS):
            patience = max(_LEAST_PATIENCE, min(self.options.rpc_timeout, self._time_left()))
            try:
                response = self.database.rpc.commit(request, timeout=patience)
            except GoogleAPICallError as error:
                status = status_of(error)
                proves = status is StatusCode.ABORTED or status in NOT_COMMITTED
                if first and proves and not lost_session(error):
                    raise
                self.in_doubt = True
                lost = _CommitLostError(error)
                # Replay helps against a lost reply only: no other answer is about the first send.
                if status not in TRANSIENT or self._time_left() < 0:
                    break
            except BaseException:
                self.in_doubt = True
                raise
            else:
                return as_datetime(response.commit_timestamp)
            first = False
            time.sleep(_FIRST_PAUSE * 4**replay)
        raise lost from None

    def _settle_interrupted(
        self, request: CommitRequest, interruption: BaseException
    ) -> TransactionResult:
        """Ctrl-C during Commit: settle it, note on the interruption what became of it."""
        with suppress(GoogleAPICallError, _CommitLostError, ValueError):  # the last: channel closed
            self._send_commit(request, first=False)
            self._settle(landed=True)
            if not isinstance(interruption, Exception):
                self._note(interruption, Outcome.COMMITTED)
                raise interruption
        return self._ended_by(interruption)

    def _receipt_of(self, transaction: Transaction, kept: str | None) -> Receipt:
        return Receipt(
            txn_id=self.call.txn_id,
            kind=EntryKind.COMMITTED,
            commit_timestamp=now(),
            operation_key=str(self.call.key),
            epoch=self.call.epoch,
            api_transaction_id=transaction.id.hex(),
            provenance=self.provenance,
            statements=transaction.statements,
            arguments_digest=self._digest,
            result=kept,
            undoes=self.options.undoes,
            client_version=__version__,
        )

    # -- the receipt wins

    def _time_left(self) -> float:
        return self._deadline + self.options.resolve_timeout - monotonic()

    def _receipt(self) -> Receipt | None:
        """Read this operation's receipt strongly; while the outcome is open, until time is up."""
        while True:
            try:
                return receipts.get(self.database, self.call.txn_id)
            except UnreachableError:
                if not self.in_doubt or self._time_left() < 0:
                    raise
            time.sleep(_LOOK_AGAIN)

    def _receipt_or_unknown(self, cause: BaseException) -> Receipt | None:
        try:
            return self._receipt()
        except SpanctlError:
            raise self._unknown(cause) from None

    def _ended_by(self, error: BaseException) -> TransactionResult:
        """Report what ended the attempt, unless the receipt says that the operation committed."""
        try:
            found = self._receipt()
        except SpanctlError:
            # Anything but silence may be the work of another executor that has committed.
            if self.fresh and not self.in_doubt and isinstance(error, _SILENCE):
                raise error from None
            raise self._open(error) from None
        if found is not None and isinstance(error, Exception):
            return self._from_receipt(found)
        if found is not None:
            self._settle(landed=found.kind is EntryKind.COMMITTED)
            self._note(error, found.kind)
        elif self.in_doubt:
            raise self._open(error) from None
        raise error

    def _open(self, error: BaseException) -> BaseException:
        """Return what to raise while the outcome is open: Ctrl-C stays what it is."""
        if isinstance(error, Exception):
            return self._unknown(error)
        self.in_doubt = True
        self._note(error, Outcome.UNKNOWN)
        return error

    def _note(self, error: BaseException, outcome: Outcome | EntryKind) -> None:
        error.add_note(f"transaction {self.call.txn_id}: {outcome}")

    def _from_receipt(self, found: Receipt) -> TransactionResult:
        self._settle(landed=found.kind is EntryKind.COMMITTED)
        if found.kind is EntryKind.FENCED:
            msg = f"operation {found.operation_key} is closed by the fence {found.txn_id}"
            hint = f"run: spanctl audit {found.txn_id}"
            raise KeyClosedError(msg, hint=hint, txn_id=found.txn_id)
        if found.api_transaction_id in self._sent:
            return self._result(found.api_transaction_id, found.commit_timestamp)
        if found.arguments_digest != self._digest:
            msg = f"operation {found.operation_key} was committed before with other arguments"
            hint = (
                f"run: spanctl audit {found.txn_id}; for another write use another key; what one"
                " step hands to the next needs keep_result, to be the same on a retry"
            )
            raise KeyReusedError(msg, hint=hint, txn_id=found.txn_id)
        return TransactionResult(
            txn_id=found.txn_id,
            commit_timestamp=found.commit_timestamp,
            attempts=self._attempts,
            replayed=True,
            row_counts=found.row_counts,
            result=json.loads(found.result) if found.result is not None else None,
        )

    def _result(self, api_transaction_id: str, committed_at: datetime) -> TransactionResult:
        self._settle(landed=True)
        sent = self._sent[api_transaction_id]
        return TransactionResult(
            txn_id=self.call.txn_id,
            commit_timestamp=committed_at,
            attempts=self._attempts,
            row_counts=sent.row_counts,
            result=sent.value,
        )

    def _settle(self, *, landed: bool) -> None:
        self.in_doubt, self._landed = False, landed

    def _unknown(self, cause: BaseException) -> OutcomeUnknownError:
        self.in_doubt = True
        host = self.database.target.host
        msg = f"the outcome of transaction {self.call.txn_id} is UNKNOWN: {host} can't be asked"
        hint = f"once it answers, run: spanctl audit {self.call.txn_id}"
        return OutcomeUnknownError(
            msg, hint=hint, txn_id=self.call.txn_id, cause=type(cause).__name__
        )

    # -- once more, or not

    def _gives_up(self, cause: GoogleAPICallError, lease: Lease) -> SpanctlError | None:
        """Return what to report; None, after a pause, to run the body again."""
        if (error := self._exhausted(cause)) is not None:
            return error
        self._pause(cause)
        try:
            if lost_session(cause):
                self.database.renew(lease)
            elif lease.lost:
                self.database.sessions.exchange(lease)
        except SpanctlError as refused:
            return refused
        return None

    def _exhausted(self, cause: GoogleAPICallError) -> SpanctlError | None:
        status = status_of(cause)
        self._aborts += status is StatusCode.ABORTED
        if monotonic() >= self._deadline:
            # After aborts the last RPC may end with the deadline: that is no silence of the server.
            if not self._aborts:
                return translate(cause, self.database.target, "a transaction was run")
            msg = f"transaction {self.call.txn_id} was aborted {self._aborts} times"
            hint = "others hold its locks; run it again when they are done"
            return DeadlineError(msg, hint=hint, txn_id=self.call.txn_id)
        lasting = status is not StatusCode.ABORTED and not lost_session(cause)
        if lasting and not self.in_doubt and self._attempts >= _TRANSIENT_ATTEMPTS:
            return translate(cause, self.database.target, "a transaction was run")
        return None

    def _pause(self, cause: GoogleAPICallError) -> None:
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._attempts, 16))
        jittered = random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        time.sleep(max(0.0, min(retry_delay(cause) or jittered, self._deadline - monotonic())))
