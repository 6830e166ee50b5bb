"""What can be a step, and what a step remains; no server, no database."""

import inspect
import pickle
from datetime import UTC, datetime
from typing import Any

import cloudpickle
import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.serializers import JSONSerializer, PickleSerializer
from prefect.utilities.hashing import hash_objects

from spanctl.errors import (
    KeyRequiredError,
    KeyReusedError,
    OutcomeUnknownError,
    UnreachableError,
    UsageError,
)
from spanctl.flows import TransactionTask, transaction
from spanctl.flows.callsite import CallSite, Origin
from spanctl.ledger.canonical import canonical_bytes
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.ledger.receipt import TransactionResult
from spanctl.resources import DatabaseName
from spanctl.spanner.rpc import Target

TARGET = Target(database=DatabaseName("my-project", "my-instance", "my-database"))
RESULT = TransactionResult(
    txn_id="5a0f1f0e-3c1b-5d62-9b0c-6b8d2a4c9e11",
    commit_timestamp=datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC),
    row_counts=(1, 2),
    result={"balance": 5},
)


def site(call: int = 0, **options: Any) -> CallSite:
    key = OperationKey("root", ("part#0",), "move", call)
    return CallSite.of(Origin(key=key, target=TARGET, **options))


@transaction(retries=2, tags={"money"})
def move(txn: Any, source: str, cents: int = 1, *more: int, **extra: int) -> Any:
    """Move cents."""
    return (txn, source, cents, more, extra)


def no_transaction() -> None: ...
def only_keywords(*, txn: Any) -> None: ...
def with_key(txn: Any, key: str) -> None: ...
def with_deferred(txn: Any, deferred: bool) -> None: ...
def method(self: Any, txn: Any) -> None: ...
async def coroutine(txn: Any) -> None: ...
def generator(txn: Any) -> Any:
    yield txn


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (no_transaction, "takes no transaction"),
        (only_keywords, "takes no transaction"),
        (with_key, "a parameter named 'key'"),
        (with_deferred, "a parameter named 'deferred'"),
        (method, "is a method"),
        (coroutine, "is async"),
        (generator, "is a generator"),
        (staticmethod(with_key), "no plain function"),
        (move, "no plain function"),
    ],
)
def test_what_cannot_be_a_step_is_told_at_its_definition(function: Any, told: str) -> None:
    """A function that can't be a step is refused where it is decorated, with what to do."""
    with pytest.raises(UsageError, match=told) as refused:
        transaction(function)
    assert refused.value.hint


def test_ignored_arguments_must_exist() -> None:
    """A misspelt name in `ignore_arguments` is told, instead of being ignored itself."""
    with pytest.raises(UsageError, match="no parameter clint"):
        transaction(ignore_arguments=("clint",))(lambda txn, client: (txn, client))


def test_a_step_is_a_prefect_task_of_its_function() -> None:
    """Name, description, source and options are the function's, parameters all but txn."""
    assert isinstance(move, TransactionTask)
    assert (move.name, move.description, move.retries) == ("move", "Move cents.", 2)
    assert move.tags == {"money"}
    assert "def move" in (move.source_code or "")
    names = list(inspect.signature(move.fn).parameters)
    assert names == ["source", "cents", "more", "spanctl_call", "extra"]


def test_steps_of_one_name_have_task_keys_of_their_own() -> None:
    """Prefect tells two functions of one name apart, although both run in the same wrapper."""

    def one(txn: Any) -> None:
        txn.execute_update("DELETE FROM a WHERE TRUE")

    def other(txn: Any) -> None:
        txn.execute_update("DELETE FROM b WHERE TRUE", {})

    other.__name__ = other.__qualname__ = "one"
    assert transaction(one).task_key != transaction(other).task_key


def test_with_options_keeps_kind_state_and_what_is_not_named() -> None:
    """Options change one by one: the rest of the step, ours and Prefect's, stays."""
    first = move.with_options(name="patient", retries=5, keep_result=True)
    second = first.with_options(tag="app=till")
    assert (second.name, second.retries, second.tags) == ("patient", 5, {"money"})
    assert (second.step.name, second.step.keep_result, second.step.tag) == (
        "move",
        True,
        "app=till",
    )
    assert second.task_key == move.task_key
    assert (move.retries, move.step.keep_result, move.step.tag) == (2, False, None)


