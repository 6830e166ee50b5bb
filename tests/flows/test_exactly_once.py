"""However often Prefect runs a step again, what it writes is applied once."""

import uuid
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from spanctl.errors import KeyReusedError
from spanctl.flows import transaction, using
from spanctl.spanner.client import Target
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.faults.proxy import FaultProxy, lose_reply
from tests.flows.bank import Bank, Fails, add, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


class ListingTransaction:
    """Google's transaction, returning lists as ours does, so that both run the same body."""

    def __init__(self, txn: Any) -> None:
        self._txn = txn
        self.update = txn.update

    def execute_sql(self, sql: str, params: dict[str, str]) -> list[Any]:
        from google.cloud.spanner_v1 import param_types

        return list(self._txn.execute_sql(sql, params, {"id": param_types.STRING}))


@task
def naive(address: str, database: str, cents: int) -> None:
    """The same deposit as a plain task, as people write it."""
    with raw.database(address, database) as google:
        google.run_in_transaction(lambda txn: add(ListingTransaction(txn), "a", cents))


@pytest.fixture
def lost_after_commit(monkeypatch: pytest.MonkeyPatch) -> Fails:
    """Make the worker fail once, after its first transaction has committed."""
    lost = Fails()
    execute = Run.execute

    def failing(self: Run, *args: Any, **kwargs: Any) -> Any:
        result = execute(self, *args, **kwargs)
        lost()
        return result

    monkeypatch.setattr(Run, "execute", failing)
    return lost


def test_a_plain_task_is_applied_twice_by_a_flow_retry(emulator: str, bank: Bank) -> None:
    """The harness can see the bug that steps are free of: a plain task writes once more."""
    lost = Fails()

    @flow(retries=1)
    def settle() -> None:
        naive(emulator, bank.target.database.database, 5)
        lost()

    settle()
    assert bank.balance() == 10


def test_a_lost_commit_reply_doubles_a_plain_task_but_not_a_step(emulator: str, bank: Bank) -> None:
    """Behind one fault, a retried plain task ends COMPLETED at +2, a retried step at +1."""
    name = bank.target.database.database
    with FaultProxy(emulator) as proxy:
        behind = Target(database=bank.target.database, emulator_host=proxy.address)

        @flow
        def plain() -> None:
            naive.with_options(retries=2)(proxy.address, name, 1)

        @flow
        def ours() -> Any:
            return deposit.with_options(retries=2, database=behind)("b", 1)

        proxy.add("Commit", lose_reply("DEADLINE_EXCEEDED"))
        plain()
        proxy.clear()
        proxy.add("Commit", lose_reply("DEADLINE_EXCEEDED"), nth=2)  # the first is the lease's
        result = ours()
        lost = [one for one in proxy.rpcs("Commit") if one.answered == "DEADLINE_EXCEEDED"]
    assert bank.balance("a") == 2
    assert bank.balance("b") == 1
    assert lost
    assert [one.txn_id for one in bank.receipts()] == [result.txn_id]


def test_a_task_retry_replays(bank: Bank, lost_after_commit: Fails) -> None:
    """A task that dies after its commit is retried by Prefect: applied once, and it says so."""

    @flow
    def settle() -> Any:
        return deposit.with_options(retries=2)("a", 5)

    result = settle()
    assert lost_after_commit.calls == 2
    assert bank.balance() == 5
    assert result.replayed
    assert result.attempts == 0
    (receipt,) = bank.receipts()
    assert (receipt.txn_id, receipt.provenance.attempt) == (result.txn_id, 1)


def test_a_flow_retry_replays(bank: Bank) -> None:
    """A flow that fails after its steps committed is retried: each applied once, and says so."""
    lost = Fails()
    seen = []

    @flow(retries=1)
    def settle() -> None:
        seen.append([deposit("a", 5), deposit("b", 7)])
        lost()

    settle()
    first, second = seen
    assert (bank.balance("a"), bank.balance("b")) == (5, 7)
    assert [one.replayed for one in first] == [False, False]
    assert [one.replayed for one in second] == [True, True]
    assert [one.txn_id for one in first] == [one.txn_id for one in second]
    assert [one.commit_timestamp for one in first] == [one.commit_timestamp for one in second]
    assert len(bank.receipts()) == 2


def test_what_a_retry_had_not_reached_is_written(bank: Bank) -> None:
    """A retry replays the steps that had committed, and runs the rest for the first time."""
    lost = Fails()
    seen = []

    @flow(retries=1)
    def settle() -> None:
        first = deposit("a", 1)
        lost()
        seen.extend([first, deposit("a", 10)])

    settle()
    assert bank.balance() == 11
    assert [one.replayed for one in seen] == [True, False]


def test_two_executors_of_one_flow_run_write_once(bank: Bank) -> None:
    """A flow run that is executed once more, as by `flow-run retry`, replays."""

    @flow
    def settle() -> Any:
        return deposit("a", 5)

    with get_client(sync_client=True) as client:
        created = client.create_flow_run(settle)
        first = run_flow(settle, flow_run=created)
        client.set_flow_run_state(created.id, Scheduled(), force=True)
        again = client.read_flow_run(created.id)
        second = run_flow(settle, flow_run=again)
    assert bank.balance() == 5
    assert not first.replayed
    assert second.replayed


