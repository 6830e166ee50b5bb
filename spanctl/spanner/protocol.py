"""The transaction protocol: a body runs, and its one commit carries its receipt.

In short (the reasons are in ``docs/PROTOCOL.md``):

1. The receipt is a plain insert under the operation's txn ID, in the body's own commit; it can be
   inserted once, so the operation commits at most once, whoever runs it and however often.
2. Commit is sent by us, once at a time. Its OK means COMMITTED; an allow-listed status that answers
   the first and only send means NOT_COMMITTED; ABORTED runs the whole body again. All else is
   ambiguous: the same Commit is replayed, then the receipt is read, then the body is run again;
   where that can't be, a fence makes "not committed" final.
3. Whatever ends an attempt other than that OK, the receipt is read before anything is reported.
4. On every path that is neither OK nor ambiguous, Rollback is sent at once; never after an
   ambiguous Commit.
"""

import inspect
import json
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import CommitRequest, Mutation
from grpc import StatusCode

from spanctl import __version__, interrupts, shelter
from spanctl.clock import monotonic, now
from spanctl.errors import ConflictError, DeadlineError, SpanctlError, UsageError
from spanctl.ledger.canonical import result_json
from spanctl.ledger.receipt import EntryKind, Receipt, TransactionResult
from spanctl.spanner import nulls, preflight, receipts, values
from spanctl.spanner.attempt import AttemptLostError
from spanctl.spanner.failures import lost_session, translate
from spanctl.spanner.opened import OVER
from spanctl.spanner.resolution import NextEpochError, Resolution, Sent
from spanctl.spanner.retrying import TRANSIENT, Pauses
from spanctl.spanner.rows import as_datetime
from spanctl.spanner.rpc import status_of
from spanctl.spanner.sessions import Lease
from spanctl.spanner.transaction import Transaction

T = TypeVar("T")

_REPLAYS: Final = 3
_TRANSIENT_ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 1.0
_LEAST_PATIENCE: Final = 1.0
_COMMIT: Final = 30.0
"""Seconds to wait for the reply to a Commit before it is sent again."""
_PARTING: Final = 5.0
"""Seconds in which the Commit that was interrupted is replayed."""


def _refuse_unrun(value: object) -> None:
    """Refuse a body that only made what would do the work, such as a coroutine.

    Raises:
        UsageError: It is awaited or iterated over by nobody, so nothing was done.
    """
    if isinstance(value, Coroutine | Generator):
        value.close()  # or Python warns that nobody awaited it
    elif not (inspect.isawaitable(value) or isinstance(value, AsyncGenerator)):
        return
    msg = f"the body returned a {type(value).__name__}, whose code has not run"
    raise UsageError(msg, hint="write it with def, and return a value or a list")


class _CommitLostError(Exception):
    """The commit's outcome is open: replay did not tell."""

    def __init__(self, cause: GoogleAPICallError) -> None:
        super().__init__(status_of(cause).name)
        self.cause = cause


