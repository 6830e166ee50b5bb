"""Each lease is a row of its own, and what stands under its key is that lease."""

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.errors import VerificationError
from spanctl.ledger.keys import OperationKey
from spanctl.spanner import leases, limbo, schema
from spanctl.spanner.client import Database
from spanctl.spanner.leases import Intent
from spanctl.spanner.run import Run
from tests.faults import raw

texts = st.text(st.sampled_from("a0-\n,[]\"' "), min_size=1, max_size=4)
blocks = st.builds(
    lambda executor, prefix, first, more: Intent(
        executor=executor, prefix=prefix, first=first, last=first + more
    ),
    texts,
    texts,
    st.integers(0, 3),
    st.integers(0, 3),
)
lists = st.builds(
    lambda executor, prefix, keys: Intent(executor=executor, prefix=prefix, keys=tuple(keys)),
    texts,
    texts,
    st.lists(texts, min_size=1, max_size=3),
)
intents = st.builds(
    lambda intent, epoch: replace(intent, epoch=epoch), blocks | lists, st.integers(0, 1)
)


@given(intents, intents)
def test_no_two_leases_share_a_key(one: Intent, other: Intent) -> None:
    """Whatever the keys look like: a block of ordinals, or several keys in one."""
    assert (one.intent_id == other.intent_id) == (one == other)


@pytest.fixture(scope="module")
def database(emulator: str) -> Iterator[Database]:
    made = raw.create_database(emulator, ())
    with Database(raw.target(emulator, made)) as database:
        schema.install(database)
        yield database
    raw.drop_database(emulator, made)


@pytest.mark.emulator
@pytest.mark.parametrize(
    ("first", "second"),
    [((0,), ("0-0",)), (("a\nb",), ("a", "b")), (("a", "b"), ("a\nb",)), (("[0]",), (0,))],
)
def test_keys_that_look_alike_are_listed_each(
    database: Database, first: tuple[int | str, ...], second: tuple[int | str, ...]
) -> None:
    """A death in any of them leaves its operation in limbo, and nothing else's lease hides it."""
    run = Run(database, str(uuid.uuid4()))
    for calls in (first, second):
        run.lease([OperationKey(run.root, (), "load", call) for call in calls])
    open_now = [one for one in limbo.open_leases(database) if one.executor == run.executor]
    listed = [one.key.call for one in limbo.unsettled(database, open_now)]
    assert sorted(map(repr, listed)) == sorted(map(repr, (*first, *second)))


@pytest.mark.emulator
def test_a_lease_that_was_sent_again_is_taken_and_any_other_row_is_not(database: Database) -> None:
    """A lost reply makes the row stand there already; a closed or foreign one holds nothing."""
    mine = Intent(executor=str(uuid.uuid4()), prefix="root/load", first=0, last=0)
    more = replace(mine, first=1, last=2)
    leases.acknowledge(database, [mine])
    leases.acknowledge(database, [mine, more])
    leases.close(database, [more.intent_id])
    with pytest.raises(VerificationError, match="not there as it was written"):
        leases.acknowledge(database, [more])

    class Foreign(Intent):
        @property
        def intent_id(self) -> str:
            return mine.intent_id

    foreign = Foreign(executor=mine.executor, prefix="root/other", first=0, last=0)
    with pytest.raises(VerificationError):
        leases.acknowledge(database, [foreign])
