"""Joining the stream's records to a receipt, and reading their JSON, without a server."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from spanctl.errors import StatementError, UnreachableError
from spanctl.ledger.receipt import EntryKind, Receipt, Statement, StatementKind
from spanctl.spanner import changes, committed, watches
from spanctl.spanner.changes import DataChange, ModType, RowChange
from spanctl.spanner.committed import StreamState
from spanctl.spanner.values import JsonObject, Type, TypeCode
from spanctl.spanner.watches import History, Mark, State
from spanctl.spanner.watching import Schema, Watched

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
TABLES = ("T", "U", "Lookup")


def schema(watched: Watched | None, **more: Any) -> Schema:
    """Return tables without keys or cascades, and what is watched of them."""
    given: dict[str, Any] = {"keys": {}, "cascades": {}, "references": frozenset(), **more}
    return Schema(names={name.casefold(): name for name in TABLES}, watched=watched, **given)


EVERYTHING = Watched(everything=True)
WATCHED = schema(EVERYTHING)
LONG_AGO = History({"*": (Mark(datetime(2026, 1, 1, tzinfo=UTC), State.WHOLE),)})


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """Return a function that makes the stream hold these records, or raise this error."""

    def hold(
        found: list[DataChange] | Exception,
        then: Schema | Exception = WATCHED,
        *,
        now: Schema = WATCHED,
        history: History = LONG_AGO,
    ) -> Any:
        def read(_: Any, start: datetime, end: datetime) -> list[DataChange]:
            if isinstance(found, Exception):
                raise found
            return [one for one in found if start <= one.commit_timestamp <= end]

        def at(_: Any, moment: datetime | None = None) -> Schema:
            if moment is None:
                return now
            if isinstance(then, Exception):
                raise then
            return then

        monkeypatch.setattr(committed, "changes", read)
        monkeypatch.setattr(committed, "schema_at", at)
        monkeypatch.setattr(watches, "history", lambda _: history)
        return SimpleNamespace(target=SimpleNamespace(is_emulated=False))

    return hold


def test_same_timestamp(stream: Stream) -> None:
    """Of two transactions with the same commit timestamp, each gets its own rows, in order."""
    database = stream(MIXED)
    ours = committed.for_transaction(database, RECEIPT)
    assert [row.keys["k"] for row in ours.rows] == [10, 11]
    assert (ours.server_transaction_id, ours.complete) == ("server-1", True)
    theirs = committed.for_transaction(database, replace(RECEIPT, txn_id=THEIRS))
    assert [row.keys["k"] for row in theirs.rows] == [20]


@pytest.mark.parametrize("missing", [1, 4])
def test_incomplete(stream: Stream, missing: int) -> None:
    """When a record of the transaction is missing, it is not called complete."""
    left = [one for index, one in enumerate(MIXED) if index != missing]
    found = committed.for_transaction(stream(left), RECEIPT)
    assert (found.state, found.complete, len(found.rows)) == (StreamState.PRESENT, False, 1)


def test_no_receipt_in_the_stream(stream: Stream) -> None:
    """Without the receipt's own row nothing is joined: no rows are guessed from the timestamp."""
    found = committed.for_transaction(stream(MIXED[:3]), RECEIPT)
    assert (found.state, found.rows, found.server_transaction_id) == (StreamState.ABSENT, (), None)


def test_a_receipt_of_the_users(stream: Stream) -> None:
    """A user's table that holds a txn ID is not taken for the ledger."""
    fake = record("server-3", "T", OURS, sequence="0", of=1)
    fake = replace(fake, rows=(replace(fake.rows[0], keys={"txn_id": OURS}),))
    found = committed.for_transaction(stream([fake]), RECEIPT)
    assert found.state is StreamState.ABSENT


def test_too_old(stream: Stream) -> None:
    """OUT_OF_RANGE is expiry; every other error is raised as it is."""
    expired = StatementError("no", status="OUT_OF_RANGE")
    found = committed.for_transaction(stream(expired), RECEIPT)
    assert found.state is StreamState.EXPIRED
    for error in (StatementError("no", status="INTERNAL"), UnreachableError("down")):
        with pytest.raises(type(error)):
            committed.for_transaction(stream(error), RECEIPT)


def wrote(*statements: tuple[StatementKind, str]) -> Receipt:
    told = [Statement(kind=kind, tables=(table,), rows=1) for kind, table in statements]
    return replace(RECEIPT, statements=tuple(told))