def test_two_runs_of_a_flow_are_two_writes(bank: Bank) -> None:
    """Another run of the same flow is another job."""

    @flow
    def settle() -> None:
        deposit("a", 5)

    settle()
    settle()
    assert bank.balance() == 10


def test_two_identical_calls_are_two_writes(bank: Bank) -> None:
    """Calls that are alike in one run are told apart by their order, also with cached results."""

    @flow(persist_result=True)
    def settle() -> list[Any]:
        cached = deposit.with_options(persist_result=True)
        return [deposit("a", 5), deposit("a", 5), cached("a", 5), cached("a", 5)]

    results = settle()
    assert bank.balance() == 20
    assert len({one.txn_id for one in results}) == 4
    assert bank.keys() == ["deposit#0", "deposit#1", "deposit#2", "deposit#3"]


def test_a_cached_result_takes_its_ordinal(bank: Bank) -> None:
    """A call that Prefect answers from its cache keeps its place: those after it keep theirs."""
    lost = Fails()
    seen = []
    cached = deposit.with_options(persist_result=True)

    @flow(retries=1)
    def settle() -> None:
        states = [cached("a", 1, return_state=True), deposit("a", 10, return_state=True)]
        seen.append([(state.name, state.result()) for state in states])
        lost()

    settle()
    assert bank.balance() == 11
    (_, second) = seen
    assert [name for name, _ in second] == ["Cached", "Completed"]
    assert second[1][1].replayed
    assert bank.keys() == ["deposit#0", "deposit#1"]


def test_with_options_remains_the_same_step(bank: Bank) -> None:
    """A step with other options is still a step, under the same name, in the same order."""
    patient = deposit.with_options(name="patient deposit", retries=3, tag="app=till")
    assert type(patient) is type(deposit)
    assert (patient.retries, deposit.retries) == (3, 0)
    assert patient.with_options(retries=1).step.tag == "app=till"

    @flow
    def settle() -> None:
        deposit("a", 1)
        patient("a", 10)
        deposit("a", 100)

    settle()
    assert bank.balance() == 111
    assert bank.keys() == ["deposit#0", "deposit#1", "deposit#2"]
    by_key = {one.operation_key[-1]: one.provenance for one in bank.receipts()}
    assert (by_key["1"].task, by_key["1"].tag) == ("patient deposit", "app=till")


def test_submitted_steps_take_their_turn_at_the_call(bank: Bank) -> None:
    """Ordinals follow the order of `.submit`, not of execution, and hold on a retry."""
    lost = Fails()
    seen = []

    @flow(retries=1)
    def settle() -> None:
        futures = [deposit.submit("a", cents) for cents in (1, 10, 100, 1000)]
        seen.append([future.result() for future in futures])
        lost()

    settle()
    assert bank.balance() == 1111
    assert all(one.replayed for one in seen[1])
    assert [one.txn_id for one in seen[0]] == [one.txn_id for one in seen[1]]


def test_each_element_of_a_map_is_written_once(bank: Bank) -> None:
    """A map is as many operations as elements, and its retry replays them all."""
    lost = Fails()
    seen = []

    @flow(retries=1)
    def settle() -> None:
        seen.append(deposit.map(["a", "b", "a"], cents=(n for n in (1, 10, 100))).result())
        seen.append(deposit.map(["b"], cents=1000).result())
        lost()

    settle()
    assert (bank.balance("a"), bank.balance("b")) == (101, 1010)
    assert bank.keys() == [f"deposit#{n}" for n in range(4)]
    assert all(one.replayed for part in seen[2:] for one in part)


def test_a_map_takes_one_key_an_element(bank: Bank) -> None:
    """Keys name the elements of a map: their order may change, and one lease carries them all."""
    lost = Fails()
    orders = [["x", "y", "z"], ["z", "y", "x"]]
    cents = {"x": 1, "y": 10, "z": 100}

    @flow(retries=1)
    def settle() -> None:
        names = orders[lost.calls]
        deposit.map("a", [cents[name] for name in names], key=names).wait()
        lost()

    settle()
    assert bank.balance() == 111
    assert bank.keys() == ["deposit=x", "deposit=y", "deposit=z"]
    assert bank.leases() == 1


def test_a_subflow_that_gets_a_new_id_replays(bank: Bank) -> None:
    """On its parent's retry a subflow has another flow run id: its steps are still the same."""
    lost = Fails()
    seen = []
    runs = set()

    @flow
    def part(account: str) -> None:
        from prefect.runtime import flow_run

        runs.add(flow_run.id)
        seen.append(deposit(account, 5))

    @flow(retries=1)
    def settle() -> None:
        deposit("a", 1)
        part("a")
        part("a")
        lost()

    settle()
    assert len(runs) == 4
    assert bank.balance() == 11
    assert [one.replayed for one in seen] == [False, False, True, True]
    assert bank.keys() == ["deposit#0", "part%230/deposit#0", "part%231/deposit#0"]


