"""Flows against a real server and a real database."""

from collections.abc import Callable, Iterator

import pytest

from spanctl.resources import DatabaseName
from tests.faults import raw
from tests.flows.bank import DDL, Bank


@pytest.fixture
def bank(
    emulator: str,
    database: Callable[..., DatabaseName],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bank]:
    """A new database with the ledger and two accounts of 0, named by the environment."""
    from spanctl.flows.runs import registry
    from spanctl.spanner import schema
    from spanctl.spanner.client import Target, shared

    name = database(*DDL)
    monkeypatch.setenv("SPANCTL_PROJECT", name.project)
    monkeypatch.setenv("SPANCTL_INSTANCE", name.instance)
    monkeypatch.setenv("SPANCTL_DATABASE", name.database)
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", emulator)
    target = Target(database=name, emulator_host=emulator)
    found = shared(target)
    schema.install(found)
    with raw.database(emulator, name.database) as google, google.batch() as batch:
        batch.insert("accounts", ["id", "balance"], [["a", 0], ["b", 0]])
    yield Bank(target, found)
    registry.close_all()
    found.close()
