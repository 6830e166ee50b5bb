"""One step and key in two subflows that differ in no argument: refused by name, or applied."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner

from spanctl.errors import KeyReusedError
from spanctl.flows import transaction
from tests.flows.bank import Bank, Fails
from tests.flows.test_one_key import events, note

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


@flow
def part() -> bool:
    return bool(note("part", key="k").replayed)


@flow
async def async_part() -> bool:
    return bool(note("part", key="k").replayed)


def in_a_thread(call: Callable[[], Any]) -> Any:
    """Make a call in a thread that knows the flow run."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, call).result()


def in_a_task(call: Callable[[], Any]) -> Any:
    return task(call)()


def in_a_submitted_task(call: Callable[[], Any]) -> Any:
    return task(call).submit().result()


LOOSE = [in_a_thread, in_a_task, in_a_submitted_task]


def refused(call: Callable[[], Any]) -> None:
    with pytest.raises(KeyReusedError, match=r"committed before by|in two runs of"):
        call()


@pytest.mark.parametrize("place", LOOSE)
@pytest.mark.parametrize("first", ["fixed", "loose"])
def test_a_fixed_subflow_and_one_without_a_turn(
    bank: Bank, place: Callable[..., Any], first: str
) -> None:
    """Whichever comes first has the key: the other's write is not told as done."""
    calls = [part, partial(place, part)]

    @flow
    def settle() -> None:
        one, other = calls if first == "fixed" else reversed(calls)
        assert one() is False
        refused(other)

    settle()
    assert len(events(bank)) == 1


def test_an_awaited_subflow_and_a_gathered_one(bank: Bank) -> None:
    """What is awaited in the flow's own task has its turn, what is gathered has none."""

    @flow
    async def settle() -> Any:
        await async_part()
        return await asyncio.gather(async_part(), return_exceptions=True)

    (told,) = asyncio.run(settle())
    assert isinstance(told, KeyReusedError)
    assert len(events(bank)) == 1


@pytest.mark.parametrize("place", LOOSE)
def test_two_subflows_whose_own_have_no_turn(bank: Bank, place: Callable[..., Any]) -> None:
    """The ones in between have a turn each, and that tells their calls apart."""

    @flow
    def middle() -> None:
        place(part)

    @flow
    def settle() -> None:
        middle()
        refused(middle)

    settle()
    assert len(events(bank)) == 1


@pytest.mark.parametrize("place", LOOSE)
def test_a_later_attempt_tells_them_apart_too(bank: Bank, place: Callable[..., Any]) -> None:
    """The ledger knows which of the two it was, when the first one is not called again."""
    lost = Fails()

    @flow
    def middle(*, call: bool) -> None:
        if call:
            place(part)

    @flow(retries=1)
    def settle() -> None:
        again = lost.calls > 0
        middle(call=not again)
        if again:
            refused(partial(middle, call=True))
        lost()

    settle()
    assert len(events(bank)) == 1


def test_two_calls_in_one_task(bank: Bank) -> None:
    """A task's second subflow is not the first one's repeat."""

    @task
    def work() -> None:
        assert part() is False
        refused(part)

    @flow
    def settle() -> None:
        work()

    settle()
    assert len(events(bank)) == 1


@pytest.mark.parametrize("place", [*LOOSE, lambda call: call()])
def test_a_retry_of_anything_is_the_same_call(bank: Bank, place: Callable[..., Any]) -> None:
    """Of the subflow, of the one around it, and of the whole flow."""
    inner, middle_lost, outer = Fails(), Fails(), Fails()
    told = []

    @flow(retries=1)
    def deep() -> None:
        told.append(note("deep", key="k").replayed)
        inner()

    @flow(retries=1)
    def middle() -> None:
        place(deep)
        middle_lost()

    @flow(retries=1)
    def settle() -> None:
        middle()
        outer()

    settle()
    assert told == [False, True, True, True]
    assert len(events(bank)) == 1


def test_a_retry_of_a_task_in_a_task_is_the_same_call(bank: Bank) -> None:
    """The outer task's retry makes another task run of the inner one, and another flow run."""
    lost = Fails()
    told = []

    @task
    def inner() -> None:
        told.append(part())

    @task(retries=1)
    def outer() -> None:
        inner()
        lost()

    @flow
    def settle() -> None:
        outer()

    settle()
    assert told == [False, True]
    assert len(events(bank)) == 1


def test_other_keys_stay_other_writes(bank: Bank) -> None:
    """Subflows with and without a turn, each with a key of its own, on each attempt."""
    lost = Fails()

    @flow
    def named(key: str) -> bool:
        return bool(note("part", key=key).replayed)

    @flow(retries=1)
    def settle() -> list[bool]:
        told = [named("a"), *(place(partial(named, place.__name__)) for place in LOOSE)]
        lost()
        return told

    assert settle() == [True] * 4
    assert len(events(bank)) == 4


@transaction
def plant(txn, event: str) -> None:
    txn.insert("events", ["id"], [[f"{event}-{txn.txn_id[:4]}"]])


@flow
def planting() -> bool:
    return bool(plant("x", key="k").replayed)


@task(retries=1)
def work(*, lost: bool) -> str:
    """Call the subflow; twice where the first time is lost."""
    from prefect.context import TaskRunContext

    replayed = planting()
    context = TaskRunContext.get()
    if lost and context and context.task_run.run_count == 1:
        msg = "lost its worker"
        raise RuntimeError(msg)
    return str(replayed)


def test_two_processes_of_a_pool(bank: Bank) -> None:
    """No process sees what the other has called: the receipt says whose it is."""

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def settle() -> list[Any]:
        futures = [work.submit(lost=lost) for lost in (True, False)]
        for future in futures:
            future.wait()
        return [one.state.result(raise_on_failure=False) for one in futures]

    first, second = settle()
    assert first == "True", "a retry of the task is the same call"
    assert isinstance(second, KeyReusedError)
    assert len(events(bank)) == 1
