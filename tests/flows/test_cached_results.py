"""Prefect's cache answers a call with its own result alone, never with another call's."""

from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow
from prefect.cache_policies import INPUTS, RUN_ID
from pydantic import BaseModel, Field

from spanctl.errors import KeyReusedError
from spanctl.flows import transaction
from spanctl.flows.body import HIDDEN
from spanctl.flows.options import OneCall
from spanctl.resources import DatabaseName
from spanctl.spanner import schema
from spanctl.spanner.client import Database
from spanctl.spanner.rpc import Target
from tests.flows.bank import DDL, Bank, Fails
from tests.flows.test_one_key import events, note, writer

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


class Hidden(BaseModel):
    k: int = Field(default=0, exclude=True)


@pytest.fixture
def second(emulator: str, database: Callable[..., DatabaseName]) -> Target:
    """Another database with a ledger of its own."""
    target = Target(database=database(*DDL), emulator_host=emulator)
    with Database(target) as found:
        schema.install(found)
    return target


def test_another_function_is_not_answered(bank: Bank) -> None:
    """Two of one factory have the same source."""

    @flow(persist_result=True)
    def job() -> None:
        writer("a")(1, key="k")
        writer("b")(1, key="k")

    with pytest.raises(KeyReusedError):
        job()
    assert events(bank) == ["a-1"]


def test_another_branch_is_not_answered(bank: Bank) -> None:
    """A retry that takes it is told by name that the key is used."""
    once = Fails()

    @flow(persist_result=True, retries=1)
    def job() -> None:
        writer("b" if once.calls else "a")(1)
        once()

    with pytest.raises(KeyReusedError):
        job()
    assert events(bank) == ["a-1"]


def test_another_database_is_not_answered(bank: Bank, second: Target) -> None:
    """What one of them committed says nothing of the other."""

    @flow(persist_result=True)
    def job() -> None:
        note("a", key="k")
        note.with_options(database=second)("a", key="k")

    job()
    with Database(second) as other:
        assert len(list(other.query("SELECT id FROM events"))) == 1
    assert len(events(bank)) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 2), [1, 2]), ({1: 2}, {"1": 2}), (Hidden(k=3), Hidden(k=5))],
)
@pytest.mark.parametrize("policy", [None, INPUTS + RUN_ID])
@pytest.mark.usefixtures("bank")
def test_other_arguments_are_not_answered(one: Any, other: Any, policy: Any) -> None:
    """JSON makes the same of them, and a body doesn't."""

    @transaction(persist_result=True, **({"cache_policy": policy} if policy else {}))
    def put(txn, value: Any) -> None:
        txn.insert("events", ("id", "what"), [("a", repr(value))])

    @flow
    def job() -> None:
        put(one, key="k")
        put(other, key="k")

    with pytest.raises(KeyReusedError):
        job()


@pytest.mark.usefixtures("bank")
def test_the_call_itself_is_answered() -> None:
    """A retried flow gets the stored result, with what the function returned."""
    once = Fails()
    seen = []

    @transaction(persist_result=True, ignore_arguments=["log"])
    def put(txn, value: int, log: object = None) -> int:
        txn.insert("events", ("id", "what"), [("a", str(log))])
        return value + 1

    @flow(retries=1)
    def job() -> None:
        seen.append(put(1, log=object()))
        once()

    job()
    assert [(one.result, one.replayed) for one in seen] == [(2, False)] * 2


def test_storage_and_isolation_of_a_policy_are_kept() -> None:
    """Only what its key is made of is another."""
    given = (INPUTS + RUN_ID).configure(isolation_level="READ_COMMITTED", key_storage="/tmp/x")  # noqa: S108 - only a name
    step = note.with_options(cache_policy=given, persist_result=True)
    assert isinstance(step.cache_policy, OneCall)
    assert (step.cache_policy.isolation_level, step.cache_policy.key_storage) == (
        "READ_COMMITTED",
        "/tmp/x",  # noqa: S108
    )
    assert HIDDEN not in str(step.cache_policy)
