"""One emulator a session, one proxy and one database a test."""

from collections.abc import Iterator

import pytest

from spanctl.spanner import schema
from spanctl.spanner.client import Database
from tests.faults import raw
from tests.faults.emulator import Emulator, binary
from tests.faults.proxy import FaultProxy


@pytest.fixture(scope="session")
def emulator_address() -> Iterator[str]:
    """Start Google's emulator, or skip where it isn't installed."""
    if binary() is None:
        pytest.skip("the Spanner emulator is not installed")
    # New transactions win at once: an attempt that a fault has orphaned holds its lock otherwise
    # until the emulator's idle abort.
    # Together with that, the emulator's own churning of change streams makes it crash (SIGSEGV).
    with Emulator(
        "--abort_current_transaction_probability=100", "--enable_change_stream_churning=false"
    ) as emulator:
        yield emulator.address


@pytest.fixture
def proxy(emulator_address: str) -> Iterator[FaultProxy]:
    with FaultProxy(emulator_address) as made:
        yield made


@pytest.fixture
def counter(emulator_address: str) -> Iterator[str]:
    """Yield a database with table ``t`` whose row 1 has v = 0."""
    ddl = "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)"
    name = raw.create_database(emulator_address, [ddl])
    with raw.database(emulator_address, name) as database, database.batch() as batch:
        batch.insert("t", ["k", "v"], [[1, 0]])
    yield name
    raw.drop_database(emulator_address, name)


@pytest.fixture
def ledger(emulator_address: str) -> Iterator[str]:
    """Yield a database with a ledger that watches ``t`` (row 1 has v = 0) and ``events``."""
    ddl = [
        "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)",
        "CREATE TABLE events (id STRING(36) NOT NULL) PRIMARY KEY (id)",
    ]
    name = raw.create_database(emulator_address, ddl)
    with Database(raw.target(emulator_address, name)) as database:
        schema.install(database, ["t", "events"])
    with raw.database(emulator_address, name) as database, database.batch() as batch:
        batch.insert("t", ["k", "v"], [[1, 0]])
    yield name
    raw.drop_database(emulator_address, name)
