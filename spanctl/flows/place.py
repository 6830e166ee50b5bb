"""Where in a run a step is called: root flow run, path of subflows, and whether both are stable.

An ordinal is stable only when it is counted in the flow's own thread and asyncio task: anywhere
else the order of calls differs from one attempt to the next. This module reads Prefect's contexts
as they are in 3.8, the only release series that is accepted.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import ObjectNotFound, PrefectException

from spanctl.errors import NotFoundError, UnreachableError
from spanctl.flows import contexts
from spanctl.ledger.step_identity import is_other_call, loose

if TYPE_CHECKING:
    from types import FrameType

    from prefect import Flow, Task


@dataclass(frozen=True, slots=True)
class Ancestry:
    """What lies above a flow run.

    Attributes:
        root: The root flow run.
        path: Flow names with their ordinals, from below the root down to the flow run itself.
        unstable: Why the path may differ on a retry; empty when it can't.
    """

    root: FlowRun
    path: tuple[str, ...] = ()
    unstable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a call is made.

    Attributes:
        root_run: Id of the root flow run.
        flow_run: Id of the flow run that makes the call.
        flow: Name of its flow.
        path: Subflows down to the call, each with its ordinal.
        unstable: Why ordinals can't be counted here, to end "because ..."; empty when they can.
        turns: The path, with an ordinal only where it is the same on every attempt.
        lineage: Which call leads here: attempts of the flows and tasks above, as far as they are
            known here, to the run or the turn that was called in each.
        deployment: Id of the root flow run's deployment.
        labels: Labels of the root flow run, shared by all calls of this attempt: as they were when
            it began, where it began in this process.
        rerun: Whether the flow run, or its root, has been run before.
        root: The root flow run: as Prefect gave it when it began, where it began in this process,
            else as it is now.
        has_begun_here: Whether it did; else whoever made the flow run named the root as its parent,
            as anybody can.
        is_asked_here: Whether this process is the one that was asked for the root flow run.
        module: The module of the flow that was called first in this process: the run's own file.
        lost: Where in this process the root flow was called while another run was executed, of
            which it may be a part; empty when it wasn't.
    """

    root_run: UUID
    flow_run: UUID
    flow: str | None
    path: tuple[str, ...] = ()
    unstable: str = ""
    turns: tuple[str, ...] = ()
    lineage: Mapping[str, str] = field(default_factory=dict)
    deployment: str | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    rerun: bool = False
    root: FlowRun | None = None
    has_begun_here: bool = False
    is_asked_here: bool = False
    module: str | None = None
    lost: str = ""


def outer_context(context: FlowRunContext) -> FlowRunContext | None:
    """Return the context of the flow that called this one in the same process, if any."""
    token = context._token  # noqa: SLF001
    outer = token.old_value if token is not None else None
    return outer if isinstance(outer, FlowRunContext) else None


def here() -> tuple[FlowRunContext, Place] | None:
    """Return the flow's context and the place of a call made here; None outside of any flow.

    Raises:
        UnreachableError: The Prefect API didn't say where a subflow belongs.
        NotFoundError: A flow run or task run above this one was deleted.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    flow_run = context.flow_run
    above = _ancestry(flow_run)
    begun = _begun(context, above.root.id)
    outermost = _outermost(context)
    path, twin = _told_apart(context, above.path)
    turns, lineage = _descent(context, path)
    return context, Place(
        root_run=above.root.id,
        flow_run=flow_run.id,
        flow=context.flow.name if context.flow else None,
        path=path,
        unstable=_calling_side(context) or _above_side(above) or twin,
        turns=turns,
        lineage=lineage,
        deployment=str(above.root.deployment_id) if above.root.deployment_id else None,
        labels=(begun or above.root).labels,
        root=begun or above.root,
        has_begun_here=begun is not None,
        is_asked_here=begun is not None and not context.detached and not _is_remote(begun),
        rerun=max(flow_run.run_count or 0, above.root.run_count or 0) > 1,
        module=getattr(outermost.flow.fn, "__module__", None) if outermost.flow else None,
        lost=contexts.lost_run(outermost) if above.root.id == _run_of(outermost) else "",
    )


def _outermost(context: FlowRunContext) -> FlowRunContext:
    """Return the context of the flow that was called first in this process."""
    for _, outer in _levels(context):
        context = outer
    return context


def _levels(context: FlowRunContext) -> Iterator[tuple[FlowRunContext, FlowRunContext]]:
    """Yield each subflow's context in this process and the one around it, from the inside out."""
    while (outer := outer_context(context)) is not None:
        yield context, outer
        context = outer


