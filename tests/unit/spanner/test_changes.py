"""Joining the stream's records to a receipt, and reading their JSON, without a server."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from spanctl.errors import StatementError, UnreachableError
from spanctl.ledger.receipt import EntryKind, Receipt, Statement, StatementKind
from spanctl.spanner import changes
from spanctl.spanner.changes import DataChange, ModType, RowChange, StreamState
from spanctl.spanner.values import JsonObject

MOMENT = datetime(2026, 1, 31, 8, 0, 0, 123456, UTC)
OURS, THEIRS = "0e8fb6ce-0000-5000-8000-000000000001", "0e8fb6ce-0000-5000-8000-000000000002"
RECEIPT = Receipt(
    txn_id=OURS, kind=EntryKind.COMMITTED, commit_timestamp=MOMENT, operation_key="a/b#0"
)


def record(transaction: str, table: str, key: Any, *, sequence: str, of: int) -> DataChange:
    column = "txn_id" if table == "spanctl_receipts" else "k"
    return DataChange(
        commit_timestamp=MOMENT,
        server_transaction_id=transaction,
        record_sequence=sequence,
        table=table,
        mod_type=ModType.INSERT,
        rows=(RowChange(table, ModType.INSERT, {column: key}, None, {}),),
        records_in_transaction=of,
        tag="",
    )


MIXED = [
    record("server-2", "T", 20, sequence="00000000", of=2),
    record("server-1", "T", 11, sequence="00000001", of=3),
    record("server-2", "spanctl_receipts", THEIRS, sequence="00000001", of=2),
    record("server-1", "spanctl_receipts", OURS, sequence="00000002", of=3),
    record("server-1", "T", 10, sequence="00000000", of=3),
]

Stream = Callable[..., Any]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """Return a function that makes the stream hold these records, or raise this error."""

    def hold(found: list[DataChange] | Exception, watched: Mapping[str, bool] | None) -> Any:
        def read(*_: Any) -> list[DataChange]:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(changes, "changes", read)
        monkeypatch.setattr(changes, "watched", lambda _: watched)
        return SimpleNamespace(target=SimpleNamespace(is_emulated=False))

    return hold


def test_same_timestamp(stream: Stream) -> None:
    """Of two transactions with the same commit timestamp, each gets its own rows, in order."""
    database = stream(MIXED, {"T": True})
    ours = changes.for_transaction(database, RECEIPT)
    assert [row.keys["k"] for row in ours.rows] == [10, 11]
    assert (ours.server_transaction_id, ours.complete) == ("server-1", True)
    theirs = changes.for_transaction(database, replace(RECEIPT, txn_id=THEIRS))
    assert [row.keys["k"] for row in theirs.rows] == [20]


@pytest.mark.parametrize("missing", [1, 4])
def test_incomplete(stream: Stream, missing: int) -> None:
    """When a record of the transaction is missing, it is not called complete."""
    left = [one for index, one in enumerate(MIXED) if index != missing]
    found = changes.for_transaction(stream(left, {"T": True}), RECEIPT)
    assert (found.state, found.complete, len(found.rows)) == (StreamState.PRESENT, False, 1)


def test_no_receipt_in_the_stream(stream: Stream) -> None:
    """Without the receipt's own row nothing is joined: no rows are guessed from the timestamp."""
    found = changes.for_transaction(stream(MIXED[:3], {"T": True}), RECEIPT)
    assert (found.state, found.rows, found.server_transaction_id) == (StreamState.ABSENT, (), None)


def test_a_receipt_of_the_users(stream: Stream) -> None:
    """A user's table that holds a txn ID is not taken for the ledger."""
    fake = record("server-3", "T", OURS, sequence="0", of=1)
    fake = replace(fake, rows=(replace(fake.rows[0], keys={"txn_id": OURS}),))
    found = changes.for_transaction(stream([fake], {"T": True}), RECEIPT)
    assert found.state is StreamState.ABSENT


