"""Bodies that use up what they were given fail by name: they never commit with half of it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prefect import flow

from spanctl.errors import ArgumentChangedError, SpanctlError, UsageError
from spanctl.flows import transaction, using
from spanctl.spanner.client import Database
from spanctl.spanner.rpc import Target
from spanctl.spanner.run import Run
from tests.faults.proxy import FaultProxy, fail
from tests.flows.bank import Bank, Fails
from tests.flows.test_one_key import events

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


@transaction
def pour(txn, items: list[str]) -> None:
    while items:
        txn.insert("events", ("id",), [(items.pop(),)])


@pytest.fixture
def aborting(emulator: str, bank: Bank) -> Iterator[Target]:
    """The bank's database behind a proxy that answers an operation's first Commit with ABORTED."""
    with FaultProxy(emulator) as proxy:
        proxy.add("Commit", fail("ABORTED"), when=lambda p: "spanctl_receipts" in p.writes)
        yield Target(database=bank.target.database, emulator_host=proxy.address)


def test_a_body_that_consumes_its_argument_fails_by_name(bank: Bank, aborting: Target) -> None:
    """After ABORTED it would see an emptied list, and commit without its rows."""

    @flow
    def job() -> None:
        with using(database=aborting):
            pour(["a", "b"])

    with pytest.raises(ArgumentChangedError, match="changed"):
        job()
    assert events(bank) == []


def test_a_retried_task_s_body_sees_what_the_first_saw(bank: Bank) -> None:
    """Prefect hands the same objects to each retry."""
    once = Fails()

    @transaction(retries=1)
    def pour_once(txn, items: list[str]) -> None:
        while items:
            txn.insert("events", ("id",), [(items.pop(),)])
        once()

    @flow
    def job() -> None:
        pour_once(["a", "b"])

    with pytest.raises(SpanctlError) as refused:
        job()
    assert refused.value.code in {"argument_changed", "usage"}
    assert events(bank) == []


@pytest.mark.parametrize("name", [None, "drain"])
def test_a_body_that_consumes_its_closure_fails_by_name(bank: Bank, name: str | None) -> None:
    """What it closes over is given to it just as well."""
    items = ["a", "b"]

    @transaction(name=name, retries=1)
    def drain(txn) -> None:
        drained = [items.pop() for _ in list(items)]
        txn.insert("events", ("id",), [(one,) for one in drained])
        if drained:
            msg = "once"
            raise RuntimeError(msg)

    @flow
    def job() -> None:
        drain()

    with pytest.raises(ArgumentChangedError, match="step 'drain' changed what it was given"):
        job()
    assert events(bank) == []


def test_the_library_compares_arguments_too(bank: Bank, aborting: Target) -> None:
    """A body that is run without Prefect must not consume them either."""
    items = ["a", "b"]

    def body(txn: Any) -> None:
        while items:
            txn.insert("events", ("id",), [(items.pop(),)])

    with (
        Database(aborting) as database,
        Run(database, "job") as run,
        pytest.raises(ArgumentChangedError),
    ):
        run.step("pour", body, key="k", arguments={"items": items})
    assert events(bank) == []


@dataclasses.dataclass
class Batch:
    """Data in a closure, and a count, which a body may change."""

    items: list[str]
    seen: int = 0


def test_data_inside_an_object_of_the_closure_counts(bank: Bank, aborting: Target) -> None:
    """A record's lists are data like any other list."""
    batch = Batch(["a", "b"])

    @transaction
    def drain(txn) -> None:
        while batch.items:
            txn.insert("events", ("id",), [(batch.items.pop(),)])

    @flow
    def job() -> None:
        with using(database=aborting):
            drain()

    with pytest.raises(ArgumentChangedError, match="step 'drain' changed what it was given"):
        job()
    assert events(bank) == []


def test_what_an_object_of_the_closure_counts_is_its_own(bank: Bank, aborting: Target) -> None:
    """An attempt may be counted or logged."""
    batch = Batch(["a", "b"])

    @transaction(name="counted")
    def count(txn) -> None:
        batch.seen += 1
        txn.insert("events", ("id",), [(one,) for one in batch.items])

    @flow
    def job() -> None:
        with using(database=aborting):
            count()

    job()
    assert (events(bank), batch.seen) == (["a", "b"], 2)


@pytest.mark.parametrize("make", [iter, lambda items: (one for one in items)])
def test_an_iterator_in_the_closure_is_refused(bank: Bank, make: Callable[..., Any]) -> None:
    """With a name too: nobody can tell how much of it is left."""
    items = make(["a", "b"])

    @transaction(name="drain")
    def drain(txn) -> None:
        txn.insert("events", ("id",), [(one,) for one in items])

    @flow
    def job() -> None:
        drain()

    with pytest.raises(UsageError, match=r"of type .* has no canonical form") as refused:
        job()
    assert refused.value.hint == "make a list of it before"
    assert events(bank) == []


def test_a_retried_flow_s_body_sees_what_the_first_saw(bank: Bank) -> None:
    """Prefect hands a flow's own parameters to each attempt, whatever a body has left of them."""
    once = Fails()

    @transaction
    def pour_once(txn, items: list[str]) -> None:
        drained = [items.pop() for _ in list(items)]
        txn.insert("events", ("id",), [(one,) for one in drained])
        once()

    @flow(retries=1, validate_parameters=False)
    def job(items: list[str]) -> None:
        pour_once(items)

    with pytest.raises(ArgumentChangedError):
        job(["a", "b"])
    assert events(bank) == []


def test_a_retried_flow_that_gives_them_anew_goes_on(bank: Bank) -> None:
    """The body changes them, and nobody sees it."""
    once = Fails()

    @transaction
    def pour_once(txn, items: list[str]) -> None:
        drained = [items.pop() for _ in list(items)]
        txn.insert("events", ("id",), [(one,) for one in drained])
        once()

    @flow(retries=1)
    def job() -> None:
        pour_once(["a", "b"])

    job()
    assert events(bank) == ["a", "b"]


# -- bodies that only make what would do the work


def later(txn: Any) -> Any:
    yield txn.insert("events", ("id",), [("a",)])


async def some_time(txn: Any) -> None:
    txn.insert("events", ("id",), [("a",)])


async def bit_by_bit(txn: Any) -> Any:
    yield txn.insert("events", ("id",), [("a",)])


@pytest.mark.parametrize("body", [later, some_time, bit_by_bit])
def test_a_body_that_has_not_run_commits_nothing(bank: Bank, body: Callable[..., Any]) -> None:
    """However the step hides that it is async or a generator, and in the library as well."""

    @transaction
    def hidden(txn) -> Any:
        return body(txn)

    @flow
    def job() -> None:
        hidden()

    with pytest.raises(UsageError, match="whose code has not run"):
        job()
    with (
        Database(bank.target) as database,
        Run(database, "job") as run,
        pytest.raises(UsageError, match="whose code has not run"),
    ):
        run.step("hidden", body)
    assert (events(bank), bank.receipts()) == ([], [])


# -- two functions in the library


def test_the_library_refuses_a_second_function_for_a_key(bank: Bank) -> None:
    """The first one's receipt would answer for it; the same one may be called again."""
    with Database(bank.target) as database, Run(database, "job") as run:
        for _ in range(2):
            run.step("book", lambda txn: txn.insert("events", ("id",), [("a",)]), key="k")
        with pytest.raises(SpanctlError, match="is called with two functions") as refused:
            run.step("book", lambda txn: txn.insert("events", ("id",), [("b",)]), key="k")
    assert refused.value.code == "key_reused"
    assert events(bank) == ["a"]
