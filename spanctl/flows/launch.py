"""Running a flow in this process: load it, register its run, execute it, tell what came of it."""

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import FlowCreate, FlowRunCreate
from prefect.client.schemas.objects import Flow as FlowRecord
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy, State
from prefect.exceptions import (
    MissingFlowError,
    ObjectNotFound,
    ParameterTypeError,
    PrefectException,
    ScriptError,
)
from prefect.flow_engine import run_flow
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Pending, to_state_create

from spanctl.errors import (
    ConfigurationError,
    FlowCancelledError,
    FlowFailedError,
    NotFoundError,
    PendingError,
    SpanctlError,
    UnreachableError,
    UsageError,
)
from spanctl.flows.engines import claims
from spanctl.invocation import DATABASE_LABEL, PROCESS_LABEL, SETTLED_LABEL, Invocation, using
from spanctl.orchestration.parameters import read as read_by
from spanctl.processes import Hand

AnyFlow = Flow[..., Any]

_PARTING = 10.0
_IN_TROUBLE = frozenset({429, *range(500, 600)})
_ENDINGS: dict[str, type[SpanctlError]] = {
    "FAILED": FlowFailedError,
    "CANCELLED": FlowCancelledError,
    "CRASHED": FlowCancelledError,
}
"""What a run that ended without completing is told as, by the type of its state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A flow run that ended in this process.

    Attributes:
        flow_run: Its id.
        name: Its name.
        flow: The flow's name.
        state: The final state's name (``Completed``).
        state_type: The final state's type (``COMPLETED``).
        error: What made it fail; None for a run that completed.
        result: What the flow returned; None when it failed.
    """

    flow_run: UUID
    name: str
    flow: str
    state: str
    state_type: str
    error: Exception | None = None
    result: Any = None

    def check(self) -> None:
        """Raise what a run that did not complete ends a command with.

        Raises:
            SpanctlError: The flow's own error of that kind, so that its exit code counts.
            FlowFailedError: The flow failed for another reason.
            FlowCancelledError: The run was cancelled or crashed.
            PendingError: It was paused or suspended, and goes on later.
        """
        if self.state_type == "COMPLETED":
            return
        if isinstance(self.error, SpanctlError):
            raise self.error
        cause = f" with {type(self.error).__name__}" if self.error else ""
        msg = f"flow run {self.flow_run} ended as {self.state}{cause}"
        hint = f"run: spanctl audit {self.flow_run}"
        kind = _ENDINGS.get(self.state_type, PendingError)
        raise kind(msg, hint=hint, flow_run=str(self.flow_run))


def load(target: str) -> AnyFlow:
    """Load a flow from ``path.py:flow`` or ``package.module:flow``.

    Raises:
        NotFoundError: The file, the module or the flow does not exist.
        UsageError: The target has another form, or the code can't be loaded.
    """
    where, _, name = target.rpartition(":")
    if not where or not name:
        msg = f"{target!r} names no flow"
        raise UsageError(msg, hint="write path.py:flow or package.module:flow")
    if where.endswith(".py") and not Path(where).is_file():
        msg = f"there is no file {where}"
        raise NotFoundError(msg, hint="check the path")
    here = Path.cwd()
    is_ours = not where.endswith(".py") or Path(where).resolve().is_relative_to(here)
    if is_ours and str(here) not in sys.path:
        sys.path.append(str(here))  # last: nothing of it stands for what is installed
    try:
        flow: AnyFlow = load_flow_from_entrypoint(target, use_placeholder_flow=False)
    except MissingFlowError:
        msg = f"{where} has no flow {name!r}"
        raise NotFoundError(msg, hint=_others(where, name)) from None
    except ModuleNotFoundError as error:
        msg = f"module {error.name} can't be found while {where} is loaded"
        raise NotFoundError(msg, hint="run it where that module is installed") from None
    except (ScriptError, ImportError, SyntaxError) as error:
        cause = getattr(error, "user_exc", error)
        if isinstance(cause, SpanctlError):
            raise cause from None
        msg = f"{where} can't be loaded: {type(cause).__name__} {_place(cause, where)}".rstrip()
        raise UsageError(msg, hint=f"try: python {where}") from None
    if flow.isgenerator:
        msg = f"flow {flow.name} is a generator, which has no final state"
        raise UsageError(msg, hint="return a list instead")
    if not flow.name.isprintable():
        msg = f"the name of flow {name} holds control characters"
        raise UsageError(msg, hint="give it another: @flow(name=...)")
    return flow


