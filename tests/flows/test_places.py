"""Ordinals are given out only where the order of calls is the same on every attempt."""

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prefect import flow, task
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from spanctl.errors import ContextLostError, KeyRequiredError, UsageError
from spanctl.flows.contexts import in_own_context
from tests.flows.bank import Bank, Fails, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


def step(key: str | None = None) -> Any:
    return deposit("a", 1, key=key)


def in_a_thread(key: str | None = None) -> Any:
    def bare() -> Any:
        with temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):
            return step(key)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(bare).result()


def in_a_thread_with_the_context(key: str | None = None) -> Any:
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, step, key).result()


def in_a_copied_context(key: str | None = None) -> Any:
    return contextvars.copy_context().run(step, key)


def in_a_task(key: str | None = None) -> Any:
    return task(step)(key)


def in_a_submitted_task(key: str | None = None) -> Any:
    return task(step).submit(key).result()


def in_a_subflow_of_a_task(key: str | None = None) -> Any:
    part = flow(name="part")(step)
    return task(lambda: part(key))()


def in_the_body_of_a_step(key: str | None = None) -> Any:
    from spanctl.flows import transaction

    @transaction
    def outer(txn) -> None:
        assert txn
        step(key)

    return outer()


SYNC = [
    in_a_thread_with_the_context,
    in_a_copied_context,
    in_a_task,
    in_a_submitted_task,
    in_a_subflow_of_a_task,
]


@pytest.mark.parametrize("call", [*SYNC, in_a_thread, in_the_body_of_a_step])
def test_a_call_without_a_fixed_turn_is_refused(bank: Bank, call: Callable[..., Any]) -> None:
    """A call whose turn may differ on a retry needs key=, and writes nothing without."""

    @flow
    def settle() -> None:
        call()

    with pytest.raises(KeyRequiredError, match="'deposit' needs key="):
        settle()
    assert bank.balance() == 0
    assert bank.receipts() == []


@pytest.mark.parametrize("call", SYNC)
def test_a_key_makes_it_safe_anywhere_in_a_run(bank: Bank, call: Callable[..., Any]) -> None:
    """With key= the same call works in threads, tasks and their subflows, once in the run."""
    lost = Fails()
    seen = []

    @flow(retries=1)
    def settle() -> None:
        seen.append(call("k"))
        lost()

    settle()
    assert bank.balance() == 1
    assert [one.replayed for one in seen] == [False, True]
    assert bank.keys() == ["deposit=k"]


@task
def pages(count: int = 2) -> Iterator[int]:
    yield from range(1, count + 1)


@task
async def async_pages() -> AsyncIterator[int]:
    yield 1
    yield 2


@flow(name="chapters")
def chapters() -> Iterator[int]:
    yield 1
    yield 2


def over_a_generator_task() -> None:
    for _ in pages():
        step()


def over_a_nested_generator_task() -> None:
    for _ in pages():
        for _ in pages(1):
            step()


def over_one_that_is_left_early() -> None:
    for page in pages(5):
        step()
        if page == 2:
            break


def after_one() -> None:
    assert list(pages()) == [1, 2]
    step()
    step()


def submitted_from_one() -> None:
    for _ in pages():
        deposit.submit("a", 1).result()


@pytest.mark.parametrize(
    "body",
    [
        over_a_generator_task,
        over_a_nested_generator_task,
        over_one_that_is_left_early,
        after_one,
        submitted_from_one,
    ],
)
def test_a_loop_over_a_generator_task_is_the_flows_own_body(
    bank: Bank, body: Callable[[], None]
) -> None:
    """What yields is not what calls: the calls take their ordinals, the same on a retry."""
    lost = Fails()

    @flow(retries=1)
    def settle() -> None:
        body()
        lost()

    settle()
    assert bank.balance() == 2
    assert bank.keys() == ["deposit#0", "deposit#1"]


def test_a_loop_over_an_async_generator_task_is_the_flows_own_body(bank: Bank) -> None:
    """The same in an async flow."""

    @flow
    async def settle() -> None:
        async for _ in async_pages():
            step()

    asyncio.run(settle())
    assert bank.keys() == ["deposit#0", "deposit#1"]


@task
def writing_pages() -> Iterator[int]:
    step()
    yield 1


def in_a_generator_task() -> None:
    list(writing_pages())


@task
def turning() -> None:
    for _ in pages():
        step()


@pytest.mark.parametrize("body", [in_a_generator_task, turning])
def test_a_generator_task_is_a_task_all_the_same(bank: Bank, body: Callable[[], None]) -> None:
    """Within its own body, or where another task iterates over it, a call has no fixed turn."""

    @flow
    def settle() -> None:
        body()

    with pytest.raises(KeyRequiredError, match="called inside a task"):
        settle()
    assert bank.receipts() == []


def over_a_generator_flow() -> None:
    for _ in chapters():
        step()


def a_subflow_over_a_generator_task() -> None:
    part = flow(name="part")(step)
    for _ in pages():
        part()


def after_two_side_by_side() -> None:
    for _ in zip(pages(), pages(), strict=True):
        pass
    step()


