"""One key, one write: no operation ever answers for another, whatever the two have in common."""

import asyncio
import concurrent.futures
import contextvars
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from spanctl.errors import (
    ContextLostError,
    KeyRequiredError,
    KeyReusedError,
    SpanctlError,
)
from spanctl.flows import transaction, using
from tests.faults import raw
from tests.flows.bank import Bank, Fails

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


def events(bank: Bank) -> list[str]:
    return sorted(row[0] for row in bank.database.query("SELECT id FROM events"))


def writer(prefix: str, *, name: str | None = None) -> Any:
    """A step of a factory: all of them are the same code, under the same name."""

    @transaction(name=name)
    def create(txn, order: int) -> None:
        txn.insert("events", ("id",), [(f"{prefix}-{order}",)])

    return create


@transaction
def note(txn, what: str) -> None:
    """Insert a row whose id the database doesn't know of: applied twice, there are two."""
    txn.insert("events", ("id", "what"), [(os.urandom(8).hex(), what)])


# -- two functions of one name


@pytest.mark.parametrize("name", [None, "create"])
def test_two_functions_of_one_name_never_share_a_key(bank: Bank, name: str | None) -> None:
    """The second's write is refused by name: it is never told as done."""
    orders, invoices = writer("orders", name=name), writer("invoices", name=name)

    @flow
    def settle() -> None:
        orders(7, key="7")
        invoices(7, key="7")

    with pytest.raises(SpanctlError) as refused:
        settle()
    assert refused.value.code in {"key_reused", "usage"}
    assert events(bank) == ["orders-7"]


def test_a_retry_that_takes_another_branch_is_refused(bank: Bank) -> None:
    """The other branch's call has the first one's key, and is another write."""
    attempts = []

    @flow(retries=1)
    def settle() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            writer("early")(1)
            msg = "once"
            raise RuntimeError(msg)
        writer("late")(1)

    with pytest.raises(KeyReusedError, match="other values in its closure") as refused:
        settle()
    assert "spanctl audit" in refused.value.hint
    assert events(bank) == ["early-1"]


def test_a_function_that_is_made_again_goes_on(bank: Bank) -> None:
    """A closure made anew on each attempt is the same step."""
    lost = Fails()

    @flow(retries=1)
    def settle() -> bool:
        told = writer("orders")(1)
        lost()
        return bool(told.replayed)

    assert settle() is True
    assert events(bank) == ["orders-1"]


def test_receipts_without_an_identity_match_by_name(bank: Bank) -> None:
    """What was committed before steps had an identity goes on answering for its step."""

    @flow
    def settle() -> Any:
        return writer("orders")(1, key="1")

    with using(idempotency_key="old"):
        first = settle()
        name = bank.target.database.database
        with raw.database(str(bank.target.emulator_host), name) as google, google.batch() as batch:
            batch.update("spanctl_receipts", ("txn_id", "step_identity"), [(first.txn_id, None)])
        again = settle()
    assert (again.txn_id, again.replayed) == (first.txn_id, True)
    assert events(bank) == ["orders-1"]


def test_a_key_in_two_subflows_is_two_writes_or_none(bank: Bank) -> None:
    """Nothing but the subflow tells the calls apart: the second is refused, not replayed."""

    @flow
    def part() -> None:
        note("part", key="k")

    @flow
    def settle() -> None:
        part()
        part()

    with pytest.raises(KeyReusedError, match=r"a call in subflow part#0 \(here .* part#1\)"):
        settle()
    assert len(events(bank)) == 1


def in_a_copied_context(call: Callable[[], Any]) -> None:
    """Make a call in a thread that knows the flow run."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, call).result()


def in_a_task(call: Callable[[], Any]) -> None:
    task(call)()


@pytest.mark.parametrize("place", [in_a_copied_context, in_a_task])
def test_a_key_in_two_subflows_is_refused_wherever_the_call_is(
    bank: Bank, place: Callable[..., None]
) -> None:
    """That a call has no turn of its own changes nothing about the subflows': those are fixed."""

    @flow
    def part() -> None:
        place(lambda: note("part", key="k"))

    @flow
    def settle() -> None:
        part()
        part()

    with pytest.raises(KeyReusedError, match=r"a call in subflow part#0 \(here .* part#1\)"):
        settle()
    assert len(events(bank)) == 1