@pytest.mark.parametrize(
    ("watched", "expected"),
    [
        (Watched(tables={"T": None, "U": None}), ()),
        (Watched(everything=True), ()),
        (Watched(tables={"T": None}), ("U: not watched",)),
        (Watched(tables={"T": ("s",), "U": None}), ("T: only its columns s were watched",)),
        (Watched(tables={"T": (), "U": None}), ("T: only its keys were watched",)),
        (Watched(), ("T: not watched", "U: not watched")),
    ],
)
def test_unwatched(stream: Stream, watched: Watched, expected: tuple[str, ...]) -> None:
    """Tables that were written and not wholly watched are named once; read ones are not."""
    statements = (
        Statement(kind=StatementKind.UPDATE, tables=("t", "Lookup")),
        Statement(kind=StatementKind.QUERY, tables=("Lookup",)),
        Statement(kind=StatementKind.INSERT, tables=("`U`",)),
        Statement(kind=StatementKind.INSERT_OR_UPDATE, tables=("T",)),
        Statement(kind=StatementKind.UPDATE, tables=("Lookup",), rows=0),
    )
    receipt = replace(RECEIPT, statements=statements)
    found = committed.for_transaction(stream(MIXED, schema(watched)), receipt)
    assert tuple(str(gap) for gap in found.gaps) == expected
    assert found.complete is not bool(expected)


def test_what_was_watched_then_counts(stream: Stream) -> None:
    """Not what is watched today, nor what the ledger alone believes; both have to say so."""
    receipt = wrote((StatementKind.UPDATE, "T"))
    whole, nothing = WATCHED, schema(Watched())
    later = History({"T": (Mark(MOMENT + timedelta(seconds=1), State.WHOLE),)})
    assert committed.for_transaction(stream(MIXED, whole, now=nothing), receipt).complete
    for found in (
        stream(MIXED, nothing),
        stream(MIXED, whole, history=later),
        stream(MIXED, whole, history=History()),
        stream(MIXED, whole, history=History(kept=False)),
        stream(MIXED, schema(Watched(everything=True, leaving_out=("exclude_delete",)))),
    ):
        told = committed.for_transaction(found, receipt)
        assert (told.complete, len(told.gaps)) == (False, 1)


@pytest.mark.parametrize(
    ("text", "gaps"),
    [
        ("INSERT INTO T (k) SELECT k FROM U", []),
        (
            "INSERT INTO U (k) WITH U AS (SELECT k FROM T) SELECT k FROM U",
            ["U: not watched"],
        ),
        (r"UPDATE `\x55` SET k = ? WHERE TRUE", ["which tables a statement changed is not known"]),
    ],
)
def test_a_receipt_that_names_another_table_first(
    stream: Stream, text: str, gaps: list[str]
) -> None:
    """What a statement changed is read from its text, also where an older spanctl misread it."""
    watched = schema(Watched(tables={"T": None}))
    told = Statement(kind=StatementKind.INSERT, tables=("T",), digest="0", sql=text, rows=1)
    receipt = replace(RECEIPT, statements=(told,))
    found = committed.for_transaction(stream(MIXED, watched, now=watched), receipt)
    assert [str(gap) for gap in found.gaps] == gaps


def test_the_schema_of_then_is_gone(stream: Stream) -> None:
    """Then nothing that was written is proven: what was altered and put back leaves no mark."""
    gone = StatementError("no", status="FAILED_PRECONDITION")
    receipt = wrote((StatementKind.UPDATE, "t"), (StatementKind.INSERT, "Gone"))
    unread = "the schema of then can't be read any more"
    assert committed.for_transaction(stream(MIXED), wrote((StatementKind.UPDATE, "t"))).complete
    for now in (WATCHED, schema(Watched()), schema(Watched(leaving_out=("exclude_delete",)))):
        told = committed.for_transaction(stream(MIXED, gone, now=now), receipt)
        assert [str(gap) for gap in told.gaps] == [f"T: {unread}", f"Gone: {unread}"]
        assert (told.complete, len(told.rows)) == (False, 2)
    assert committed.for_transaction(stream(MIXED, gone), wrote((StatementKind.READ, "T"))).complete
    cascading = schema(EVERYTHING, cascades={"T": ("U",)})
    for kind in (StatementKind.DELETE, StatementKind.REPLACE):
        told = committed.for_transaction(stream(MIXED, gone, now=cascading), wrote((kind, "T")))
        assert [str(gap) for gap in told.gaps] == [
            "T: whether inserted rows replaced others can't be read any more",
            f"T: {unread}",
            "where deletes in T cascaded to then can't be read any more",
        ]


