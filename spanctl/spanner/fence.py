"""Fences in Spanner: place one, find out where an operation stands behind them, open it again.

A look-up that finds no receipt proves nothing while a commit may still be on its way. A fence
takes the receipt's place: whoever comes second meets ALREADY_EXISTS.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from google.cloud.spanner_v1.types import Mutation

from spanctl import __version__
from spanctl.clock import now
from spanctl.errors import ConflictError, VerificationError
from spanctl.ledger import fences
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import EntryKind, Provenance, Receipt
from spanctl.spanner import receipts
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.operation import Call

if TYPE_CHECKING:
    from spanctl.spanner.client import Database

_BATCH: Final = 500
TIMEOUT: Final = 60.0
"""Seconds to try: a lock of a killed client is held until the server's idle limit."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an operation stands.

    Attributes:
        call: The operation in the epoch that counts.
        entry: The receipt or the closing fence there; None while it is open.
        reopened: When an operator last opened it again; None when nobody did. What executors
            leased before that they have leased anew, if they went on.
    """

    call: Call
    entry: Receipt | None
    reopened: datetime | None = None

    @property
    def is_closed(self) -> bool:
        """Whether an operator's fence closes it."""
        return self.entry is not None and self.entry.kind is EntryKind.FENCED


def standing(database: "Database", key: OperationKey) -> Standing:
    """Return where an operation stands, read strongly; an entry there is final.

    Raises:
        SpanctlError: The database could not be read.
    """
    return standings(database, [key])[key]


def standings(
    database: "Database", keys: Iterable[OperationKey], *, timeout: float = 30.0
) -> dict[OperationKey, Standing]:
    """Return where each of these operations stands, as :func:`standing` does.

    Each read takes at most ``timeout`` seconds.
    """
    found: dict[OperationKey, Standing] = {}
    opened: dict[OperationKey, datetime] = {}
    calls = [Call(key) for key in dict.fromkeys(keys)]
    while calls:
        entries = receipts.get_many(database, [call.txn_id for call in calls], timeout=timeout)
        closing = [
            fences.reopening_id(one.txn_id) for one in entries.values() if fences.closes(one)
        ]
        reopened = receipts.get_many(database, closing, timeout=timeout) if closing else {}
        later = []
        for call in calls:
            entry = entries.get(call.txn_id)
            passed = entry is not None and entry.kind is EntryKind.FENCED
            if entry is not None and passed and fences.closes(entry):
                reopening = reopened.get(fences.reopening_id(entry.txn_id))
                passed = reopening is not None
                if reopening is not None:
                    opened[call.key] = reopening.commit_timestamp
            if passed:
                later.append(replace(call, epoch=call.epoch + 1))
            else:
                found[call.key] = Standing(call, entry, opened.get(call.key))
        calls = later
    return found


def is_passed(database: "Database", entry: Receipt, *, timeout: float = 30.0) -> bool:
    """Tell whether an entry is a fence that lets its operation go on in the next epoch.

    Raises:
        SpanctlError: The database could not be read.
    """
    if entry.kind is not EntryKind.FENCED:
        return False
    if not fences.closes(entry):
        return True
    reopening = fences.reopening_id(entry.txn_id)
    return receipts.get(database, reopening, timeout=timeout) is not None


def place(
    database: "Database",
    call: Call,
    *,
    author: Author,
    provenance: Provenance,
    timeout: float = TIMEOUT,
) -> Receipt:
    """Fence an operation, and return what stands under its txn ID then, for good.

    That is the fence, or what came before it: the operation's own receipt, or another fence.

    Args:
        database: Where.
        call: The operation, in the epoch that is fenced.
        author: On whose behalf.
        provenance: Who, and why.
        timeout: Seconds to try.

    Raises:
        UnreachableError: Spanner did not answer in time; the fence may be there all the same.
        SpanctlError: Spanner refused.
    """
    return _stand(database, _fence(call, author, provenance), timeout)


def _fence(call: Call, author: Author, provenance: Provenance) -> Receipt:
    return Receipt(
        txn_id=call.txn_id,
        kind=EntryKind.FENCED,
        commit_timestamp=now(),
        operation_key=str(call.key),
        epoch=call.epoch,
        provenance=provenance,
        result=fences.note(author),
        client_version=__version__,
    )


