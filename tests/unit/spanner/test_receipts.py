"""Receipts as rows, and the look-ups over them, without a server."""

import dataclasses
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest

from spanctl.errors import SchemaVersionError, UsageError
from spanctl.ledger.receipt import (
    EntryKind,
    Provenance,
    Receipt,
    Standing,
    Statement,
    StatementKind,
)
from spanctl.spanner import receipts

MOMENT = datetime(2026, 1, 31, 8, 0, 0, 123456, UTC)
FULL = Receipt(
    txn_id="0e8fb6ce-7b0d-5d62-9b0c-6b8d2a4c9e11",
    kind=EntryKind.COMMITTED,
    commit_timestamp=MOMENT,
    operation_key="run/step#0",
    epoch=2,
    api_transaction_id="ab12",
    provenance=Provenance(
        initiator="anna",
        initiator_standing=Standing.PROVEN,
        initiator_chain=("signer",),
        initiator_claim="anna@laptop",
        executor="worker",
        executor_standing=Standing.PROVEN,
        executor_chain=("anna", "delegate"),
        executor_chain_standing=Standing.PROVEN,
        executor_claim="worker@host pid 1",
        attestation="a.b.c",
        root_run="r",
        flow_run="f",
        flow="flow",
        deployment="d",
        task_run="t",
        task="task",
        attempt=3,
        reason="because",
        tag="tag",
    ),
    statements=(
        Statement(kind=StatementKind.UPDATE, tables=("t", "ü"), digest="d", sql="UPDATE t", rows=0),
        Statement(kind=StatementKind.INSERT, tables=("t",), parameters=("k",), rows=5),
    ),
    arguments_digest="a" * 64,
    result='{"ok":true}',
    undoes="1e8fb6ce-7b0d-5d62-9b0c-6b8d2a4c9e11",
    client_version="0.1.0",
    step_identity="1 payments:pay",
)
BARE = Receipt(
    txn_id=FULL.txn_id, kind=EntryKind.FENCED, commit_timestamp=MOMENT, operation_key="k"
)


def _stored(receipt: Receipt) -> list[Any]:
    values = list(receipts.row(receipt))
    values[receipts.COLUMNS.index("commit_timestamp")] = receipt.commit_timestamp
    return values


@pytest.mark.parametrize("receipt", [FULL, BARE])
def test_round_trip(receipt: Receipt) -> None:
    """A receipt that is written and read again is the same, with every field."""
    assert receipts.receipt(_stored(receipt)) == receipt


def test_no_field_is_forgotten() -> None:
    """The full receipt above sets every field, so the round trip proves every one."""
    assert all(getattr(FULL, field.name) for field in dataclasses.fields(FULL))
    assert all(
        getattr(FULL.provenance, field.name) for field in dataclasses.fields(FULL.provenance)
    )


def test_spanner_fills_in_the_time() -> None:
    """The commit timestamp is never the client's."""
    index = receipts.COLUMNS.index("commit_timestamp")
    assert receipts.row(FULL)[index] == "spanner.commit_timestamp()"


@pytest.mark.parametrize(
    ("column", "value"),
    [("kind", "STARTED"), ("statements", '[{"kind":"teleport"}]'), ("statements", "[1]")],
)
def test_rows_of_the_future_are_refused(column: str, value: str) -> None:
    """A row in a form that this version doesn't know asks for an upgrade; it isn't guessed at."""
    row = _stored(FULL)
    row[receipts.COLUMNS.index(column)] = value
    with pytest.raises(SchemaVersionError, match=FULL.txn_id):
        receipts.receipt(row)


@pytest.mark.parametrize(
    "prefix", ["", "0e8fb6c", "0e8fb6cg", "spanctl_", "0e8fb6ce%", FULL.txn_id + "0", "x" * 36]
)
def test_no_prefix(prefix: str) -> None:
    """What can't be the start of a txn ID, or is too short, is refused before anything is read."""
    database = mock.Mock()
    with pytest.raises(UsageError):
        receipts.find(database, prefix)
    database.read.assert_not_called()


def test_nothing_to_list_reads_nothing() -> None:
    """A limit of none, or a window that ends before it begins, costs no read."""
    database = mock.Mock()
    assert receipts.listing(database, since=MOMENT, limit=0) == []
    assert receipts.listing(database, since=MOMENT, until=MOMENT.replace(hour=7)) == []
    assert receipts.get_many(database, []) == {}
    database.read.assert_not_called()
