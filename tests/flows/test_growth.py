"""What runs for long, or again and again, holds no more at its end than at its beginning."""

from collections.abc import Iterator

import pytest

from spanctl.spanner import schema
from spanctl.spanner.client import Database
from tests.bench.looping import KINDS, Looping
from tests.faults import raw

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

ROUNDS = 40
PART = 10
SPARE = 5
"""How many more there may be: threads of pools and their sockets come and go."""


@pytest.fixture
def ledger(emulator: str) -> Iterator[str]:
    ddl = "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)"
    name = raw.create_database(emulator, [ddl])
    with Database(raw.target(emulator, name)) as database:
        schema.install(database)
    with raw.database(emulator, name) as google, google.batch() as batch:
        batch.insert("t", ["k", "v"], [[1, 0]])
    yield name
    raw.drop_database(emulator, name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_goes_on_and_on_holds_no_more(emulator: str, ledger: str, kind: str) -> None:
    """Descriptors, sockets, threads, sessions: what leaks a round would be many by the last ones.

    Objects: but for what the caches of bounded size, ours and Prefect's, still take up.
    """
    before = raw.sessions(emulator, ledger)
    with Looping(kind, emulator, ledger) as program:
        first = [program.round() for _ in range(PART)]
        sessions = raw.sessions(emulator, ledger)
        for _ in range(ROUNDS - 2 * PART):
            program.round()
        last = [program.round() for _ in range(PART)]
        assert len(raw.sessions(emulator, ledger)) < len(sessions) + SPARE
    for what in ("descriptors", "sockets", "threads"):
        assert max(one[what] for one in last) < max(one[what] for one in first) + SPARE, what
    assert max(one["objects"] for one in last) < 1.02 * max(one["objects"] for one in first)
    assert raw.sessions(emulator, ledger) == before
