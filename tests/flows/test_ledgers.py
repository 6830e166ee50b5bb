"""A flow run belongs to one ledger: in another, its writes are refused and not taken for new."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import Scheduled
from prefect.task_runners import ThreadPoolTaskRunner

from spanctl.errors import ConflictError
from spanctl.flows import ledgers, transaction
from spanctl.flows.ledgers import ledger_label
from spanctl.flows.runbooks import standing
from spanctl.spanner import schema
from spanctl.spanner.client import Database
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, Emulator
from tests.flows.bank import DDL, Bank, Fails, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

ANOTHER = "00000000-0000-4000-8000-000000000000"


def make_anew(emulator: str, bank: Bank) -> str:
    """Put another, empty ledger into the database; return the id of the one that was there."""
    from google.cloud.spanner_v1 import KeySet

    before = bank.database.ledger.ledger_id
    name = bank.target.database.database
    with raw.database(emulator, name) as google, google.batch() as batch:
        batch.update("spanctl_settings", ["name", "value"], [["ledger_id", ANOTHER]])
        batch.delete("spanctl_receipts", KeySet(all_=True))
        batch.delete("spanctl_intents", KeySet(all_=True))
    # As in the process of a later worker.
    bank.database.forget_ledger()
    ledgers._settled.cache_clear()  # noqa: SLF001
    return before


def again(run: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Scheduled(), force=True)
        return client.read_flow_run(run)


def in_a_step() -> Any:
    return deposit("a", 5)


def in_a_runbook() -> Any:
    return standing("import")


@pytest.mark.parametrize("write", [in_a_step, in_a_runbook])
def test_a_run_of_an_old_ledger_is_refused(
    emulator: str, bank: Bank, write: Callable[[], Any]
) -> None:
    """Retried on a database that was made anew, a run names both ledgers and writes nothing."""
    lost = Fails()

    @flow
    def settle() -> None:
        write()
        lost()

    with get_client(sync_client=True) as client:
        created = client.create_flow_run(settle)
    with pytest.raises(RuntimeError, match="lost its worker"):
        run_flow(settle, flow_run=created)
    balance = bank.balance()
    before = make_anew(emulator, bank)
    with pytest.raises(ConflictError, match=f"belongs to ledger {before}, .* holds {ANOTHER}"):
        run_flow(settle, flow_run=again(created.id))
    assert bank.balance() == balance
    assert bank.receipts() == []
    assert bank.leases() == 0


def test_a_retry_on_the_same_ledger_is_let_in(bank: Bank) -> None:
    """The label names the database and its ledger; with the same ledger a retry replays."""

    @flow
    def settle() -> Any:
        return deposit("a", 5)

    with get_client(sync_client=True) as client:
        created = client.create_flow_run(settle)
        run_flow(settle, flow_run=created)
        ledgers._settled.cache_clear()  # noqa: SLF001
        rerun = again(created.id)
        assert rerun.labels[ledger_label(bank.target)] == bank.database.ledger.ledger_id
        assert run_flow(settle, flow_run=rerun).replayed
    assert bank.balance() == 5


def test_a_worker_that_knows_of_no_label_asks_before_it_writes_one(
    emulator: str, bank: Bank
) -> None:
    """A body whose call site came before the label finds it in Prefect, and overwrites nothing."""

    @flow
    def settle() -> Any:
        return deposit("a", 5)

    with get_client(sync_client=True) as client:
        created = client.create_flow_run(settle)
        run_flow(settle, flow_run=created)
        before = make_anew(emulator, bank)
        with pytest.raises(ConflictError):
            ledgers.refuse_other_ledger(str(created.id), bank.target, None)
        assert client.read_flow_run(created.id).labels[ledger_label(bank.target)] == before


def test_another_run_is_at_home_in_the_new_ledger(emulator: str, bank: Bank) -> None:
    """Only runs of the old ledger are refused."""

    @flow
    def settle() -> Any:
        return deposit("a", 5)

    settle()
    make_anew(emulator, bank)
    assert not settle().replayed
    assert bank.balance() == 10


@transaction
def note(txn: Any, name: str) -> None:
    txn.insert("events", ["id"], [[name]])


@pytest.mark.parametrize("way", ["submit", "map", "subflow", "key"])
def test_no_later_step_goes_on_in_an_emulator_that_came_back(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies between steps and comes back with another ledger: all later steps are refused."""
    with Emulator("--abort_current_transaction_probability=100") as emulator:
        target = raw.target(emulator.address, "reborn")
        for name, value in (
            ("SPANCTL_PROJECT", PROJECT),
            ("SPANCTL_INSTANCE", INSTANCE),
            ("SPANCTL_DATABASE", "reborn"),
            ("SPANNER_EMULATOR_HOST", emulator.address),
        ):
            monkeypatch.setenv(name, value)

        def make() -> None:
            with raw.client(emulator.address) as google:
                config = f"projects/{PROJECT}/instanceConfigs/emulator-config"
                instance = google.instance(INSTANCE, configuration_name=config)
                instance.create().result(30)
                instance.database("reborn", ddl_statements=list(DDL)).create().result(30)
            with Database(target) as database:
                schema.install(database)

        @flow
        def inner() -> None:
            note("in a subflow")

        @flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
        def job() -> list[str]:
            note("before")
            emulator.__exit__(None, None, None)
            emulator.__enter__()
            make()
            names = [f"after-{number}" for number in range(3)]
            if way == "subflow":
                return [inner(return_state=True).type.value]
            if way == "key":
                return [note(name, key=name, return_state=True).type.value for name in names]
            futures = note.map(names) if way == "map" else [note.submit(name) for name in names]
            for future in futures:
                future.wait()
            return [future.state.type.value for future in futures]

        make()
        assert set(job()) == {"FAILED"}
        rows = raw.rows(emulator.address, "reborn", "SELECT id FROM events")
        assert rows == []
