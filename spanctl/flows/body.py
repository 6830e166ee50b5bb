"""The body's side of a step: from the call site's origin to a transaction, and its outcome."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Self

from prefect.context import TaskRunContext

from spanctl import invocation
from spanctl.errors import (
    ArgumentChangedError,
    KeyRequiredError,
    KeyReusedError,
    SpanctlError,
    UsageError,
)
from spanctl.flows.asking import attested
from spanctl.flows.callsite import CallSite, Origin
from spanctl.flows.identity import contents_of
from spanctl.flows.ledgers import refuse_other_ledger
from spanctl.flows.runs import registry, tell_interrupted
from spanctl.ledger.digests import ModuleNames, injective, part
from spanctl.ledger.receipt import Outcome, Provenance, TransactionResult
from spanctl.ledger.report import TransactionReport
from spanctl.shelter import current, interruptible, sheltered
from spanctl.spanner.operation import COPY_FIRST

if TYPE_CHECKING:
    from spanctl.invocation import DatabaseLike
    from spanctl.spanner.protocol import Execution
    from spanctl.spanner.transaction import Transaction

HIDDEN = "spanctl_call"
"""Name of the hidden argument that carries the call site to the body."""

_RESERVED = ("key", HIDDEN, "deferred")


_left_over: "OrderedDict[tuple[str, str], bytes]" = OrderedDict()
"""What bodies have left of their arguments, by database and operation."""
_LEFT_OVER = 1_000


def _operation(site: CallSite) -> tuple[str, str]:
    return str(site.origin.target.database), str(site.origin.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A declared step: the function, and how its transactions are run.

    Attributes:
        name: Its name in operation keys.
        pinned: Whether the caller gave that name, so that it stands for the function's closure too.
        function: The function ``(txn, ...)``.
        signature: The function's signature.
        database: Where it writes, None for what applies at the call.
        tag: Spanner's transaction tag.
        keep_result: Whether receipts keep what the function returned.
        ignore_arguments: Parameters that are left out of the arguments' digest.
        deadline: Seconds for one operation, all attempts included.
    """

    name: str
    function: Callable[..., Any]
    signature: inspect.Signature
    pinned: bool = False
    database: "DatabaseLike | None" = None
    tag: str | None = None
    keep_result: bool = False
    ignore_arguments: frozenset[str] = frozenset()
    deadline: float = 60.0

    @classmethod
    def of(cls, function: Callable[..., Any], *, name: str | None, **options: Any) -> Self:  # noqa: ANN401 - the other attributes
        """Make a step of a function.

        Raises:
            UsageError: The function can't be one; the message says why.
        """
        if not inspect.isfunction(function):
            msg = f"{function!r} is no plain function, so it can't be a transaction step"
            raise UsageError(msg, hint="decorate a function (txn, ...), not a method or a task")
        signature = inspect.signature(function)
        _check(function, signature, options.get("ignore_arguments", ()))
        return cls(
            name=name or function.__name__,
            function=function,
            signature=signature,
            pinned=name is not None,
            **options,
        )

    def as_task_function(self) -> Callable[..., TransactionResult]:
        """Return the function that Prefect runs: without ``txn``, with the hidden argument."""

        @wraps(self.function)
        def run(*args: Any, spanctl_call: object = None, **kwargs: Any) -> TransactionResult:  # noqa: ANN401
            return self._run(spanctl_call, args, kwargs)

        _, *parameters = self.signature.parameters.values()
        hidden = inspect.Parameter(HIDDEN, inspect.Parameter.KEYWORD_ONLY, default=None)
        open_ended = parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
        parameters.insert(len(parameters) - bool(open_ended), hidden)
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            parameters, return_annotation=TransactionResult
        )
        return run

    def _run(
        self, site: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> TransactionResult:
        if not isinstance(site, CallSite):
            msg = f"step {self.name!r} was run without a call site"
            hint = "call the step itself, or use its submit, map or delay"
            raise KeyRequiredError(msg, hint=hint, step=self.name)
        bound = self.signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        first = next(iter(self.signature.parameters))
        ignored = {first, *self.ignore_arguments}
        arguments = {k: v for k, v in bound.arguments.items() if k not in ignored}

        def body(txn: "Transaction") -> Any:  # noqa: ANN401 - what the function returns
            self._refuse_changed(site, arguments)
            bound.arguments[first] = txn
            return self.function(*bound.args, **bound.kwargs)

        try:
            return self._transact(site.origin, body, arguments)
        except BaseException:
            self._note_changed(site, arguments)
            raise

    def _given(self, site: CallSite, arguments: dict[str, Any]) -> bytes:
        identified = site.origin.identified
        names = identified.names if identified else ModuleNames.of_run()
        return part(b"G", injective(arguments, names), contents_of(self, names))

    def _refuse_changed(self, site: CallSite, arguments: dict[str, Any]) -> None:
        """Compare what the body is about to see with what it saw when it was first run.

        The call site is the same object in every retry of a task run; a flow that is retried in
        this process makes another one, and gives it what the body has left.

        Raises:
            ArgumentChangedError: The body changed its arguments, or a container in its closure.
        """
        now = self._given(site, arguments)
        before = site.__dict__.setdefault("seen", now)
        if before != now or _left_over.get(_operation(site)) == now:
            msg = f"step {self.name!r} changed what it was given, so it can't be run again"
            raise ArgumentChangedError(msg, hint=COPY_FIRST, step=self.name)

    def _note_changed(self, site: CallSite, arguments: dict[str, Any]) -> None:
        """Note what a body that failed has left of what it was given."""
        with suppress(Exception):  # another error is on its way
            now = self._given(site, arguments)
            if site.__dict__.get("seen", now) != now:
                _left_over[_operation(site)] = now
                while len(_left_over) > _LEFT_OVER:
                    _left_over.popitem(last=False)

    @sheltered
    def _transact(
        self,
        origin: Origin,
        body: "Callable[[Transaction], Any]",
        arguments: dict[str, Any],
    ) -> TransactionResult:
        from spanctl.spanner.operation import TransactionOptions

        provenance, again = _attempt(replace(origin.provenance, tag=self.tag))
        options = TransactionOptions(deadline=self.deadline, keep_result=self.keep_result)
        executions: list[Execution[Any]] = []
        try:
            root_run, target = origin.provenance.root_run, origin.target
            # It asks Prefect, which may take its time.
            interruptible(lambda: refuse_other_ledger(root_run, target, origin.ledger))
            provenance = attested(provenance, origin.asked, origin.target)
            with registry.run(origin) as run:
                (call,) = run.lease([origin.key])
                result = run.execute(
                    call,
                    body,
                    provenance=provenance,
                    arguments=arguments,
                    identified=origin.identified,
                    options=options,
                    expect_replay=again or origin.expect_replay,
                    begun=executions.append,
                )
        except BaseException as error:
            entry = self._failed(origin, executions, error)
            if isinstance(error, KeyReusedError):
                registry.record_refusal(origin.provenance.flow_run, entry)
            else:
                registry.record(origin.provenance.flow_run, entry)
            if not isinstance(error, Exception):
                tell_interrupted(origin.provenance.flow_run, entry)
            raise
        database = str(origin.target.database)
        entry = TransactionReport.of_result(origin.key.called, result, database)
        registry.record(origin.provenance.flow_run, entry)
        if (shelter := current()) is not None and shelter.is_asked:
            tell_interrupted(origin.provenance.flow_run, entry)
        return result

    def _failed(
        self, origin: Origin, executions: "Sequence[Execution[Any]]", error: BaseException
    ) -> TransactionReport:
        from spanctl.spanner.operation import Call

        code = error.code if isinstance(error, SpanctlError) else None
        txn_id, outcome = Call(origin.key).txn_id, Outcome.NOT_COMMITTED
        for one in executions:
            txn_id, outcome = one.call.txn_id, one.outcome
        return TransactionReport(
            txn_id=txn_id,
            database=str(origin.target.database),
            step=origin.key.called,
            outcome=outcome,
            error=code,
        )


def _attempt(provenance: Provenance) -> tuple[Provenance, bool]:
    """Add who executes, in which task run; tell whether the task run has been run before."""
    provenance = replace(provenance, executor=invocation.executor())
    context = TaskRunContext.get()
    if context is None:
        return provenance, False
    count = context.task_run.run_count
    return replace(
        provenance,
        task_run=str(context.task_run.id),
        task=context.task.name,
        attempt=max(count, 1),
    ), count > 1


def _check(
    function: Callable[..., Any], signature: inspect.Signature, ignored: frozenset[str]
) -> None:
    name = function.__qualname__
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        msg = f"step {name} is async, and the body of a transaction can't be"
        raise UsageError(msg, hint="write it with def; async flows call it all the same")
    if inspect.isgeneratorfunction(function):
        msg = f"step {name} is a generator, and the body of a transaction can't be"
        raise UsageError(msg, hint="return a list")
    parameters = list(signature.parameters.values())
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    if not parameters or parameters[0].kind not in positional:
        msg = f"step {name} takes no transaction"
        raise UsageError(msg, hint="make txn its first parameter")
    if parameters[0].name in {"self", "cls"}:
        msg = f"step {name} is a method"
        raise UsageError(msg, hint="decorate a function (txn, ...) outside of classes")
    names = {parameter.name for parameter in parameters}
    for reserved in _RESERVED:
        if reserved in names:
            msg = f"step {name} has a parameter named {reserved!r}, which calls of steps use"
            raise UsageError(msg, hint="give the parameter another name")
    if unknown := sorted(set(ignored) - names):
        msg = f"step {name} has no parameter {', '.join(unknown)} to ignore"
        raise UsageError(msg, hint="ignore_arguments names parameters of the function")
