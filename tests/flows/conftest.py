"""Flows against a real server and a real database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanctl.resources import DatabaseName
from tests.faults import raw
from tests.flows.bank import DDL, Bank


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bear with the sockets that Prefect's engine leaves open after an async flow."""
    here = Path(__file__).parent
    forgiving = pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    )
    for item in items:
        if here in item.path.parents:
            item.add_marker(forgiving)


@pytest.fixture(autouse=True, scope="session")
def _drained(prefect_api: str) -> Iterator[None]:  # noqa: ARG001 - it outlives this one
    """Let Prefect's threads send what they hold before the server goes: they wait for it else."""
    yield
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=10)
    APILogWorker.drain_all(timeout=10)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting() -> Iterator[None]:
    """Spare the second that Prefect's heartbeats take to end with each run, and two of its log."""
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
        temporary_settings,
    )

    quick = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.1}
    with temporary_settings(quick):
        yield


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
    made = Bank(target, found)
    made.before.extend(one.txn_id for one in made.receipts())
    yield made
    registry.close_all()
    found.close()
