"""What a fence says of its author, and which entry reopens it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from spanctl.ledger import fences
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import is_txn_id
from spanctl.ledger.receipt import EntryKind, Receipt

FENCE = Receipt(
    txn_id="7f9c24e8-3b13-5fb4-9a1e-1f0a4d1f8a11",
    kind=EntryKind.FENCED,
    commit_timestamp=datetime(2026, 11, 22, tzinfo=UTC),
    operation_key="run/pay#0",
)


@pytest.mark.parametrize("author", Author)
def test_the_author_comes_back(author: Author) -> None:
    """What is noted is what is read; only an operator's fence closes."""
    fence = replace(FENCE, result=fences.note(author))
    assert fences.author_of(fence) is author
    assert fences.closes(fence) is (author is Author.OPERATOR)


@pytest.mark.parametrize("result", [None, "", "{}", "[]", "null", '{"fenced_by":"x"}', "{"])
def test_a_fence_that_names_nobody_closes(result: str | None) -> None:
    """In doubt a fence is final."""
    assert fences.closes(replace(FENCE, result=result))


def test_a_receipt_closes_nothing() -> None:
    """Whatever a body returned, its receipt is no fence."""
    receipt = replace(FENCE, kind=EntryKind.COMMITTED, result=fences.note(Author.OPERATOR))
    assert not fences.closes(receipt)


def test_the_reopening_entry_is_found_from_the_fence_and_back() -> None:
    """Its ID follows from the fence's; its operation key names the fence."""
    identifier = fences.reopening_id(FENCE.txn_id)
    assert is_txn_id(identifier)
    assert identifier != FENCE.txn_id
    entry = replace(
        FENCE,
        txn_id=identifier,
        kind=EntryKind.COMMITTED,
        operation_key=str(fences.reopening_key(FENCE.txn_id)),
    )
    assert fences.reopened_by(entry) == FENCE.txn_id
    assert fences.reopened_by(FENCE) is None
    assert fences.reopened_by(replace(FENCE, operation_key="a/reopen=b")) is None