def test_a_key_in_two_subflows_side_by_side_is_refused(bank: Bank) -> None:
    """Their order may be another on a retry, so the ledger can't tell; the process can."""
    lost = Fails()

    @flow
    async def part(key: str) -> None:
        await asyncio.sleep(0)
        note("part", key=key)

    @flow(retries=1)
    async def settle() -> Any:
        await asyncio.gather(part("a"), part("b"))
        lost()
        return await asyncio.gather(part("c"), part("c"), return_exceptions=True)

    told = asyncio.run(settle())
    assert [getattr(one, "code", None) for one in told].count("key_reused") == 1
    assert len(events(bank)) == 3


def test_a_task_that_calls_its_subflow_again_goes_on(bank: Bank) -> None:
    """A retried task's subflow is another run, and the same call."""
    lost = Fails()

    @flow
    def part(key: str) -> bool:
        return bool(note("part", key=key).replayed)

    @task(retries=1)
    def work(key: str) -> bool:
        replayed = part(key)
        if key == "a":
            lost()
        return replayed

    @flow
    def settle() -> list[bool]:
        return [work("a"), work("b")]

    assert settle() == [True, False]
    assert len(events(bank)) == 2


def test_a_key_in_two_subflows_of_one_side_by_side_is_refused(bank: Bank) -> None:
    """What is called in turn is told apart, though the flow around it has no turn."""

    @flow
    def inner() -> None:
        note("part", key="k")

    @flow
    async def part() -> None:
        inner()
        inner()

    @flow
    async def settle() -> None:
        await asyncio.gather(part())

    with pytest.raises(KeyReusedError):
        asyncio.run(settle())
    assert len(events(bank)) == 1


@pytest.mark.parametrize("key", [None, "k"])
def test_subflows_of_one_name_are_told_apart_all_the_way_down(bank: Bank, key: str | None) -> None:
    """Two different flows of one name each count from 0: what they call would share its key."""

    @flow
    def inner() -> None:
        note("x", key=key)

    @flow(name="part")
    def one() -> None:
        inner()

    @flow(name="part")
    def other() -> None:
        inner()

    @flow
    def settle() -> None:
        one()
        other()

    with pytest.raises(SpanctlError) as refused:
        settle()
    assert refused.value.code == ("key_reused" if key else "key_required")
    assert len(events(bank)) == 1


# -- outside of flows: the job's name


def test_two_programs_with_one_step_and_key_need_a_job_each(bank: Bank) -> None:
    """Without a name the second is refused; with one it writes, and what was there is replayed."""
    sales, stock = writer("sales"), writer("stock")
    first = sales(1, key="day")
    with pytest.raises(KeyReusedError) as refused:
        stock(1, key="day")
    assert "using(job=...)" in refused.value.hint
    assert events(bank) == ["sales-1"]
    with using(job="sales"):
        assert sales(1, key="day").txn_id == first.txn_id, "it was there before the name"
        sales(2, key="other")
        with pytest.raises(KeyReusedError, match="other arguments"):
            sales(3, key="other")
    with using(job="stock"):
        assert stock(1, key="day").replayed is False
        assert stock(1, key="day").replayed is True
    assert events(bank) == ["sales-1", "sales-2", "stock-1"]


# -- hooks


def test_a_step_in_a_hook_takes_no_turn_of_the_flow(bank: Bank) -> None:
    """Whether a hook is called differs between attempts: without key= its call is refused."""
    seen: dict[str, Any] = {"attempts": 0}

    def on_failure(*_: object) -> None:
        with pytest.raises(KeyRequiredError, match="it is called in a hook"):
            note("audit line")
        seen["hook"] = note("audit line", key="audit")

    @flow(on_failure=[on_failure])
    def job() -> Any:
        seen["attempts"] += 1
        note("first")
        if seen["attempts"] == 1:
            msg = "once"
            raise RuntimeError(msg)
        return note("audit line")

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(job)
        with pytest.raises(RuntimeError):
            run_flow(job, flow_run=run)
        client.set_flow_run_state(run.id, Scheduled(), force=True)
        told = run_flow(job, flow_run=client.read_flow_run(run.id))
    assert told.replayed is False
    assert seen["hook"].replayed is False
    assert len(events(bank)) == 3


