"""The receipt wins: whatever ended an attempt, what is reported is what the database says."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from spanctl import shelter
from spanctl.clock import monotonic
from spanctl.errors import (
    ArgumentChangedError,
    DeadlineError,
    KeyClosedError,
    KeyReusedError,
    NotPermittedError,
    OutcomeUnknownError,
    SchemaVersionError,
    SpanctlError,
    UnreachableError,
)
from spanctl.ledger.digests import arguments_digest, is_digest_of
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OUTSIDE
from spanctl.ledger.receipt import EntryKind, Outcome, Provenance, Receipt, TransactionResult
from spanctl.ledger.step_identity import difference
from spanctl.spanner import fence, receipts
from spanctl.spanner.operation import COPY_FIRST, Call, Identified, TransactionOptions

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_LOOK_AGAIN: Final = 0.1
_LOOK_UP: Final = 10.0
_LEAST_PATIENCE: Final = 1.0
_SILENCE: Final = (UnreachableError, NotPermittedError, DeadlineError)
"""What a database that can't be asked ends an attempt with."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What an attempt of this very call would return, should its commit turn out to have landed."""

    value: Any
    row_counts: tuple[int, ...]
    over: Callable[[], None]
    """Notes that it has landed, so that its transaction is no longer open."""


class NextEpochError(Exception):
    """The epoch was fenced, and the operation goes on in the next one: the body is run again."""