def test_too_old(stream: Stream) -> None:
    """OUT_OF_RANGE is expiry; every other error is raised as it is."""
    expired = StatementError("no", status="OUT_OF_RANGE")
    found = changes.for_transaction(stream(expired, {"T": True}), RECEIPT)
    assert found.state is StreamState.EXPIRED
    for error in (StatementError("no", status="INTERNAL"), UnreachableError("down")):
        with pytest.raises(type(error)):
            changes.for_transaction(stream(error, {"T": True}), RECEIPT)


@pytest.mark.parametrize(
    ("watched", "expected"),
    [
        ({"T": True, "U": True}, ()),
        ({"*": True}, ()),
        ({"t": True}, ("U",)),
        ({"T": False, "U": True}, ("T",)),
        ({}, ("T", "U")),
    ],
)
def test_unwatched(stream: Stream, watched: Mapping[str, bool], expected: tuple[str, ...]) -> None:
    """Tables that were written and not wholly watched are named once; read ones are not."""
    statements = (
        Statement(kind=StatementKind.UPDATE, tables=("T", "Lookup")),
        Statement(kind=StatementKind.QUERY, tables=("Lookup",)),
        Statement(kind=StatementKind.INSERT, tables=("U",)),
        Statement(kind=StatementKind.DELETE, tables=("T",)),
    )
    receipt = replace(RECEIPT, statements=statements)
    assert changes.for_transaction(stream(MIXED, watched), receipt).unwatched == expected


def column(name: str, kind: Any, place: int, *, key: bool = False) -> dict[str, Any]:
    """Return a column as the service describes it: its type as JSON."""
    return {
        "name": name,
        "type": JsonObject(kind),
        "is_primary_key": key,
        "ordinal_position": place,
    }


def test_json_of_the_service() -> None:
    """Values come as JSON and are read by their column's type; unknown types stay as they came."""
    data = {
        "commit_timestamp": MOMENT,
        "server_transaction_id": "abc",
        "record_sequence": "00000000",
        "table_name": "T",
        "column_types": [
            column("floats", {"code": "ARRAY", "array_element_type": {"code": "FLOAT64"}}, 9),
            column("k", {"code": "INT64"}, 1, key=True),
            column("n", {"code": "NUMERIC"}, 2),
            column("b", {"code": "BYTES"}, 3),
            column("d", {"code": "DATE"}, 4),
            column("t", {"code": "TIMESTAMP"}, 5),
            column("j", {"code": "JSON"}, 6),
            column("f", {"code": "FLOAT64"}, 7),
            column("future", {"code": "QUATERNION"}, 8),
            column("proto", {"code": "PROTO", "proto_type_fqn": "a.B"}, 10),
        ],
        "mods": [
            {
                "keys": JsonObject({"k": "9223372036854775807"}),
                "new_values": JsonObject(
                    {
                        "proto": "AAE=",
                        "floats": [1.5, "NaN", None],
                        "n": "1.000000001",
                        "b": "AP8=",
                        "d": "2026-01-31",
                        "t": "2026-01-31T08:00:00.123456Z",
                        "j": '{"a": [1]}',
                        "f": "-Infinity",
                        "future": {"i": 1},
                    }
                ),
                "old_values": JsonObject({"n": None}),
            }
        ],
        "mod_type": "UPDATE",
        "number_of_records_in_transaction": 1,
        "transaction_tag": None,
    }
    (row,) = changes._data_change(data).rows  # noqa: SLF001 - the service's records can't be had here
    assert row.keys == {"k": 2**63 - 1}
    assert row.before == {"n": None}
    after = dict(row.after or {})
    assert repr(after.pop("floats")) == "[1.5, nan, None]"
    assert after == {
        "n": Decimal("1.000000001"),
        "b": b"\x00\xff",
        "d": date(2026, 1, 31),
        "t": MOMENT,
        "j": JsonObject({"a": [1]}),
        "f": float("-inf"),
        "future": {"i": 1},
        "proto": "AAE=",
    }
    assert list(row.after or {}) == ["n", "b", "d", "t", "j", "f", "future", "floats", "proto"]