def test_a_step_in_a_task_s_hook_takes_no_turn_either(bank: Bank) -> None:
    """A task's hook is called in the flow's own thread, after its task run."""
    refused = []

    def on_completion(*_: object) -> None:
        with pytest.raises(KeyRequiredError) as error:
            note("hook")
        refused.append(str(error.value))

    @task(on_completion=[on_completion])
    def work() -> None:
        pass

    @flow
    def job() -> None:
        work()
        note("own")

    job()
    assert len(refused) == 1
    assert len(events(bank)) == 1


def test_a_hook_without_a_context_needs_a_job(bank: Bank) -> None:
    """Before the body there is no flow run's context: a key alone would be every run's."""
    seen = []

    def on_running(*_: object) -> None:
        for key in (None, "k"):
            with pytest.raises(KeyRequiredError):
                note("begun", key=key)
        with using(job="begun"):
            seen.append(note("begun", key="k"))

    @flow(on_running=[on_running])
    def job() -> None:
        pass

    job()
    assert len(seen) == 1
    assert len(events(bank)) == 1


# -- places that have lost the context


@flow
def child(key: str | None = None) -> None:
    note("child", key=key)


def bare(call: Callable[[], Any]) -> Any:
    with temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):
        return call()


POOL = ThreadPoolExecutor(1)
"""Its thread is there before any flow."""


def in_a_pool(call: Callable[[], Any]) -> Any:
    return POOL.submit(bare, call).result()


def in_a_thread(call: Callable[[], Any]) -> Any:
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(bare(call))
        except SpanctlError as error:
            future.set_exception(error)

    threading.Thread(target=work).start()
    return future.result()


def in_an_empty_context(call: Callable[[], Any]) -> Any:
    return contextvars.Context().run(bare, call)


LOST = [in_a_pool, in_a_thread, in_an_empty_context]
CALLS = [
    lambda: note("x"),
    lambda: note("x", key="k"),
    child,
    lambda: child("k"),
]


@pytest.mark.parametrize("place", LOST)
@pytest.mark.parametrize("call", CALLS, ids=["step", "keyed step", "subflow", "keyed subflow"])
def test_a_call_that_has_lost_its_run_is_refused(
    bank: Bank, place: Callable[..., Any], call: Callable[[], Any]
) -> None:
    """Its root is not known: another attempt would get another key, and write once more."""
    POOL.submit(int).result()

    @flow
    def parent() -> None:
        place(call)

    with pytest.raises(ContextLostError, match="that has lost it") as refused:
        parent()
    assert "copy_context" in refused.value.hint
    assert events(bank) == []


def test_an_async_flow_s_executor_has_lost_the_run_too(bank: Bank) -> None:
    """The loop's own threads don't inherit a context."""

    @flow
    async def parent() -> None:
        await asyncio.get_running_loop().run_in_executor(None, bare, child)

    with pytest.raises(ContextLostError):
        asyncio.run(parent())
    assert events(bank) == []


def test_a_job_of_its_own_needs_no_context(bank: Bank) -> None:
    """Who says what the call belongs to may write from anywhere, once."""
    lost = Fails()

    def outside() -> Any:
        with using(job="side"):
            return note("x", key="k")

    def with_a_key() -> Any:
        with using(idempotency_key="side"):
            return child()

    @flow(retries=1)
    def parent() -> None:
        in_a_pool(outside)
        in_a_pool(with_a_key)
        lost()

    parent()
    assert len(events(bank)) == 2


def test_flows_side_by_side_in_one_loop_are_runs_of_their_own(bank: Bank) -> None:
    """An asyncio task inherits its context, so one without a flow's belongs to none."""

    @flow
    async def one() -> None:
        note("one")
        await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(one(), one())

    asyncio.run(both())
    assert len(events(bank)) == 2


def _in_a_child(results: Any, key: str | None) -> None:
    try:
        results.put(str(bare(lambda: note("x", key=key)).outcome))
    except SpanctlError as error:
        results.put(error.code)


def test_a_process_that_a_flow_starts_has_lost_the_run(bank: Bank) -> None:
    """It knows nothing of the flow; forked ones, which gRPC doesn't bear here, are a campaign's."""
    told = []
    start = multiprocessing.get_context("spawn")

    @flow
    def parent() -> None:
        results = start.Queue()
        process = start.Process(target=_in_a_child, args=(results, None))
        process.start()
        told.append(results.get(timeout=60))
        process.join()

    parent()
    assert told[0] in {"context_lost", "key_required"}
    assert events(bank) == []
