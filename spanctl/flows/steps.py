"""Steps: functions whose body is one Spanner transaction, as Prefect tasks.

Prefect runs a body again after a retry, a restart or a resubmission. A step's operation is named at
its call site, so however often its body runs, what it writes is applied at most once.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, cast, overload

from prefect.tasks import Task, TaskOptions
from prefect.utilities.annotations import allow_failure, opaque, quote, unmapped
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.callables import explode_variadic_parameter, get_call_parameters
from prefect.utilities.collections import isiterable
from prefect.utilities.engine import resolve_inputs_sync
from prefect.utilities.visualization import get_task_viz_tracker

from spanctl.errors import (
    ConfigurationError,
    ConflictError,
    KeyRequiredError,
    LimitError,
    UsageError,
    VerificationError,
)
from spanctl.flows.body import HIDDEN, Step
from spanctl.flows.callsite import CallSite, allot
from spanctl.flows.options import OneCall, check
from spanctl.flows.runs import enrolled, lease_ahead, watch
from spanctl.ledger.keys import txn_id
from spanctl.ledger.receipt import TransactionResult

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.futures import PrefectDistributedFuture, PrefectFutureList
    from prefect.tasks import RetryConditionCallable, TaskRunNameValueOrCallable

    from spanctl.invocation import DatabaseLike
    from spanctl.spanner.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")

PERMANENT = (UsageError, ConfigurationError, ConflictError, LimitError, VerificationError)
"""Errors that no retry mends; Prefect is told not to try."""


class TransactionTask(Task[P, TransactionResult]):
    """A Prefect task whose body is one Spanner transaction, applied at most once per call.

    It takes all of a task's options. Calls take ``key=``, the caller's own name for the write
    within the run; it is needed wherever calls have no fixed order: in other threads and asyncio
    tasks than the flow's own, inside tasks, outside of flows, and for ``delay``.

    Attributes:
        step: What runs as the body, and where.
    """

    step: Step

    def __init__(self, step: Step, **options: Unpack[TaskOptions]) -> None:
        """Make the task; see :func:`transaction`."""
        check(step.name, options, HIDDEN)
        super().__init__(fn=step.as_task_function(), **options)
        self._settle(step, self.retry_condition_fn)

    def _settle(self, step: Step, condition: "RetryConditionCallable | None") -> None:
        self.step = step
        self.cache_policy = OneCall.instead_of(self.cache_policy)
        self.fn = step.as_task_function()
        self.task_key = Task(fn=step.function).task_key  # every wrapper has the same code
        self._condition = condition
        self.retry_condition_fn = _unless_permanent(condition)
        if self.task_run_name is None or getattr(self.task_run_name, "spanctl_default", False):
            self.task_run_name = cast("TaskRunNameValueOrCallable", _run_name(self.name))

    def with_options(  # type: ignore[override]
        self,
        *,
        database: "DatabaseLike | None" = None,
        tag: str | None = None,
        keep_result: bool | None = None,
        deadline: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Self:
        """Return a step with other options; it remains the same step, and shares its ordinals.

        Args:
            database: Another database; see :func:`transaction` for this and the next three.
            tag: Another transaction tag.
            keep_result: Whether the receipt keeps the function's result.
            deadline: Seconds for the whole operation.
            options: Prefect's task options, as ``Task.with_options`` takes them.
        """
        check(self.step.name, options, HIDDEN)
        plain = super().with_options(**options)  # type: ignore[arg-type,misc]
        given = {
            "database": database,
            "tag": tag,
            "keep_result": keep_result,
            "deadline": deadline,
        }
        changes: dict[str, Any] = {name: item for name, item in given.items() if item is not None}
        clone = copy(self)
        clone.__dict__.update(plain.__dict__)
        condition = options.get("retry_condition_fn") or self._condition
        clone._settle(replace(self.step, **changes), condition)  # noqa: SLF001 - its own kind
        return clone

    def __get__(self, instance: object, owner: object) -> Self:
        """Return the step itself: a step kept in a class is no method."""
        return self

    # -- calling

    def __call__(
        self,
        *args: Any,  # noqa: ANN401 - as Prefect's own
        key: object = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - a state, with return_state=True
        """Run the step and return its :class:`~spanctl.ledger.receipt.TransactionResult`.

        Raises:
            KeyRequiredError: Calls have no fixed order here, and no ``key`` was given.
            KeyReusedError: The same operation was committed before with other arguments.
            KeyClosedError: The operation is fenced.
            OutcomeUnknownError: The database could not be reached to find the outcome; a retry is
                safe.
            Exception: What the body raised; nothing is committed.
        """
        if get_task_viz_tracker() is None:
            kwargs[HIDDEN] = self._site(args, kwargs, key)
        return super().__call__(*args, **kwargs)

    def submit(self, *args: Any, key: object = None, **kwargs: Any) -> Any:  # noqa: ANN401 - a future or a state
        """Hand the step to the flow's task runner; its turn is its place among the calls."""
        kwargs[HIDDEN] = self._site(args, kwargs, key)
        return super().submit(*args, **kwargs)

    def map(  # type: ignore[override]
        self,
        *args: Any,  # noqa: ANN401
        key: Iterable[object] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> "PrefectFutureList[TransactionResult]":
        """Run the step for each element, each a transaction of its own.

        Args:
            args: As Prefect's ``Task.map`` takes them.
            key: One key for each element, in their order.
            kwargs: As Prefect's ``Task.map`` takes them.
        """
        args = tuple(_listed(value) for value in args)
        kwargs = {name: _listed(value) for name, value in kwargs.items()}
        count = self._map_length(args, kwargs)
        if count is not None:
            if kwargs.get("deferred") and key is None:
                raise _unordered(self.step.name, why="its elements are deferred")
            sites = self._allot(count, key)
            if key is not None and not kwargs.get("deferred"):
                lease_ahead(sites)
            kwargs[HIDDEN] = sites
        mapped: PrefectFutureList[TransactionResult] = super().map(*args, **kwargs)
        return mapped

    def apply_async(  # type: ignore[override]
        self,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        *,
        key: object = None,
        **options: Any,  # noqa: ANN401
    ) -> "PrefectDistributedFuture[TransactionResult]":
        """Leave the step to a task worker; ``key`` is needed, here or among ``kwargs``.

        Raises:
            KeyRequiredError: There is none.
        """
        given = dict(kwargs or {})
        key = given.pop("key", key)
        if HIDDEN not in given:
            if key is None:
                raise _unordered(self.step.name, why="it is deferred to a task worker")
            given[HIDDEN] = self._site(args or (), given, key)
        return super().apply_async(args=args, kwargs=given, **options)

    def delay(
        self,
        *args: Any,  # noqa: ANN401
        key: object = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> "PrefectDistributedFuture[TransactionResult]":
        """Leave the step to a task worker; ``key`` is needed.

        Raises:
            KeyRequiredError: There is none.
        """
        return self.apply_async(args, kwargs, key=key)

    # -- call sites

    def _site(self, args: tuple[Any, ...], kwargs: dict[str, Any], key: object) -> CallSite:
        """Give the call its place; one that is refused for its arguments takes none."""
        own = {k: v for k, v in kwargs.items() if k not in {"wait_for", "return_state"}}
        get_call_parameters(self.fn, args, own)
        return self._allot(None, key)[0]

    def _allot(self, count: int | None, key: object) -> list[CallSite]:
        step = self.step
        sites = allot(step.name, step=step, count=count, key=key, database=step.database)
        if sites:
            watch(sites[0].origin.provenance.root_run)
            for site, origin in zip(sites, enrolled([one.origin for one in sites]), strict=True):
                site.origin = origin
        return sites

    def _map_length(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        """Return the number of elements as Prefect counts them; None where Prefect will refuse."""
        own = {
            name: value
            for name, value in kwargs.items()
            if name not in {"wait_for", "return_state", "deferred"}
        }
        parameters = get_call_parameters(self.fn, args, own, apply_defaults=False)
        resolved = resolve_inputs_sync(parameters, max_depth=0)
        lengths = set()
        for value in explode_variadic_parameter(self.fn, resolved).values():
            item = value.unwrap() if isinstance(value, allow_failure | opaque | quote) else value
            if not isinstance(item, unmapped) and isiterable(item):
                lengths.add(len(list(item)))
        return lengths.pop() if len(lengths) == 1 else None


def _unordered(step: str, *, why: str) -> KeyRequiredError:
    msg = f"step {step!r} needs key=, because {why}"
    hint = "pass key= with a value that names this write"
    return KeyRequiredError(msg, hint=hint, step=step)


def _listed(value: Any) -> Any:  # noqa: ANN401 - an argument of map
    """Return what can be iterated only once as a list, so that it can be counted."""
    return list(value) if isinstance(value, Iterator) else value


def _unless_permanent(own: "RetryConditionCallable | None") -> "RetryConditionCallable":
    def worth_a_retry(task: Task[..., Any], task_run: "TaskRun", state: "State[Any]") -> bool:
        if isinstance(state.data, PERMANENT):
            return False
        if own is None:
            return True
        verdict = own(task, task_run, state)
        if inspect.iscoroutine(verdict):
            return bool(run_coro_as_sync(verdict))
        return bool(verdict)

    return worth_a_retry


def _run_name(name: str) -> Callable[[dict[str, Any]], str]:
    def named_by_transaction(parameters: dict[str, Any]) -> str:
        site = parameters.get(HIDDEN)
        return f"{name} {txn_id(site.origin.key)}" if isinstance(site, CallSite) else name

    named_by_transaction.spanctl_default = True  # type: ignore[attr-defined]
    return named_by_transaction


@overload
def transaction(
    function: "Callable[Concatenate[Transaction, P], T]", /
) -> "TransactionTask[P]": ...
@overload
def transaction(
    *,
    name: str | None = ...,
    database: "DatabaseLike | None" = ...,
    tag: str | None = ...,
    keep_result: bool = ...,
    ignore_arguments: Collection[str] = ...,
    deadline: float = ...,
    **options: Any,  # noqa: ANN401 - Prefect's own, which it checks
) -> "Callable[[Callable[Concatenate[Transaction, P], T]], TransactionTask[P]]": ...
def transaction(  # noqa: PLR0913 - options of a decorator, all by name
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    database: "DatabaseLike | None" = None,
    tag: str | None = None,
    keep_result: bool = False,
    ignore_arguments: Collection[str] = (),
    deadline: float = 60.0,
    **options: Any,
) -> Any:
    """Make a function ``(txn, ...)`` a Prefect task whose body is one Spanner transaction.

    The function gets a :class:`~spanctl.spanner.transaction.Transaction` and the call's arguments.
    It may be run several times for one commit, so it must not have effects elsewhere. What a call
    writes is applied at most once, however often Prefect runs it again; the call returns a
    :class:`~spanctl.ledger.receipt.TransactionResult`.

    Args:
        function: The function, when the decorator is used without parentheses.
        name: The step's name in operation keys, and the task's name; the function's by default.
            Renaming a step makes its earlier calls unknown to it.
        database: Where to write; see :func:`spanctl.flows.targets.resolve`. By default what
            :func:`~spanctl.invocation.using` says, else the context in use.
        tag: Spanner's transaction tag, at most 50 printable ASCII characters.
        keep_result: Whether the receipt keeps what the function returned (JSON, at most 64 KiB),
            so that a replay returns it too; without it, a replay's result is None.
        ignore_arguments: Parameters that don't belong to the operation's identity: clients,
            loggers, anything without a canonical form.
        deadline: Seconds for the whole operation, all attempts included.
        options: The options of Prefect's ``task``, but for ``cache_key_fn``, ``result_storage_key``
            and policies of a cache by which one call's result would answer for another call.

    Raises:
        UsageError: The function can't be a step: it is async, a generator or a method, takes no
            transaction, or has a parameter named ``key``; or an option can't be one of a step.
    """

    def decorate(fn: Callable[..., Any]) -> TransactionTask[Any]:
        step = Step.of(
            fn,
            name=name,
            database=database,
            tag=tag,
            keep_result=keep_result,
            ignore_arguments=frozenset(ignore_arguments),
            deadline=deadline,
        )
        return TransactionTask(step, name=step.name, **options)

    return decorate(function) if function is not None else decorate
