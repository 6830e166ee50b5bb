"""What Prefect offers for tasks and their arguments, and what a step makes of it."""

from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
)
from prefect.utilities.annotations import allow_failure, quote

from spanctl.errors import UsageError
from spanctl.flows import transaction
from spanctl.flows.body import HIDDEN
from tests.flows.bank import Bank, Fails, add, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

ANSWERS_FOR_OTHERS: list[dict[str, Any]] = [
    {"cache_policy": INPUTS},
    {"cache_policy": TASK_SOURCE},
    {"cache_policy": RUN_ID},
    {"cache_policy": FLOW_PARAMETERS},
    {"cache_policy": TASK_SOURCE + RUN_ID},
    {"cache_policy": INPUTS + TASK_SOURCE},
    {"cache_policy": DEFAULT - HIDDEN},
    {"cache_policy": CacheKeyFnPolicy(cache_key_fn=lambda *_: "same")},
    {"cache_key_fn": lambda *_: "same"},
    {"result_storage_key": "same"},
]


@pytest.mark.parametrize("options", ANSWERS_FOR_OTHERS)
def test_a_cache_that_answers_for_other_calls_is_refused(options: dict[str, Any]) -> None:
    """Such a call would be told COMMITTED, and nothing was written: by name, at the declaration."""
    (name,) = options
    with pytest.raises(UsageError, match=f"'add' can't have {name}"):
        transaction(**options)(add)
    with pytest.raises(UsageError, match=f"'deposit' can't have {name}"):
        deposit.with_options(**options)


@pytest.mark.parametrize("policy", [DEFAULT, NO_CACHE, None, INPUTS + RUN_ID])
def test_a_cache_of_each_call_alone_is_taken(bank: Bank, policy: Any) -> None:
    """Two calls with equal arguments are two writes; a retry repeats neither."""
    lost = Fails()
    cached = deposit.with_options(cache_policy=policy, persist_result=True, refresh_cache=False)

    @flow(retries=1)
    def settle() -> None:
        cached("a", 1)
        cached("a", 1)
        lost()

    settle()
    assert bank.balance() == 2


@pytest.mark.parametrize("serializer", ["json", "pickle", "compressed/json"])
def test_a_stored_result_is_a_result_again(bank: Bank, serializer: str) -> None:
    """Whatever it is stored as, a call that Prefect answers from its cache returns the same."""
    lost = Fails()
    seen = []
    stored = deposit.with_options(persist_result=True, result_serializer=serializer)

    @flow(retries=1)
    def settle() -> None:
        seen.append(stored("a", 1))
        lost()

    settle()
    assert [type(one) for one in seen] == [type(seen[0])] * 2
    assert [(one.txn_id, one.commit_timestamp) for one in seen] == [
        (seen[0].txn_id, seen[0].commit_timestamp)
    ] * 2
    assert bank.balance() == 1


@task
def breaks() -> int:
    msg = "no such luck"
    raise ValueError(msg)


@task
def five() -> int:
    return 5


def test_what_failed_upstream_is_no_argument(bank: Bank) -> None:
    """`allow_failure` hands an exception on, which names no write: ignored by name, or refused."""

    @flow
    def settle() -> None:
        deposit("a", allow_failure(breaks.submit()))

    with pytest.raises(UsageError, match="argument of type ValueError has no canonical form"):
        settle()
    assert bank.receipts() == []

    @transaction(ignore_arguments=["why"])
    def note(txn, why: object) -> None:
        add(txn, "a", 1 if isinstance(why, ValueError) else 100)

    @flow
    def noted() -> None:
        note(allow_failure(breaks.submit()))

    noted()
    assert bank.balance() == 1


def test_arguments_come_as_for_any_task(bank: Bank) -> None:
    """Futures, states and Prefect's annotations are resolved before the body sees them."""

    @flow
    def settle() -> None:
        deposit("a", allow_failure(five.submit()))
        deposit("a", five.submit())
        deposit("a", quote(5))
        deposit.map(unmapped("a"), [five.submit(), five.submit()]).result()
        deposit("a", 5, wait_for=[five.submit()])
        assert deposit("a", 5, return_state=True).is_completed()

    settle()
    assert bank.balance() == 35
    assert len(bank.keys()) == 7


def test_hooks_and_conditions_are_called(bank: Bank) -> None:
    """Prefect's hooks of a task hear of a step; its own rollback undoes nothing that committed."""
    heard: list[str] = []
    told = deposit.with_options(
        on_completion=[lambda *_: heard.append("completion")],
        on_running=[lambda *_: heard.append("running")],
        task_run_name="deposit-{account}",
        tags=["till"],
        log_prints=True,
        timeout_seconds=30,
    )

    @flow
    def settle() -> None:
        told("a", 5)

    settle()
    assert heard == ["running", "completion"]
    assert bank.balance() == 5
