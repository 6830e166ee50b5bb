"""What a flow's threads call after it has ended: it has lost its run, as during the run."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from prefect import flow

from spanctl.errors import ContextLostError, SpanctlError
from spanctl.flows import using
from tests.flows.bank import Bank
from tests.flows.test_one_key import bare, events, note

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


@flow
def child() -> Any:
    return note("child")


def keyed() -> Any:
    return note("x", key="done")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool whose one thread is there before any flow."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        yield pool


def late(call: Callable[[], Any], pool: ThreadPoolExecutor | None = None) -> Any:
    """Make a call from what a flow has begun, when that flow has ended."""
    ended = threading.Event()

    def work() -> Any:
        assert ended.wait(30)
        return bare(call)

    @flow
    def parent() -> Any:
        if pool is not None:
            return [pool.submit(work)]
        told: Future[Any] = Future()
        threading.Thread(target=_tell, args=(told, work)).start()
        return [told]

    (told,) = parent(return_state=False)
    ended.set()
    return told.result(30)


def _tell(told: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        told.set_result(work())
    except SpanctlError as error:
        told.set_exception(error)


@pytest.mark.parametrize("call", [keyed, child, lambda: note("x")], ids=["keyed", "flow", "plain"])
def test_a_late_thread_has_lost_its_run(bank: Bank, call: Callable[[], Any]) -> None:
    """Another run's would get its key, and be told COMMITTED without a write."""
    with pytest.raises(ContextLostError, match="in a thread that has lost it"):
        late(call)
    assert events(bank) == []


def test_late_work_of_a_pool_has_lost_its_run(bank: Bank, pool: ThreadPoolExecutor) -> None:
    """The pool's thread was there before the flow."""
    with pytest.raises(ContextLostError, match="in a thread that has lost it"):
        late(keyed, pool)
    assert events(bank) == []


@pytest.mark.parametrize("names", [{"job": "done"}, {"idempotency_key": "done"}])
def test_late_work_that_says_what_it_belongs_to(bank: Bank, names: dict[str, str]) -> None:
    """It is applied, once for that job or key."""

    def named() -> Any:
        with using(**names):
            return keyed()

    assert [late(named).replayed for _ in range(2)] == [False, True]
    assert len(events(bank)) == 1


def test_threads_of_a_server_run_their_flows(bank: Bank) -> None:
    """One after the other, in any thread of a pool that was there during the others' flows."""
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for meeting in [pool.submit(barrier.wait, 10) for _ in range(2)]:
            meeting.result()
        for _ in range(4):
            assert pool.submit(bare, child).result().replayed is False
    assert len(events(bank)) == 4


def test_a_thread_goes_on_after_its_own_flow(bank: Bank, pool: ThreadPoolExecutor) -> None:
    """What follows on a flow in the thread that executes it is outside of it."""

    def work() -> Any:
        child()
        return keyed()

    assert pool.submit(bare, work).result().replayed is False
    assert len(events(bank)) == 2


def test_a_thread_that_is_started_afterwards_is_no_part_of_a_run(bank: Bank) -> None:
    child()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(bare, keyed).result().replayed is False
    assert len(events(bank)) == 2


def test_a_copied_context_knows_that_it_is_no_flow_s(bank: Bank) -> None:
    """A loop's own threads are there during its flows, and work for others afterwards."""

    @flow
    async def parent() -> None:
        await asyncio.to_thread(int)

    async def serve() -> Any:
        await parent()
        await asyncio.to_thread(child)
        return await asyncio.to_thread(keyed)

    assert asyncio.run(serve()).replayed is False
    assert len(events(bank)) == 2