@pytest.mark.parametrize(
    "body", [over_a_generator_flow, a_subflow_over_a_generator_task, after_two_side_by_side]
)
def test_a_generator_that_hides_the_place_is_named(bank: Bank, body: Callable[[], None]) -> None:
    """Where Prefect's context says something else than where the call is, the way out is told."""

    @flow
    def settle() -> None:
        body()

    with pytest.raises(KeyRequiredError, match=r"generator .* iterate over list\("):
        # Of two generators, Prefect leaves one's context behind: so it gets a copy.
        contextvars.copy_context().run(settle)
    assert bank.receipts() == []


def test_a_thread_without_a_context_can_t_name_its_run(bank: Bank) -> None:
    """A bare thread knows of no flow: with key= its write would be every run's."""

    @flow
    def settle() -> None:
        in_a_thread("k")

    with pytest.raises(ContextLostError, match="needs the context of its flow run"):
        settle()
    assert bank.balance() == 0


def test_outside_of_any_flow_a_key_is_needed_and_enough(bank: Bank) -> None:
    """A step called outside of flows is a task run of its own, named by its key."""
    with pytest.raises(KeyRequiredError, match="outside of a flow"):
        step()
    assert step("k").replayed is False
    assert step("k").replayed is True
    assert bank.balance() == 1
    (receipt,) = bank.receipts()
    assert receipt.operation_key == "keyed/deposit=k"
    assert receipt.provenance.root_run is None
    assert receipt.provenance.task_run is not None


async def gathered(*calls: Callable[[], Any]) -> list[Any]:
    async def one(call: Callable[[], Any]) -> Any:
        return call()

    return await asyncio.gather(*(one(call) for call in calls))


async def in_an_asyncio_task() -> None:
    await gathered(step)


async def in_to_thread() -> None:
    await asyncio.to_thread(step)


async def in_gathered_subflows() -> None:
    part = flow(name="part")(step)

    async def one() -> None:
        part()

    await asyncio.gather(one(), one())


@pytest.mark.parametrize("call", [in_an_asyncio_task, in_to_thread, in_gathered_subflows])
def test_asyncio_tasks_and_threads_are_refused(bank: Bank, call: Callable[..., Any]) -> None:
    """Another asyncio task, a thread of asyncio's, or subflows side by side need key=."""

    @flow
    async def settle() -> None:
        await call()

    with pytest.raises(KeyRequiredError):
        asyncio.run(settle())
    assert bank.balance() == 0


def test_steps_work_in_async_flows(bank: Bank) -> None:
    """In an async flow's own body steps are called, submitted and awaited around, in order."""
    lost = Fails()
    seen = []

    async def helper() -> Any:
        await asyncio.sleep(0)
        return step()

    @flow
    async def part() -> Any:
        return step()

    @flow(retries=1)
    async def settle() -> None:
        first = step()
        await asyncio.sleep(0)
        seen.append([first, await helper(), deposit.submit("a", 1).result(), await part()])
        lost()

    asyncio.run(settle())
    assert bank.balance() == 4
    assert [one.replayed for one in seen[1]] == [True] * 4
    assert bank.keys() == [*(f"deposit#{n}" for n in range(3)), "part%230/deposit#0"]


def test_subflows_of_one_name_are_refused_unless_they_are_one(bank: Bank) -> None:
    """Two different flows of one name in one parent would share operations: the second is told."""

    @flow(name="part")
    def one() -> None:
        step()

    @flow(name="part")
    def other() -> None:
        step()
        step()

    @flow
    def settle() -> None:
        one()
        other()

    with pytest.raises(KeyRequiredError, match="two different subflows here are named 'part'"):
        settle()
    assert bank.balance() == 1


def test_deferred_calls_need_a_key() -> None:
    """`delay`, `apply_async` and a deferred map are refused without a key."""
    for call in (
        lambda: deposit.delay("a", 1),
        lambda: deposit.apply_async(("a", 1)),
        lambda: deposit.map(["a"], 1, deferred=True),
    ):
        with pytest.raises(KeyRequiredError, match="deferred"):
            call()


def test_a_call_with_wrong_arguments_takes_no_turn(bank: Bank) -> None:
    """A call that can't be made leaves the ordinals of the others alone."""

    @flow
    def settle() -> None:
        with pytest.raises(Exception, match="missing a required argument"):
            deposit("a")
        with pytest.raises(UsageError, match="type float"):
            deposit("a", 1, key=1.5)
        deposit("a", 1)

    settle()
    assert bank.keys() == ["deposit#0"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [("abc", "one key="), (["x"], "1 keys are given for the 2"), (["x", "x"], "the same key=")],
)
def test_a_map_needs_as_many_different_keys(bank: Bank, keys: Any, told: str) -> None:
    """Keys of a map are one an element and all different, or nothing is run."""

    @flow
    def settle() -> None:
        deposit.map(["a", "b"], 1, key=keys)

    with pytest.raises(UsageError, match=told):
        settle()
    assert bank.receipts() == []


@pytest.mark.usefixtures("bank")
def test_the_flows_own_context_is_told_from_copies() -> None:
    """Only the context that entered the flow is its own; asking changes nothing."""
    answers = []

    @flow
    def settle() -> None:
        context = FlowRunContext.get()
        assert context is not None

        def ask() -> bool:
            return in_own_context(context)

        copied = contextvars.copy_context()
        thread = threading.Thread(target=lambda: answers.append(copied.run(ask)))
        answers.extend([ask(), contextvars.copy_context().run(ask), ask()])
        thread.start()
        thread.join()
        answers.append(ask())
        assert FlowRunContext.get() is context

    settle()
    assert answers == [True, False, True, False, True]
