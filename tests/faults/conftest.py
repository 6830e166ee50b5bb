"""One proxy and one database a test, on the session's emulator."""

from collections.abc import Iterator

import pytest

from spanctl.spanner import schema
from spanctl.spanner.client import Database
from tests.faults import raw
from tests.faults.proxy import FaultProxy


@pytest.fixture
def emulator_address(emulator: str) -> str:
    """Return where the emulator itself is, past every proxy."""
    return emulator


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