@dataclass(slots=True, kw_only=True)
class Resolution:
    """What is known of one operation while it is executed, and how its outcome is found.

    Attributes:
        database: Where it runs.
        call: The operation, in the epoch that counts as far as is known.
        options: Deadlines and what to keep.
        provenance: Where it comes from; goes into the receipt.
        fresh: Whether nobody can have run this operation before, so that no receipt is looked for
            first.
        arguments: What the body was called with; None when there is nothing to compare.
        identified: Which function the body is; None when there is nothing to compare.
        lease_anew: Leases the operation once more, for the epoch in which it goes on behind a
            fence: an older lease holds nothing of that.
        in_doubt: Whether the outcome is open: a Commit was sent whose reply did not tell, or the
            receipt that would tell can't be read.
    """

    database: "Database"
    call: Call
    options: TransactionOptions
    provenance: Provenance
    fresh: bool
    lease_anew: Callable[[Call], None]
    arguments: Mapping[str, Any] | None = None
    identified: Identified | None = None
    in_doubt: bool = False
    _fenced: bool = False
    _landed: bool = False
    _elsewhere: bool = False
    _attempts: int = 0
    _deadline: float = 0.0
    _digest: str | None = None
    _identity: str | None = None
    _sent: dict[str, Sent] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """What came of the operation, as far as was found out before its run returned or raised.

        NOT_COMMITTED speaks of this call: a later one may still commit the operation.
        """
        if self.in_doubt:
            return Outcome.UNKNOWN
        return Outcome.COMMITTED if self._landed else Outcome.NOT_COMMITTED

    def _time_left(self) -> float:
        return self._deadline + self.options.resolve_timeout - monotonic()

    # -- what stands in the ledger

    def _receipt(self) -> Receipt | None:
        """Read the operation's entry strongly: its receipt, or a fence that closes it.

        A fence that lets it go on takes it to the next epoch: what was sent before can't land.
        """
        while True:
            found = receipts.get(self.database, self.call.txn_id, timeout=self._patience())
            if found is None or found.kind is EntryKind.COMMITTED:
                return found
            if not fence.is_passed(self.database, found, timeout=self._patience()):
                return found
            self.call = replace(self.call, epoch=found.epoch + 1)
            self.in_doubt = False
            # Whoever meets a fence may count as dead by now: its next lease says so.
            self._fenced = True

    def _until_told(self, look: "Callable[[], Receipt | None]") -> Receipt | None:
        """Look until time is up, whatever a single read answers."""
        while True:
            if (mine := shelter.current()) is not None and mine.is_asked:
                self._deadline = min(self._deadline, monotonic())
            try:
                return look()
            except SchemaVersionError:
                raise
            except SpanctlError:
                if self._time_left() < 0:
                    raise
            time.sleep(_LOOK_AGAIN)

    def _patience(self) -> float:
        return max(_LEAST_PATIENCE, min(_LOOK_UP, self._time_left()))

    def _receipt_or_unknown(self, cause: BaseException) -> Receipt | None:
        try:
            return self._until_told(self._receipt)
        except SpanctlError:
            raise self._unknown(cause) from None

    def _final(self) -> Receipt | None:
        """Return the entry that settles the operation; None when this call's attempts are over.

        While a commit of this call may still be on its way, a fence sees to it that it never lands.
        """
        found = self._receipt()
        if found is not None or not self.in_doubt or self._elsewhere:
            return found
        stands = fence.place(
            self.database,
            self.call,
            author=Author.EXECUTOR,
            provenance=self.provenance,
            timeout=max(_LEAST_PATIENCE, self._time_left()),
        )
        self.in_doubt = False
        committed = stands.kind is EntryKind.COMMITTED
        closed = not committed and not fence.is_passed(self.database, stands)
        return stands if committed or closed else None

    # -- what is reported

    def _ended_by(self, error: Exception) -> TransactionResult:
        """Report what ended the attempts, unless the ledger says otherwise.

        Raises:
            NextEpochError: Somebody fenced the epoch, and there is time to go on in the next one.
        """
        epoch = self.call.epoch
        # Anything but silence may be the work of another executor that has committed.
        nothing_sent = self.fresh and not self.in_doubt and isinstance(error, _SILENCE)
        try:
            found = self._final() if nothing_sent else self._until_told(self._final)
        except SpanctlError:
            if nothing_sent and not self.in_doubt:
                raise error from None
            raise self._unknown(error) from None
        if found is not None:
            return self._from_receipt(found)
        if self.in_doubt:
            raise self._unknown(error) from None
        if self.call.epoch != epoch and monotonic() < self._deadline:
            raise NextEpochError
        raise error

    def _note(self, interruption: BaseException) -> None:
        """Say on an interruption what became of the transaction."""
        outcome = self.outcome
        told = f"transaction {self.call.txn_id}: {outcome}"
        if outcome is Outcome.UNKNOWN:
            told = f"{told}; run: spanctl txn resolve {self.call.txn_id}"
        interruption.add_note(told)

    def _from_receipt(self, found: Receipt) -> TransactionResult:
        self._settle(landed=found.kind is EntryKind.COMMITTED)
        if found.kind is EntryKind.FENCED:
            msg = f"operation {found.operation_key} is closed by the fence {found.txn_id}"
            hint = f"to let it run again: spanctl txn reopen {found.txn_id} --reason WHY"
            if run := found.provenance.root_run:
                hint = f"{hint}, or with --flow-run {run} all that was closed of that run"
            raise KeyClosedError(msg, hint=hint, txn_id=found.txn_id)
        if found.api_transaction_id in self._sent:
            return self._result(found.api_transaction_id, found.commit_timestamp)
        if (refused := self._refusal(found)) is not None:
            raise refused
        return self._replayed(found)

    def _replayed(self, found: Receipt) -> TransactionResult:
        return TransactionResult(
            txn_id=found.txn_id,
            commit_timestamp=found.commit_timestamp,
            attempts=self._attempts,
            replayed=True,
            row_counts=found.row_counts,
            result=json.loads(found.result) if found.result is not None else None,
        )

    # -- whose operation it is

    def _taken(self) -> str | None:
        """Return the digest of the arguments as they are now; None when there are none."""
        if self.arguments is None:
            return None
        names = self.identified.names if self.identified else None
        return arguments_digest(self.database.ledger.key, self.arguments, names)

    def _changed(self) -> ArgumentChangedError:
        msg = f"the body of {self.call.key} changed its arguments, so it can't be run again"
        return ArgumentChangedError(msg, hint=COPY_FIRST, txn_id=self.call.txn_id)

    def _refusal(self, found: Receipt) -> KeyReusedError | None:
        """Return why a receipt is not the one of this call; None when it is."""
        look = f"run: spanctl audit {found.txn_id}"
        if other := difference(found.step_identity, self._identity):
            msg = f"operation {found.operation_key} was committed before by {other}"
            hint = f"{look}; for another write use another key"
            if self.call.key.root == OUTSIDE:
                hint = f"{look}; give the job a name: with spanctl.flows.using(job=...)"
            return KeyReusedError(msg, hint=hint, txn_id=found.txn_id)
        key = self.database.ledger.key
        if is_digest_of(found.arguments_digest, key, self.arguments, self._digest):
            return None
        msg = f"operation {found.operation_key} was committed before with other arguments"
        hint = f"{look}; for another write use another key"
        if self.identified is not None:  # a step of a flow; SQL is handed nothing by another
            hint += "; what one step hands to the next needs keep_result, to be the same on a retry"
        return KeyReusedError(msg, hint=hint, txn_id=found.txn_id)

    def _from_unnamed(self) -> TransactionResult | None:
        """Return what was committed of the operation before its job had a name, if it was."""
        if self.identified is None or self.identified.unnamed is None:
            return None
        found = fence.standing(self.database, self.identified.unnamed).entry
        if found is None or (found.kind is EntryKind.COMMITTED and self._refusal(found)):
            return None
        self.call = Call(self.identified.unnamed, found.epoch)
        return self._from_receipt(found)

    def _result(self, api_transaction_id: str, committed_at: datetime) -> TransactionResult:
        self._settle(landed=True)
        sent = self._sent[api_transaction_id]
        sent.over()
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
        hint = f"once it answers, run: spanctl txn resolve {self.call.txn_id}"
        return OutcomeUnknownError(
            msg, hint=hint, txn_id=self.call.txn_id, cause=type(cause).__name__
        )