def test_cascades(stream: Stream) -> None:
    """Deletes are followed over all levels, and only from tables that lost rows."""
    deleted = [replace(one, mod_type=ModType.DELETE) for one in MIXED if one.table == "T"]
    rows = [
        replace(one, rows=(replace(one.rows[0], mod_type=ModType.DELETE, before={}, after=None),))
        for one in deleted
    ]
    records = [*rows, *(one for one in MIXED if one.table != "T")]
    receipt = wrote((StatementKind.DELETE, "T"))
    cascades = {"T": ("T", "U"), "U": ("Lookup",), "Lookup": ("T",)}
    then = schema(Watched(tables={"T": None, "Lookup": None}), cascades=cascades)
    told = committed.for_transaction(stream(records, then), receipt)
    assert [str(gap) for gap in told.gaps] == ["U: not watched; deletes in T cascade into it"]
    then = schema(Watched(tables={"T": None}), cascades=cascades)
    told = committed.for_transaction(stream(records, then), receipt)
    assert told.unwatched == ("U", "Lookup")
    absent = [one for one in MIXED if one.table == "spanctl_receipts"]
    absent = [replace(one, records_in_transaction=1) for one in absent]
    assert committed.for_transaction(stream(absent, then), receipt).complete


@pytest.mark.parametrize(
    ("kind", "tables"),
    [(StatementKind.OTHER, ()), (StatementKind.OTHER, ("T",)), (StatementKind.UPDATE, ())],
)
def test_statements_that_cannot_be_read(
    stream: Stream, kind: StatementKind, tables: tuple[str, ...]
) -> None:
    """A statement whose table isn't known may have changed any."""
    receipt = replace(RECEIPT, statements=(Statement(kind=kind, tables=tables),))
    told = committed.for_transaction(stream(MIXED), receipt)
    assert "which tables a statement changed is not known" in [str(gap) for gap in told.gaps]
    assert not told.complete
    unknown = committed.for_transaction(stream(MIXED), wrote((StatementKind.UPDATE, "synonym")))
    assert unknown.unwatched == ("synonym",)


@pytest.mark.parametrize("kind", [StatementKind.DDL, StatementKind.PARTITIONED_DML])
def test_what_is_outside_of_the_transaction(stream: Stream, kind: StatementKind) -> None:
    """An entry that tells of it holds none of its changes, whatever else it says."""
    told = committed.for_transaction(stream(MIXED), wrote((kind, "T")))
    assert not told.complete
    assert "is no part of this transaction" in str(told.gaps[0])


def test_several_at_once(stream: Stream) -> None:
    """Each of several transactions gets its own rows."""
    later = [replace(one, commit_timestamp=MOMENT + timedelta(seconds=1)) for one in MIXED]
    both = [one for one in MIXED if one.server_transaction_id == "server-1"]
    both += [one for one in later if one.server_transaction_id == "server-2"]
    other = replace(RECEIPT, txn_id=THEIRS, commit_timestamp=MOMENT + timedelta(seconds=1))
    lost = replace(RECEIPT, txn_id="none")
    found = committed.for_transactions(stream(both), [other, lost, RECEIPT])
    keys = {txn_id: [row.keys["k"] for row in one.rows] for txn_id, one in found.items()}
    assert keys == {OURS: [10, 11], THEIRS: [20], "none": []}
    assert found["none"].state is StreamState.ABSENT


class Partitions:
    """A stream whose partitions are told by a script: token to records, and to when it began."""

    def __init__(self, records: Mapping[str | None, list[Any]], born: Mapping[str, datetime]):
        self.records, self.born, self.asked = records, born, []

    def query(self, _: str, params: Mapping[str, Any], __: Any) -> Any:
        token, start = params["token"], params["start"]
        self.asked.append((token, start))
        if token is not None and start < self.born[token]:
            msg = "before the partition"
            raise StatementError(msg, status="OUT_OF_RANGE")
        return Answer(self.records[token])


class Answer(list[Any]):
    columns = (SimpleNamespace(type=Type(code=TypeCode.JSON)),)


def test_child_partitions_are_read_from_their_own_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that begins within the window is read from then, one that begins after it not at all."""
    second = timedelta(seconds=1)
    born = {"early": MOMENT - second, "within": MOMENT + second, "after": MOMENT + 3 * second}
    children = [
        {"start_timestamp": when, "child_partitions": [{"token": token}]}
        for token, when in born.items()
    ]
    record = {"data_change_record": [], "child_partitions_record": children}
    scripted = Partitions({None: [[record]], "early": [], "within": []}, born)
    monkeypatch.setattr(changes, "_named", lambda value, _: [value])
    database: Any = scripted
    assert list(changes.changes(database, MOMENT, MOMENT + 2 * second)) == []
    assert set(scripted.asked) == {(None, MOMENT), ("early", MOMENT), ("within", MOMENT + second)}


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