def _descent(
    context: FlowRunContext, path: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the path's turns, and which calls lead here through the flows of this process."""
    turns = [one if _is_counted(one) else loose(one) for one in path]
    lineage: dict[str, str] = {}
    for at, (inner, outer) in zip(range(len(path) - 1, -1, -1), _levels(context), strict=False):
        if callers := contexts.callers(inner):
            turns[at] = loose(path[at])
            lineage |= dict(callers)
        elif outer.flow_run is not None:
            lineage[contexts.attempt(outer.flow_run)] = turns[at]
    return tuple(turns), lineage


def _is_counted(subflow: str) -> bool:
    """Tell whether Prefect counted a subflow; within a task it doesn't."""
    return subflow.rpartition("#")[2].partition("~")[0].isdigit()


def claim(context: FlowRunContext, lineage: Mapping[str, str], call: str) -> bool:
    """Note who makes a keyed call; tell whether nobody else has made it in this attempt.

    Where the order of subflows isn't fixed, the receipt of an earlier attempt doesn't tell a second
    one from the first's retry.
    """
    # They live as long as an attempt of the flow that was called first.
    counters = _outermost(context).task_run_dynamic_keys
    return not is_other_call(
        {
            at: str(counters.setdefault(f"spanctl-key:{at}:{call}", run))
            for at, run in lineage.items()
        },
        lineage,
    )


def _run_of(context: FlowRunContext) -> UUID | None:
    return context.flow_run.id if context.flow_run is not None else None


def _begun(context: FlowRunContext | None, root: UUID) -> FlowRun | None:
    while context is not None:
        if context.flow_run is not None and context.flow_run.id == root:
            return context.flow_run
        context = outer_context(context)
    return None


def _is_remote(run: FlowRun) -> bool:
    """Whether a flow run was asked for elsewhere, and came here through a work pool."""
    return bool(run.deployment_id or run.work_queue_id or run.work_pool_id)


def enclosing_task() -> TaskRunContext | None:
    """Return the context of the task that a call is made in; None for a flow's own body.

    Prefect leaves a generator task's context in place while its caller works on what it yielded:
    unless the generator itself is running, what is around it counts.
    """
    context = TaskRunContext.get()
    while context is not None and is_suspended(context.task):
        token = context._token  # noqa: SLF001 - Prefect keeps the token nowhere else
        if token is None:  # it has ended, and Prefect has left it behind
            return context
        outer = token.old_value
        context = outer if isinstance(outer, TaskRunContext) else None
    return context


def is_suspended(run: "Task[..., Any] | Flow[..., Any]") -> bool:
    """Tell whether a generator waits for its caller, who is at work now."""
    if not run.isgenerator:
        return False
    code = getattr(inspect.unwrap(run.fn), "__code__", None)
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - there is no other way to the stack
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is None


def _calling_side(context: FlowRunContext) -> str:
    if context.flow is not None and is_suspended(context.flow):
        return _generator("flow", context.flow.name)
    task = enclosing_task()
    if task and context.flow_run and task.task_run.flow_run_id == context.flow_run.id:
        if is_suspended(task.task):
            return _generator("task", task.task.name)
        return "it is called inside a task, whose turn among others is not fixed"
    if context.detached or not contexts.in_own_context(context):
        return "it is called in another thread or asyncio task than the flow's own"
    if contexts.in_hook():
        return "it is called in a hook"
    return ""


def _above_side(above: Ancestry) -> str:
    task = TaskRunContext.get()
    if above.unstable and task is not None and is_suspended(task.task):
        return _generator(
            "task", task.task.name
        )  # it is why Prefect takes the subflow for a task's
    return above.unstable


def _generator(kind: str, name: str) -> str:
    return f"generator {kind} {name!r} hides its place: iterate over list({name}()) instead"


def _told_apart(context: FlowRunContext, path: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Mark subflow runs that would share a path: different functions with one flow name.

    Prefect counts per function, so each of them is number 0. The parent's counters live as long as
    its attempt, which is how long a path must be unique. Returns the path, and why ordinals can't
    be counted there.
    """
    marked, why = list(path), ""
    for place, (inner, outer) in zip(
        range(len(marked) - 1, -1, -1), _levels(context), strict=False
    ):
        mark, run = f"spanctl-path:{marked[place]}", str(_run_of(inner))
        runs = str(outer.task_run_dynamic_keys.get(mark, "")).split()
        if run not in runs:
            runs.append(run)
            outer.task_run_dynamic_keys[mark] = " ".join(runs)
        if turn := runs.index(run):
            marked[place] += f"~{turn}"
            name = inner.flow.name if inner.flow else "?"
            why = f"two different subflows here are named {name!r}; give one another name"
    return tuple(marked), why


def put_labels(flow_run: UUID, labels: Mapping[str, str]) -> None:
    """Put labels on a flow run, beside those that it has.

    Raises:
        UnreachableError: The Prefect API did not take them.
    """
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(flow_run, dict(labels))
    except (httpx.HTTPError, PrefectException) as error:
        msg = f"Prefect did not take the labels of flow run {flow_run}"
        raise UnreachableError(msg, hint="check the Prefect API, then retry the run") from error


def read_labels(flow_run: UUID) -> dict[str, Any]:
    """Return the labels of a flow run as Prefect has them now.

    Raises:
        UnreachableError: The Prefect API did not answer.
        NotFoundError: The flow run was deleted.
    """
    try:
        with get_client(sync_client=True) as client:
            return dict(client.read_flow_run(flow_run).labels)
    except ObjectNotFound as error:
        msg = f"flow run {flow_run} no longer exists in Prefect"
        raise NotFoundError(msg) from error
    except (httpx.HTTPError, PrefectException) as error:
        msg = f"Prefect did not say which labels flow run {flow_run} has"
        raise UnreachableError(msg, hint="check the Prefect API, then retry the run") from error


def _ancestry(flow_run: FlowRun) -> Ancestry:
    if flow_run.parent_task_run_id is None:
        return Ancestry(flow_run)
    return _read_ancestry(flow_run.id, flow_run.run_count or 0, flow_run.parent_task_run_id)


@lru_cache(maxsize=64)
def _read_ancestry(flow_run_id: UUID, run_count: int, parent_task_run_id: UUID) -> Ancestry:  # noqa: ARG001 - the count keeps attempts apart
    path: list[str] = []
    unstable = ""
    try:
        with get_client(sync_client=True) as client:
            parent: UUID | None = parent_task_run_id
            while parent is not None:
                task_run = client.read_task_run(parent)
                ordinal = str(task_run.dynamic_key)
                name = str(task_run.name).removesuffix(f"-{ordinal}")
                if not ordinal.isdigit():
                    unstable = f"its subflow {name!r} is called inside a task"
                if task_run.flow_run_id is None:
                    msg = f"flow run {flow_run_id} belongs to a task run without a flow run"
                    raise NotFoundError(msg)
                path.insert(0, f"{name}#{ordinal}")
                above = client.read_flow_run(task_run.flow_run_id)
                parent = above.parent_task_run_id
    except ObjectNotFound as error:
        msg = f"a run above flow run {flow_run_id} no longer exists in Prefect"
        raise NotFoundError(msg) from error
    except (httpx.HTTPError, PrefectException) as error:
        msg = f"Prefect did not say where flow run {flow_run_id} belongs"
        raise UnreachableError(msg, hint="check the Prefect API, then retry the run") from error
    return Ancestry(above, tuple(path), unstable)