def file_of(flow: AnyFlow) -> str | None:
    """Return the file that holds a flow; None where it is in none."""
    try:
        return inspect.getsourcefile(inspect.unwrap(flow.fn))
    except TypeError:
        return None


def _place(error: BaseException, where: str) -> str:
    if isinstance(error, SyntaxError):
        return f"in line {error.lineno}"
    lines = []
    traceback = error.__traceback__
    while traceback is not None:
        if Path(traceback.tb_frame.f_code.co_filename).name == Path(where).name:
            lines.append(traceback.tb_lineno)
        traceback = traceback.tb_next
    return f"in line {lines[-1]}" if lines else ""


def _others(where: str, name: str) -> str:
    module = next(
        (
            m
            for m in list(sys.modules.values())
            if getattr(m, "__file__", None)
            and (m.__name__ == where or Path(str(m.__file__)).name == Path(where).name)
        ),
        None,
    )
    flows = (
        [key for key, value in vars(module).items() if isinstance(value, Flow)] if module else []
    )
    if close := get_close_matches(name, flows, 1):
        return f"did you mean {close[0]}?"
    return f"its flows: {', '.join(flows)}" if flows else "decorate a function with @flow"


def read(
    flow: AnyFlow, typed: Mapping[str, str], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read parameters by the flow's signature, as a deployment's by its schema.

    Args:
        flow: The flow.
        typed: What was typed.
        given: Values from elsewhere, such as a file; what was typed goes over them.

    Raises:
        UsageError: As :func:`spanctl.orchestration.parameters.read` raises.
    """
    schema = flow.parameters.model_dump_for_openapi()
    known: dict[str, Any] = dict(schema.get("properties") or {})
    for parameter in inspect.signature(flow.fn).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and (others := known.pop(parameter.name, None)):
            known = {**dict.fromkeys([*typed, *(given or ())], others), **known}
    return read_by(typed, {**schema, "properties": known}, given)


def bind(flow: AnyFlow, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a flow will run with, checked and converted by its annotations.

    Raises:
        UsageError: A parameter is unknown, missing, or of the wrong type.
    """
    signature = inspect.signature(flow.fn)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [] if takes_any else [name for name in given if name not in signature.parameters]
    if unknown:
        msg = f"flow {flow.name} has no parameter {', '.join(unknown)}"
        known = ", ".join(signature.parameters) or "none"
        raise UsageError(msg, hint=f"its parameters: {known}")
    try:
        bound = signature.bind(**given)
    except TypeError as error:
        msg = f"flow {flow.name}: {error}"
        raise UsageError(msg, hint="pass each with -p name=value") from None
    bound.apply_defaults()
    logger = logging.getLogger("prefect.flows")
    logger.disabled = True  # it would print the values
    try:
        return flow.validate_parameters(dict(bound.arguments))
    except ParameterTypeError as error:
        lines = (line.strip(" -") for line in str(error).splitlines()[1:])
        wrong = "; ".join(line.replace("Value error, ", "", 1) for line in lines)
        msg = f"flow {flow.name} refuses its parameters: {wrong}"
        raise UsageError(msg, hint="pass each with -p name=value") from None
    finally:
        logger.disabled = False


def register(
    flow: AnyFlow,
    parameters: Mapping[str, Any],
    invocation: Invocation,
    *,
    labels: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
) -> FlowRun:
    """Create the flow run in Prefect before anything runs, with who asked and why as labels.

    Args:
        flow: The flow.
        parameters: What it is called with.
        invocation: Who asks, and why.
        labels: Further labels.
        tags: Its tags.

    Raises:
        UnreachableError: Prefect's API did not answer or did not take it.
    """
    with get_client(sync_client=True) as client:
        try:
            reply = client.request(
                "POST", "/flows/", json=FlowCreate(name=flow.name).model_dump(mode="json")
            )
            record = FlowRecord.model_validate(reply.json())
            create = FlowRunCreate(
                flow_id=record.id,
                flow_version=flow.version,
                parameters=flow.serialize_parameters(dict(parameters)),
                state=to_state_create(Pending()),
                labels={
                    **invocation.labels,
                    **(labels or {}),
                    **_hand(),
                    **_where(invocation),
                },
                tags=list(tags),
                empirical_policy=FlowRunPolicy(
                    retries=flow.retries, retry_delay=int(flow.retry_delay_seconds or 0)
                ),
            )
            body = create.model_dump(mode="json", exclude_unset=True)
            run = FlowRun.model_validate(client.request("POST", "/flow_runs/", json=body).json())
        except httpx.HTTPError as error:
            raise _silent(str(client.api_url), error) from None
    run.parameters = dict(parameters)
    return run


def _hand(claim: int = 1) -> dict[str, Any]:
    """Return the label of a flow run that this process has."""
    return {PROCESS_LABEL: str(Hand.own("engine", claim))}


def _where(invocation: Invocation) -> dict[str, Any]:
    """Return the label of the database that a flow run is asked for."""
    target: Any = invocation.database
    name = getattr(target, "database", None)
    return {DATABASE_LABEL: str(name)} if name is not None else {}


def resume(flow_run: str, parameters: Mapping[str, Any]) -> FlowRun:
    """Return a flow run whose process is gone, made ready to be executed here.

    Raises:
        NotFoundError: Prefect doesn't know it any more.
        UnreachableError: Prefect's API did not answer or did not take it.
    """
    with get_client(sync_client=True) as client:
        try:
            state: State[Any] = Pending(message="resumed with spanctl run --resume")
            before = claims(client.read_flow_run_states(UUID(flow_run)))
            labels = {**_hand(before + 1), SETTLED_LABEL: ""}
            client.update_flow_run_labels(UUID(flow_run), labels)
            client.set_flow_run_state(UUID(flow_run), state, force=True)
            run = client.read_flow_run(UUID(flow_run))
        except ObjectNotFound:
            msg = f"Prefect no longer knows flow run {flow_run}"
            hint = f"look what it did: spanctl audit {flow_run}; to apply it once more: --new"
            raise NotFoundError(msg, hint=hint) from None
        except httpx.HTTPError as error:
            raise _silent(str(client.api_url), error) from None
    run.parameters = dict(parameters)
    return run


def _silent(api: str, error: httpx.HTTPError) -> UnreachableError:
    did = "did not answer"
    if isinstance(error, httpx.HTTPStatusError):
        did = f"answered with status {error.response.status_code}"
    msg = f"Prefect at {api.rstrip('/')} {did}; nothing was run"
    return UnreachableError(msg, hint="run: spanctl local status", cause=type(error).__name__)


def execute(
    flow: AnyFlow,
    run: FlowRun,
    parameters: Mapping[str, Any],
    invocation: Invocation,
    *,
    heartbeats: bool = True,
) -> Finished:
    """Run a registered flow run in this thread, to its final state.

    Args:
        flow: The flow.
        run: Its registered run.
        parameters: What it is called with.
        invocation: Who asks, why, and for which database.
        heartbeats: Whether Prefect hears from it now and then; its thread that says so takes up to
            a second to end, which a run of a few statements can do without.

    Raises:
        KeyboardInterrupt: It was interrupted; open transactions were resolved before.
        BaseException: It reached no final state; :func:`failure_of` says how that is told.
    """
    with (
        nullcontext()
        if heartbeats
        else temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        using(
            database=invocation.database,
            initiator=invocation.initiator,
            reason=invocation.reason,
            idempotency_key=invocation.idempotency_key,
        ),
    ):
        try:
            ended = run_flow(flow, run, parameters=dict(parameters), return_type="state")
            if inspect.iscoroutine(ended):
                ended = asyncio.run(ended)
        finally:
            _bound_parting(_PARTING)
    return _finished(flow, run, cast("State[Any]", ended))


def _bound_parting(seconds: float) -> None:
    """Have this process's end wait no longer for each thread of Prefect's that sends what it holds.

    By itself it waits for ever, for a server that has stopped answering too.
    """

    def bounded(one: Any) -> Callable[..., None]:  # noqa: ANN401 - a service of Prefect's
        def drain(*, at_exit: bool = False) -> None:
            with suppress(TimeoutError):
                one._drain(at_exit=at_exit).result(seconds)  # noqa: SLF001 - no other way in

        return drain

    services: dict[Any, Any] = getattr(APILogWorker, "_instances", {})  # of all kinds
    for one in list(services.values()):
        one.drain = bounded(one)


def failure_of(run: FlowRun, error: BaseException) -> SpanctlError:
    """Return what a run is told as that reached no final state: its engine raised.

    The flow's own exceptions end in a state. What the engine lets pass is what Prefect's API
    answered, or what is no :class:`Exception`: Prefect calls such a run crashed.
    """
    if isinstance(error, SpanctlError):
        return error
    if isinstance(error, httpx.HTTPError):
        return _lost_prefect(run, error)
    name = type(error).__name__
    if isinstance(error, PrefectException):
        msg = f"flow run {run.id} has no final state, Prefect's API did not take it: {name}"
        if isinstance(error, ObjectNotFound):
            msg = f"flow run {run.id} has no final state, Prefect's API no longer knows it"
    elif isinstance(error, SystemExit):
        msg = f"flow run {run.id} ended with sys.exit({error.code!r})"
    else:
        msg = f"flow run {run.id} ended with {name}"
    kind = FlowFailedError if isinstance(error, Exception) else FlowCancelledError
    return kind(msg, hint=f"run: spanctl audit {run.id}", flow_run=str(run.id), cause=name)


def _lost_prefect(run: FlowRun, error: httpx.HTTPError) -> UnreachableError:
    for name in ("APILogWorker", "EventsWorker", "prefect._internal.concurrency"):
        logging.getLogger(name).disabled = True  # they would go on about it until the very end
    _bound_parting(0.0)
    did = "stopped answering"
    if isinstance(error, httpx.HTTPStatusError):
        did = f"answered with status {error.response.status_code}"
    msg = f"Prefect at {require_server()} {did} during flow run {run.id}"
    hint = f"run: spanctl local status; what is committed: spanctl audit list --flow-run {run.id}"
    return UnreachableError(msg, hint=hint, flow_run=str(run.id), cause=type(error).__name__)


def _is_of_prefect(error: httpx.HTTPError) -> bool:
    """Whether Prefect's API, asked by its engine or by the flow itself, was out of order."""
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code not in _IN_TROUBLE:
        return False
    try:
        return str(error.request.url).startswith(require_server())
    except RuntimeError:  # it tells of no request
        return False


def _finished(flow: AnyFlow, run: FlowRun, state: State[Any]) -> Finished:
    outcome = state.result(raise_on_failure=False) if state.data is not None else None
    failed = not state.is_completed()
    if failed and isinstance(outcome, httpx.HTTPError) and _is_of_prefect(outcome):
        outcome = _lost_prefect(run, outcome)
    return Finished(
        flow_run=run.id,
        name=run.name,
        flow=flow.name,
        state=state.name or state.type.value,
        state_type=state.type.value,
        error=outcome if failed and isinstance(outcome, Exception) else None,
        result=None if failed else outcome,
    )


def require_server() -> str:
    """Return the URL of the Prefect API in use.

    Raises:
        ConfigurationError: None is set: Prefect would start a temporary server of its own.
    """
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        msg = "no Prefect API is set"
        raise ConfigurationError(msg, hint="run: spanctl local up, or set PREFECT_API_URL")
    return str(url)