def test_a_subflow_retries_by_itself(bank: Bank) -> None:
    """A subflow's own retry counts from 0 again, apart from its parent and siblings."""
    lost = Fails()

    @flow(retries=1)
    def part() -> None:
        deposit("a", 10)
        lost()

    @flow
    def settle() -> None:
        deposit("a", 1)
        part()
        deposit("a", 100)

    settle()
    assert bank.balance() == 111
    assert bank.keys() == ["deposit#0", "deposit#1", "part%230/deposit#0"]


def test_an_idempotency_key_makes_another_run_the_same_job(bank: Bank) -> None:
    """Runs under one idempotency key write once between them, whatever they are called from."""

    @flow
    def settle(cents: int) -> Any:
        return deposit("a", cents)

    with using(idempotency_key="invoice 7"):
        first = settle(5)
        second = settle(5)
        assert bank.balance() == 5
        assert (first.replayed, second.replayed) == (False, True)
        with pytest.raises(KeyReusedError):
            settle(6)
    with using(idempotency_key="invoice 8"):
        settle(6)
    assert bank.balance() == 11


def test_the_idempotency_key_stays_with_the_run(bank: Bank) -> None:
    """A run under an idempotency key is retried elsewhere, where nobody says it again."""

    @flow
    def settle() -> Any:
        return deposit("a", 5)

    with get_client(sync_client=True) as client:
        created = client.create_flow_run(settle)
        with using(idempotency_key="invoice 7", initiator="ada@example.com", reason="month end"):
            run_flow(settle, flow_run=created)
        client.set_flow_run_state(created.id, Scheduled(), force=True)
        again = run_flow(settle, flow_run=client.read_flow_run(created.id))
    assert again.replayed
    assert bank.balance() == 5
    (receipt,) = bank.receipts()
    assert receipt.operation_key == "key:invoice 7/deposit#0"
    assert receipt.provenance.initiator == "ada@example.com"
    assert receipt.provenance.reason == "month end"
    assert receipt.provenance.root_run == str(created.id)


def test_the_same_key_with_other_arguments_is_refused(bank: Bank) -> None:
    """A key names one write: with other arguments it neither runs, nor replays, nor is retried."""
    runs = Fails(times=0)

    @transaction(name="noted", retries=3)
    def noted(txn, account: str, cents: int) -> None:
        runs()
        add(txn, account, cents)

    @flow
    def settle() -> None:
        noted("a", 5, key="invoice-7")
        noted("a", 5, key="invoice-7")
        noted("a", 6, key="invoice-7")

    with pytest.raises(KeyReusedError, match="other arguments"):
        settle()
    assert bank.balance() == 5
    assert runs.calls == 3  # none of them by Prefect's retries


def test_ignored_arguments_are_no_part_of_the_operation(bank: Bank) -> None:
    """What `ignore_arguments` names may differ, and may have no canonical form."""

    @transaction(ignore_arguments=("client",))
    def noted(txn, account: str, client: object) -> None:
        assert client
        add(txn, account, 5)

    @flow
    def settle() -> list[bool]:
        return [noted("a", client=object(), key="k").replayed for _ in range(2)]

    assert settle() == [False, True]
    assert bank.balance() == 5


def test_a_result_passed_on_does_not_change_the_operation(bank: Bank) -> None:
    """A step that takes another's result is the same operation when that one was replayed."""
    lost = Fails()

    @transaction
    def follow(txn, before: Any) -> None:
        assert before.txn_id
        add(txn, "b", 1)

    @flow(retries=1)
    def settle() -> bool:
        done = follow(deposit.submit("a", 1))
        lost()
        return done.replayed

    assert settle() is True
    assert (bank.balance("a"), bank.balance("b")) == (1, 1)


@pytest.mark.usefixtures("bank")
def test_a_kept_result_is_replayed() -> None:
    """With `keep_result` a replay returns what the function had returned; without it, None."""
    lost = Fails()
    seen = []
    kept = transaction(name="kept", keep_result=True)(add)

    @flow(retries=1)
    def settle() -> None:
        seen.append((kept("a", 5).result, deposit("a", 5).result))
        lost()

    settle()
    assert seen == [(5, 10), (5, None)]


def test_a_failing_body_commits_nothing_and_may_be_retried(bank: Bank) -> None:
    """A body that raises leaves no row and no receipt, and Prefect's retry runs it for real."""
    fails = Fails(error=lambda: ValueError("no such account"))

    @transaction(retries=1)
    def noted(txn) -> None:
        txn.insert("events", ["id"], [[str(uuid.uuid4())]])
        fails()

    @flow
    def settle() -> Any:
        return noted()

    result = settle()
    assert (result.replayed, result.attempts) == (False, 1)
    assert len(list(bank.database.query("SELECT id FROM events"))) == 1
    (receipt,) = bank.receipts()
    assert receipt.provenance.attempt == 2