class _EndedError(Exception):
    """The attempts are over, and this is why; not yet what is reported."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


@dataclass(slots=True, kw_only=True)
class Execution(Resolution, Generic[T]):
    """One leased operation that is run, from start to outcome.

    Attributes:
        body: The user's function.
    """

    body: Callable[[Transaction], T]
    _aborts: int = 0
    _pauses: Pauses | None = None
    _transaction: Transaction | None = None
    _request: CommitRequest | None = None

    def run(self) -> TransactionResult:
        """Run the body until its outcome is known.

        Raises:
            KeyReusedError: The key was used before with other arguments, or by another function.
            ArgumentChangedError: The body changed its arguments, so it can't be run again.
            KeyClosedError: An operator's fence closes the operation.
            OutcomeUnknownError: The database could not be reached to find out.
            DeadlineError: Every attempt was aborted until the deadline; not committed.
            LimitError: It is over one of Spanner's limits; Commit was not sent.
            SpanctlError: Spanner refused or could not be reached; not committed.
            Exception: What the body raised; not committed.
            BaseException: Ctrl-C and the like; a note on it says what became of the transaction.
        """
        try:  # around the block's end too: what is raised as it is left comes after the Commit
            with interrupts.flying(lambda: self.call.txn_id):
                return self._run()
        except Exception:
            raise
        except BaseException as interruption:
            with interrupts.flying(lambda: self.call.txn_id), interrupts.shielded():
                self._settle_interrupted()
                self._note(interruption)
            raise

    def _run(self) -> TransactionResult:
        self._deadline = monotonic() + self.options.deadline
        self._digest = self._taken()
        if self.identified is not None:
            self._identity = self.identified.step.sealed(self.database.ledger.key)
        if not self.fresh and (found := self._receipt()) is not None:
            return self._from_receipt(found)
        if (replayed := self._from_unnamed()) is not None:
            return replayed
        # Asked for now: the transaction would have to wait for the issuer's answer.
        self.database.actors.acting()
        if self.provenance.initiator is None:
            self.provenance = self.database.actors.asked(self.provenance)
        while True:
            try:
                # On no session: what leases takes one of its own, and all may be on loan.
                if self._fenced:
                    self._go_on()
                with self.database.sessions.writer(self.options.deadline) as lease:
                    return self._on_session(lease)
            except NextEpochError:
                continue
            except _EndedError as ended:
                cause = ended.cause
            with suppress(NextEpochError), interrupts.shielded():
                return self._ended_by(cause)

    def _on_session(self, lease: Lease) -> TransactionResult:
        while True:
            try:
                return self._attempt(lease)
            except AttemptLostError as lost:
                if (error := self._gives_up(lost.cause, lease)) is not None:
                    raise _EndedError(error) from None
                if self._fenced:
                    raise NextEpochError from None

    def _attempt(self, lease: Lease) -> TransactionResult:
        self._attempts += 1
        if self._attempts > 1 and self._taken() != self._digest:
            raise _EndedError(self._changed())
        self._request = None
        self._transaction = transaction = Transaction(
            self.database.rpc,
            self.database.target,
            lease.name,
            txn_id=self.call.txn_id,
            tag=self.provenance.tag,
            deadline=self._deadline,
            rpc_timeout=self.options.rpc_timeout,
            idle_limit=self.options.idle_limit,
        )
        try:
            value = shelter.interruptible(lambda: self.body(transaction))
            _refuse_unrun(value)
            kept = result_json(value) if self.options.keep_result else None
            preflight.check(self.database.tables, transaction.writes, transaction.mutations)
            nulls.refuse(self.database, transaction)
            self.database.sessions.admit(lease, max(_LEAST_PATIENCE, self._time_left()))
            transaction.conclude()
            self.database.rpc.authenticate()  # a Commit that can't be sent would be in doubt
            request = self._request_of(transaction, lease, kept)
        except AttemptLostError as lost:
            if status_of(lost.cause) is not StatusCode.ABORTED:
                self._roll_back(transaction)
            raise
        except Exception as error:  # noqa: BLE001 - the body's own; told once the receipt was read
            self._roll_back(transaction)
            raise _EndedError(error) from None
        finally:
            lease.lost |= transaction.orphaned
        returned = json.loads(kept) if kept is not None else value
        self._sent[transaction.id.hex()] = Sent(returned, transaction.row_counts, transaction.over)
        return self._commit(request, transaction, lease)

    def _go_on(self) -> None:
        try:
            self.lease_anew(self.call)
        except SpanctlError as error:
            raise _EndedError(error) from None
        self._fenced = False

    def _roll_back(self, transaction: Transaction) -> None:
        with interrupts.shielded():
            transaction.rollback()

    # -- commit

    def _request_of(
        self, transaction: Transaction, lease: Lease, kept: str | None
    ) -> CommitRequest:
        request = CommitRequest()
        message = CommitRequest.pb(request)  # filling the plain message is ten times as fast
        message.session = lease.name
        message.transaction_id = transaction.id
        message.mutations.extend(Mutation.pb(one) for one in transaction.mutations)
        message.request_options.transaction_tag = self.provenance.tag or ""
        insert = message.mutations.add().insert
        insert.table = receipts.TABLE
        written = receipts.insert(self._receipt_of(transaction, kept))
        insert.columns.extend(written)
        insert.values.append(values.encode_row(written.values()))
        return request

    def _commit(
        self, request: CommitRequest, transaction: Transaction, lease: Lease
    ) -> TransactionResult:
        try:
            committed_at = self._send_commit(request)
        except GoogleAPICallError as error:
            transaction.over()
            if status_of(error) is StatusCode.ABORTED:
                raise AttemptLostError(error) from None
            self._roll_back(transaction)
            told = translate(error, self.database.target, "the transaction was committed")
            raise _EndedError(told) from None
        except _CommitLostError as lost:
            lease.lost = True  # its transaction may still be open there
            with interrupts.shielded():
                found = self._receipt_or_unknown(lost)
            if found is not None:
                return self._from_receipt(found)
            # Running the body again is safe: should the lost commit land after all, the receipt's
            # key lets only one of the two in.
            raise AttemptLostError(lost.cause) from None
        except Exception as error:  # noqa: BLE001 - told once the outcome was found out
            lease.lost = True
            raise _EndedError(error) from None
        except BaseException:
            lease.lost = True
            raise
        return self._result(transaction.id.hex(), committed_at)

    def _send_commit(
        self, request: CommitRequest, *, first: bool = True, longest: float | None = None
    ) -> datetime:
        """Send Commit; when its outcome is open, replay it. Return the commit timestamp.

        The outcome counts as open from the moment at which it is sent, until the caller settles it.

        Raises:
            GoogleAPICallError: A status that proves "not committed", or ABORTED.
            _CommitLostError: Open, also after replay.
        """
        doubt, self.in_doubt, self._request = self.in_doubt, True, request
        longest = longest or min(_COMMIT, self.options.rpc_timeout)
        looking_up = self.options.resolve_timeout / 2  # without an answer there must be time for it
        for replay in range(1 + _REPLAYS):
            patience = max(_LEAST_PATIENCE, min(longest, self._time_left() - looking_up))
            try:
                response = self.database.rpc.commit(request, timeout=patience)
            except GoogleAPICallError as error:
                status = status_of(error)
                if first and status in OVER and not lost_session(error):
                    self.in_doubt, self._request = doubt, None
                    raise
                lost = _CommitLostError(error)
                # Replay helps against a lost reply only: no other answer is about the first send.
                # Nor is UNAUTHENTICATED, but by now the token is another one.
                again = status in TRANSIENT or status is StatusCode.UNAUTHENTICATED
                if not again or self._time_left() < 0:
                    break
            else:
                return as_datetime(response.commit_timestamp)
            first = False
            time.sleep(_FIRST_PAUSE * 4**replay)
        raise lost from None

    def _settle_interrupted(self) -> None:
        """Roll back, or find out what became of the Commit: in seconds, and without raising."""
        if self._landed:
            return
        self._deadline = min(self._deadline, monotonic())
        request = self._request
        if request is None and self._transaction is not None:
            self._transaction.rollback()
        if request is not None and self.in_doubt:
            with suppress(GoogleAPICallError, _CommitLostError, ValueError):  # the last: closed
                self._send_commit(request, first=False, longest=_PARTING)
                self._settle(landed=True)
                self._sent[request.transaction_id.hex()].over()
                return
        try:
            found = self._until_told(self._final) if self.in_doubt else self._final()
        except (SpanctlError, ValueError):
            self.in_doubt |= not self.fresh
        else:
            if found is not None:
                self._settle(landed=found.kind is EntryKind.COMMITTED)

    def _receipt_of(self, transaction: Transaction, kept: str | None) -> Receipt:
        return Receipt(
            txn_id=self.call.txn_id,
            kind=EntryKind.COMMITTED,
            commit_timestamp=now(),
            operation_key=str(self.call.key),
            epoch=self.call.epoch,
            api_transaction_id=transaction.id.hex(),
            provenance=self.database.actors.written(self.provenance),
            statements=transaction.statements,
            arguments_digest=self._digest,
            result=kept,
            undoes=self.options.undoes,
            client_version=__version__,
            step_identity=self._identity,
        )

    # -- once more, or not

    def _gives_up(self, cause: GoogleAPICallError, lease: Lease) -> SpanctlError | None:
        """Return what to report; None, after a pause, to run the body again."""
        if (error := self._exhausted(cause)) is not None:
            return error
        if self._pauses is None:
            self._pauses = Pauses(self._deadline, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE)
        if not self._pauses.take(cause):
            return self._out_of_time(cause)
        try:
            if lost_session(cause):
                self.database.renew(lease)
            elif lease.lost:
                patience = max(_LEAST_PATIENCE, self._deadline - monotonic())
                self.database.sessions.exchange(lease, timeout=patience)
        except ConflictError as refused:
            self._elsewhere = True  # what this ledger says is nothing about the other one
            return refused
        except SpanctlError as refused:
            return refused
        return None

    def _exhausted(self, cause: GoogleAPICallError) -> SpanctlError | None:
        status = status_of(cause)
        self._aborts += status is StatusCode.ABORTED
        if monotonic() >= self._deadline:
            return self._out_of_time(cause)
        lasting = status is not StatusCode.ABORTED and not lost_session(cause)
        if lasting and not self.in_doubt and self._attempts >= _TRANSIENT_ATTEMPTS:
            return translate(cause, self.database.target, "a transaction was run")
        return None

    def _out_of_time(self, cause: GoogleAPICallError) -> SpanctlError:
        # After aborts the last RPC may end with the deadline: that is no silence of the server.
        if not self._aborts:
            given = self.options.deadline
            return translate(cause, self.database.target, "a transaction was run", given=given)
        msg = f"transaction {self.call.txn_id} was aborted {self._aborts} times"
        hint = "others hold its locks; run it again when they are done"
        return DeadlineError(msg, hint=hint, txn_id=self.call.txn_id)
