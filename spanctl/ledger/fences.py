"""Fences: tombstones that make "not committed" final, and what opens an operation behind one.

A fence stands under the txn ID of one epoch of an operation: nothing else can ever commit there.
One that an executor placed for its own attempt leaves the operation open: it goes on in the next
epoch. An operator's closes it, until an entry of its own says that it was reopened.
"""

import json
from enum import StrEnum
from typing import Final

from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.ledger.receipt import EntryKind, Receipt

_ROOT: Final = "spanctl"
_STEP: Final = "reopen"
_MEMBER: Final = "fenced_by"


class Author(StrEnum):
    """Who placed a fence."""

    EXECUTOR = "executor"
    OPERATOR = "operator"


def note(author: Author) -> str:
    """Return what a fence's row keeps of its author, as JSON text."""
    return json.dumps({_MEMBER: author.value}, separators=(",", ":"))


def author_of(fence: Receipt) -> Author:
    """Return who placed a fence; who doesn't say so counts as an operator, whose word is final."""
    try:
        return Author(json.loads(fence.result or "{}")[_MEMBER])
    except (ValueError, KeyError, TypeError):
        return Author.OPERATOR


def closes(entry: Receipt) -> bool:
    """Tell whether an entry closes its operation, unless that was reopened since."""
    return entry.kind is EntryKind.FENCED and author_of(entry) is Author.OPERATOR


def reopening_key(fenced: str) -> OperationKey:
    """Return the operation key of the entry that reopens what a fence closed.

    Args:
        fenced: The fence's txn ID.
    """
    return OperationKey(_ROOT, (), _STEP, fenced)


def reopening_id(fenced: str) -> str:
    """Return the txn ID of the entry that reopens what a fence closed."""
    return txn_id(reopening_key(fenced))


def reopened_by(entry: Receipt) -> str | None:
    """Return the txn ID of the fence that an entry reopens; None when it reopens none."""
    prefix, separator, fenced = entry.operation_key.partition("=")
    if separator and prefix == reopening_key("-").prefix and entry.kind is EntryKind.COMMITTED:
        return fenced
    return None
