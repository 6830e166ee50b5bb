"""One emulator a session, one proxy and one database a test."""

from collections.abc import Iterator

import pytest

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
    with Emulator("--abort_current_transaction_probability=100") as emulator:
        yield emulator.address


@pytest.fixture
def proxy(emulator_address: str) -> Iterator[FaultProxy]:
    with FaultProxy(emulator_address) as made:
        yield made


@pytest.fixture
def counter(emulator_address: str) -> str:
    """Return a database with table ``t`` whose row 1 has v = 0."""
    ddl = "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)"
    name = raw.create_database(emulator_address, [ddl])
    with raw.database(emulator_address, name) as database, database.batch() as batch:
        batch.insert("t", ["k", "v"], [[1, 0]])
    return name
