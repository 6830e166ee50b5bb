"""Receipts in a real database: written many at a commit, found by key and by index."""

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanctl.ledger.receipt import EntryKind, Provenance, Receipt
from spanctl.spanner import receipts, schema
from spanctl.spanner.client import Database
from tests.faults import raw

pytestmark = pytest.mark.emulator

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
COMMITS = 30
IN_ONE = 12  # receipts that share a commit timestamp


class Ledger:
    """A database with receipts, and what is really in it."""

    def __init__(self, database: Database, kept: list[Receipt]) -> None:
        self.database = database
        self.kept = kept
        self.newest_first = sorted(
            kept,
            key=lambda one: (datetime.max.replace(tzinfo=UTC) - one.commit_timestamp, one.txn_id),
        )


@pytest.fixture(scope="module")
def ledger(emulator: str) -> Iterator[Ledger]:
    name = raw.create_database(emulator, [])
    with Database(raw.target(emulator, name)) as database:
        schema.install(database)
        with raw.database(emulator, name) as google:
            for number in range(COMMITS):
                rows = [
                    receipts.row(
                        Receipt(
                            txn_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}/{place}")),
                            kind=EntryKind.FENCED if place == 0 else EntryKind.COMMITTED,
                            commit_timestamp=LONG_AGO,
                            operation_key=f"k/{number}#{place}",
                            provenance=Provenance(root_run=f"run-{number % 3}"),
                        )
                    )
                    for place in range(IN_ONE)
                ]
                with google.batch() as batch:
                    batch.insert(receipts.TABLE, receipts.COLUMNS, rows)
        stored = database.query(f"SELECT {', '.join(receipts.COLUMNS)} FROM {receipts.TABLE}")  # noqa: S608 - constants
        kept = [receipts.receipt(row) for row in stored]
        assert len(kept) == COMMITS * IN_ONE + 1  # and that of the schema's installation
        yield Ledger(database, kept)
    raw.drop_database(emulator, name)


@pytest.mark.parametrize("limit", [1, 7, 12, 13, 100, COMMITS * IN_ONE + 1, 5000])
def test_listing_is_the_newest(ledger: Ledger, limit: int) -> None:
    """A listing holds the newest receipts, in order, also where many share a timestamp."""
    listed = receipts.listing(ledger.database, since=LONG_AGO, limit=limit)
    assert listed == ledger.newest_first[:limit]


def test_listing_window_is_closed(ledger: Ledger) -> None:
    """Receipts exactly at the window's ends are in it, and those a microsecond off are not."""
    since = ledger.newest_first[200].commit_timestamp
    until = ledger.newest_first[50].commit_timestamp
    tick = timedelta(microseconds=1)
    for start, end in [(since, until), (since + tick, until), (since, until - tick)]:
        listed = receipts.listing(ledger.database, since=start, until=end, limit=5000)
        expected = [one for one in ledger.newest_first if start <= one.commit_timestamp <= end]
        assert listed == expected


@pytest.mark.parametrize("kind", list(EntryKind))
def test_listing_of_a_kind(ledger: Ledger, kind: EntryKind) -> None:
    """Filtering by kind finds the newest of that kind, however rare they are."""
    expected = [one for one in ledger.newest_first if one.kind is kind]
    listed = receipts.listing(
        ledger.database, since=LONG_AGO, wanted=lambda one: one.kind is kind, limit=25
    )
    assert listed == expected[:25]


def test_listing_of_a_run(ledger: Ledger) -> None:
    """Filtering by root run combines with the window and the kind."""
    since = ledger.newest_first[150].commit_timestamp
    listed = receipts.listing(
        ledger.database,
        since=since,
        root_run="run-1",
        wanted=lambda one: one.kind is EntryKind.COMMITTED,
        limit=5000,
    )
    assert listed == [
        one
        for one in ledger.newest_first
        if one.provenance.root_run == "run-1"
        and one.kind is EntryKind.COMMITTED
        and one.commit_timestamp >= since
    ]


def test_of_run_is_whole_and_oldest_first(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every receipt of a run is found, over many pages, and none of another run."""
    monkeypatch.setattr(receipts, "_RUN_PAGE", 3)
    for run in ("run-0", "run-2", "run", "run-22", "run-0\0"):
        expected = [one for one in ledger.kept if one.provenance.root_run == run]
        expected.sort(key=lambda one: (one.commit_timestamp, one.txn_id))
        assert receipts.of_run(ledger.database, run) == expected
    assert receipts.of_run(ledger.database, "run-0")


def test_get(ledger: Ledger) -> None:
    """A receipt is found by its txn ID; others are None, or missing from the dictionary."""
    one, other = random.Random(7).sample(ledger.kept, 2)  # noqa: S311 - any two
    absent = str(uuid.uuid4())
    assert receipts.get(ledger.database, one.txn_id) == one
    assert receipts.get(ledger.database, absent) is None
    found = receipts.get_many(ledger.database, [one.txn_id, absent, other.txn_id, one.txn_id])
    assert found == {one.txn_id: one, other.txn_id: other}


@pytest.mark.parametrize("length", [8, 9, 10, 13, 14, 18, 23, 24, 35, 36])
def test_find_by_prefix(ledger: Ledger, length: int) -> None:
    """A prefix finds its receipt, with hyphens or without, in either case."""
    for one in ledger.kept[::40]:
        digits = one.txn_id.replace("-", "")[:length]
        for prefix in (one.txn_id[:length], one.txn_id[:length].upper(), digits):
            assert receipts.find(ledger.database, prefix) == [one]


def test_find_nothing_or_several(emulator: str) -> None:
    """A prefix that fits several finds as many as asked for; one that fits none, none."""
    name = raw.create_database(emulator, [])
    ids = [f"0123456{digit}-0000-5000-8000-{tail:012x}" for digit in "789" for tail in range(3)]
    with Database(raw.target(emulator, name)) as database:
        schema.install(database)
        rows = [
            receipts.row(
                Receipt(
                    txn_id=txn_id,
                    kind=EntryKind.COMMITTED,
                    commit_timestamp=LONG_AGO,
                    operation_key="k",
                )
            )
            for txn_id in ids
        ]
        with raw.database(emulator, name) as google, google.batch() as batch:
            batch.insert(receipts.TABLE, receipts.COLUMNS, rows)
        assert _ids(receipts.find(database, "01234568")) == ids[3:5]
        assert _ids(receipts.find(database, "01234568", limit=10)) == ids[3:6]
        assert receipts.find(database, "01234560") == []
    raw.drop_database(emulator, name)


def _ids(found: list[Any]) -> list[str]:
    return [one.txn_id for one in found]


def test_times_are_plain(ledger: Ledger) -> None:
    """Commit timestamps are Python's own datetimes, in UTC: they pickle and compare."""
    stamp = receipts.listing(ledger.database, since=LONG_AGO, limit=1)[0].commit_timestamp
    assert type(stamp) is datetime
    assert stamp.tzinfo is UTC