def place_all(
    database: "Database",
    calls: Mapping[Call, Provenance],
    *,
    author: Author,
    closing: Sequence[Mutation] = (),
    timeout: float = TIMEOUT,
) -> None:
    """Fence many operations, in few commits; what has its receipt by then keeps it.

    Args:
        database: Where.
        calls: The operations, each in the epoch that is fenced, and whose each is, and why.
        author: On whose behalf.
        closing: What else the last of the commits does.
        timeout: Seconds to try, for each commit.

    Raises:
        UnreachableError: Spanner did not answer in time; some may be there all the same.
        VerificationError: Spanner says that one is there, and there is none.
        SpanctlError: Spanner refused.
    """
    listed, doing = list(calls), "fences were placed"
    for start in range(0, max(1, len(listed)), _BATCH):
        left = listed[start : start + _BATCH]
        also = closing if start + _BATCH >= len(listed) else ()
        while True:
            made = [_insert(database, _fence(one, author, calls[one])) for one in left] + [*also]
            if not made or apply(database, made, timeout=timeout, doing=doing, settling=True):
                break
            # A receipt was faster, or these fences are there from an earlier send.
            found = receipts.get_many(database, [one.txn_id for one in left], timeout=timeout)
            if not found:
                msg = f"none of {len(left):,} entries is there, and one can't be inserted"
                raise VerificationError(msg, hint="look again: spanctl txn list")
            left = [one for one in left if one.txn_id not in found]


def close(
    database: "Database",
    key: OperationKey,
    *,
    provenance: Provenance,
    author: Author = Author.OPERATOR,
    timeout: float = TIMEOUT,
) -> Standing:
    """Fence an operation in the epoch that counts; return what stands there.

    The entry is the fence, or the receipt of a commit that was faster. An operator's fence closes
    the operation; an executor's lets it go on in the next epoch.

    Raises:
        SpanctlError: As :func:`place` raises.
    """
    provenance = database.actors.asked(provenance)
    while True:
        found = standing(database, key)
        if found.entry is not None:
            return found
        entry = place(database, found.call, author=author, provenance=provenance, timeout=timeout)
        if author is Author.EXECUTOR or not is_passed(database, entry):
            return Standing(found.call, entry, found.reopened)


def reopen(
    database: "Database", key: OperationKey, *, provenance: Provenance, timeout: float = TIMEOUT
) -> tuple[Receipt, Receipt]:
    """Open an operation that an operator closed; return the fence and the entry that reopens it.

    Raises:
        ConflictError: It is not closed: it is committed, or open.
        SpanctlError: As :func:`place` raises.
    """
    found = standing(database, key)
    if found.entry is None:
        msg = f"operation {key} is not closed"
        raise ConflictError(msg, hint="it may be run as it is", txn_id=found.call.txn_id)
    if not found.is_closed:
        msg = f"operation {key} is committed by {found.entry.txn_id}"
        hint = f"run: spanctl audit {found.entry.txn_id}"
        raise ConflictError(msg, hint=hint, txn_id=found.entry.txn_id)
    reopening = fences.reopening_key(found.entry.txn_id)
    provenance = database.actors.asked(provenance)
    entry = Receipt(
        txn_id=fences.reopening_id(found.entry.txn_id),
        kind=EntryKind.COMMITTED,
        commit_timestamp=now(),
        operation_key=str(reopening),
        provenance=provenance,
        client_version=__version__,
    )
    return found.entry, _stand(database, entry, timeout)


def _insert(database: "Database", entry: Receipt) -> Mutation:
    entry = replace(entry, provenance=database.actors.written(entry.provenance))
    return mutation("insert", receipts.TABLE, receipts.insert(entry))


def _stand(database: "Database", entry: Receipt, timeout: float) -> Receipt:
    insert = _insert(database, entry)
    apply(database, [insert], timeout=timeout, doing="a fence was placed", settling=True)
    stands = receipts.get(database, entry.txn_id, timeout=timeout)
    if stands is None:
        msg = f"the ledger lost entry {entry.txn_id}"
        hint = "was the database made anew or restored? look again: spanctl txn list"
        raise VerificationError(msg, hint=hint)
    return stands