def test_a_run_is_named_by_its_transaction() -> None:
    """Prefect's UI shows the txn ID in the task run's name, unless the user names it."""
    name: Any = move.task_run_name
    assert name(parameters={"spanctl_call": site(3)}) == f"move {txn_id(site(3).origin.key)}"
    renamed: Any = move.with_options(name="patient").task_run_name
    assert renamed(parameters={"spanctl_call": site()}).startswith("patient ")
    assert move.with_options(task_run_name="mine").task_run_name == "mine"
    assert transaction(task_run_name="mine")(lambda txn: txn).task_run_name == "mine"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (KeyReusedError("k"), False),
        (UsageError("u"), False),
        (OutcomeUnknownError("o"), True),
        (UnreachableError("n"), True),
        (ValueError("v"), True),
    ],
)
def test_only_what_may_get_better_is_retried(error: Exception, again: bool) -> None:
    """Prefect doesn't retry what no retry mends; for the rest the user's condition is asked."""
    state: Any = State(type=StateType.FAILED, data=error)
    asked = []

    def refuse(*_: Any) -> bool:
        asked.append(error)
        return False

    async def accept(*_: Any) -> bool:
        return True

    def verdict(task: Any) -> bool:
        assert inspect.isfunction(task.retry_condition_fn)  # Prefect ignores other callables
        return task.retry_condition_fn(task, None, state)

    assert verdict(move) is again
    assert verdict(move.with_options(retry_condition_fn=accept)) is again
    patient = move.with_options(retry_condition_fn=refuse).with_options(retries=9)
    assert verdict(patient) is False
    assert bool(asked) is again


def test_a_body_without_a_call_site_is_refused() -> None:
    """Whoever goes around the step's own methods is told: nothing may run without its key."""
    with pytest.raises(KeyRequiredError, match="without a call site"):
        move.fn("a")  # type: ignore[call-arg]
    with pytest.raises(KeyRequiredError, match="without a call site"):
        move.fn("a", spanctl_call=str(site()))  # type: ignore[call-arg]


def test_prefect_sees_the_operation_key_alone() -> None:
    """For Prefect's cache a call is its operation key: the same again, and unlike all others."""

    def cache_key(one: CallSite) -> str | None:
        return hash_objects({"source": "a", "spanctl_call": one})

    assert cache_key(site(0)) == cache_key(site(0, expect_replay=True))
    assert cache_key(site(0)) != cache_key(site(1))
    assert str(site(0)) == "root/part%230/move#0"


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_call_sites_travel(pickler: Any) -> None:
    """A call site reaches another process whole."""
    one = site(expect_replay=True)
    back = pickle.loads(pickler.dumps(one))  # noqa: S301 - made a line above
    assert back == one
    assert back.origin == one.origin


def test_steps_travel() -> None:
    """A step reaches another process, for task runners that use some."""
    back = pickle.loads(cloudpickle.dumps(move.with_options(tag="t")))  # noqa: S301 - ours
    assert (type(back), back.step.tag, back.retries) == (TransactionTask, "t", 2)


@pytest.mark.parametrize("serializer", [PickleSerializer(), JSONSerializer()])
def test_results_can_be_stored(serializer: Any) -> None:
    """A result survives both of Prefect's serializers unchanged."""
    assert serializer.loads(serializer.dumps(RESULT)) == RESULT


def test_a_result_stands_for_its_transaction_in_digests() -> None:
    """What differs between a first run and its replay doesn't make other arguments of a result."""
    replay = TransactionResult(
        txn_id=RESULT.txn_id,
        commit_timestamp=RESULT.commit_timestamp,
        attempts=0,
        replayed=True,
    )
    assert canonical_bytes([RESULT]) == canonical_bytes([replay])
    other = TransactionResult(txn_id="another", commit_timestamp=RESULT.commit_timestamp)
    assert canonical_bytes(RESULT) != canonical_bytes(other)
