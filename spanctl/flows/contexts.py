"""Which flow runs are executed in this process, and whether a call has lost the context of its own.

Threads, pools and processes start without the context of the flow that feeds them. A call that is
made there looks like one outside of any flow, and a flow that is called there like a run of its
own: both would get other keys on every attempt. So while a flow run is executed here, what comes
from elsewhere without its context is refused. A thread may outlive the run that it works for, so
the threads that were there during a run are remembered.

Prefect keeps no list of the contexts that are entered, so entering and leaving are watched.
"""

import asyncio
import multiprocessing
import os
import sys
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

from prefect.context import FlowRunContext, TaskRunContext

if TYPE_CHECKING:
    from types import FrameType

    from prefect.client.schemas.objects import FlowRun, TaskRun

_INHERITED: Final = "spanctl_executes_a_flow"
_HOOKS: Final = frozenset(
    {"call_hooks", "run_hook", "_run_hooks", "_execute_hook"}
    | {"_run_on_cancellation_hooks", "_run_on_crashed_hooks"}
)


@dataclass(frozen=True, slots=True)
class _Entered:
    """A flow run's context that was entered here.

    Attributes:
        context: The context.
        process: Where: the process, the thread, and the asyncio task or None.
        thread: See above.
        task: See above.
        lost: Why its run may be part of another one that it doesn't know; empty when it can't.
        callers: Who called it where calls have no fixed order; see :func:`callers`.
        there: The threads that were there before; None where another flow is around it here.
    """

    context: FlowRunContext
    process: int
    thread: int
    task: "ref[asyncio.Task[Any]] | None"
    lost: str
    callers: tuple[tuple[str, str], ...] = ()
    there: "WeakSet[threading.Thread] | None" = None


_entered: dict[int, _Entered] = {}
_beside: "WeakSet[threading.Thread]" = WeakSet()
"""Threads that were there while another one executed a flow run."""
_started: "WeakSet[threading.Thread]" = WeakSet()
"""Those of them that were started meanwhile."""
_copied: ContextVar[bool] = ContextVar("spanctl_copied", default=False)
"""Set in the main thread: a context that was copied from there knows whether it is a flow's."""
_changing = threading.Lock()
_enter, _exit = FlowRunContext.__enter__, FlowRunContext.__exit__


def lost() -> str:
    """Return where a call without a flow run's context is made, while one is executed here.

    Empty where none is executed, or the call is known to be no part of it. A thread that was
    started while one was executed stays a part of it.
    """
    for one in list(_entered.values()):
        if one.process != os.getpid():
            return "in a forked process"
        if one.thread != threading.get_ident():
            return "in a thread"
        task = _current_task()
        if task is None or (one.task is not None and one.task() is task):
            return "in an empty context"
    if multiprocessing.parent_process() is not None and _config().get(_INHERITED):
        return "in a process of a pool"
    return _left_in(_started)


def left_behind() -> str:
    """Return where a call without a flow run's context may be work that a run has left behind.

    That is in a thread which was there while another one executed the run, as those of a pool.
    Empty elsewhere: in the main thread, and in one that executes its flows itself.
    """
    return _left_in(_beside)


def _left_in(threads: "WeakSet[threading.Thread]") -> str:
    return "in a thread" if threading.current_thread() in threads and not _copied.get() else ""


def _others() -> list[threading.Thread]:
    known = (threading.main_thread(), threading.current_thread())
    return [one for one in threading.enumerate() if one not in known]


def lost_run(context: FlowRunContext) -> str:
    """Return where a root flow was called while another was executed here; else nothing."""
    found = _entered.get(id(context))
    return found.lost if found is not None else ""


def is_forked(context: FlowRunContext) -> bool:
    """Tell whether a context was entered in a process of which this one is a fork."""
    found = _entered.get(id(context))
    return found is not None and found.process != os.getpid()


def in_own_context(context: FlowRunContext, *, alone: bool = False) -> bool:
    """Tell whether the caller runs in the very thread or asyncio task that entered the flow.

    Copied contexts (threads of a pool, ``asyncio.to_thread``, other asyncio tasks) see the same
    flow run, but a context variable can only be reset where it was set: that tells them apart. The
    flows around it are asked too, so that subflows gathered side by side are found; not ``alone``.
    """
    variable = FlowRunContext.__var__
    token = context._token  # noqa: SLF001 - Prefect keeps the token nowhere else
    if token is None or is_forked(context):
        return False
    try:
        variable.reset(token)
    except (ValueError, RuntimeError):  # set in another context, or being reset there right now
        return False
    try:
        outer = variable.get(None)
        return alone or outer is None or in_own_context(outer)
    finally:
        context._token = variable.set(context)  # noqa: SLF001


def callers(context: FlowRunContext) -> tuple[tuple[str, str], ...]:
    """Return who called a flow where calls have no fixed order; nothing where they have one.

    From the flow around it inwards: the attempt of a flow or task, and which run was called in it.
    """
    found = _entered.get(id(context))
    return found.callers if found is not None else ()


def attempt(run: "FlowRun | TaskRun") -> str:
    """Return a name of the present attempt of a run."""
    return f"{run.id}:{run.run_count or 0}"


def in_hook() -> bool:
    """Tell whether the caller is called by a hook: of a flow, a task or a Prefect transaction."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the only way to see who calls
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name in _HOOKS and module.startswith("prefect."):
            return True
        frame = frame.f_back
    return False


def _current_task() -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None


def _config() -> dict[str, Any]:
    # What a process passes on to those that it starts, however it starts them.
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # noqa: SLF001
    return config


def _callers(context: FlowRunContext, outer: FlowRunContext) -> tuple[tuple[str, str], ...]:
    if context.flow_run is None or outer.flow_run is None:
        return ()
    tasks = [one for one in _tasks() if one.flow_run_id == outer.flow_run.id]
    if not tasks and (outer.detached or in_own_context(outer, alone=True)):
        return ()
    runs: list[FlowRun | TaskRun] = [outer.flow_run, *tasks, context.flow_run]
    return tuple((attempt(by), str(run.id)) for by, run in pairwise(runs))


def _tasks() -> "list[TaskRun]":
    """Return the task runs that a call is made in, from the outside in."""
    found: list[TaskRun] = []
    context = TaskRunContext.get()
    while context is not None:
        found.insert(0, context.task_run)
        outer = context._token.old_value if context._token is not None else None  # noqa: SLF001
        context = outer if isinstance(outer, TaskRunContext) else None
    return found


def _entering(self: FlowRunContext) -> FlowRunContext:
    outer = FlowRunContext.get()
    why = lost() if outer is None and not self.detached else ""
    calling = _callers(self, outer) if outer is not None else ()
    entered = _enter(self)
    if not self.detached:
        _note(self, why=why, callers=calling, is_root=outer is None or outer.detached)
    return entered


def _note(
    context: FlowRunContext,
    *,
    why: str = "",
    callers: tuple[tuple[str, str], ...] = (),
    is_root: bool,
) -> None:
    task = _current_task()
    with _changing:
        there = WeakSet(_others()) if is_root else None
        _beside.update(there or ())
        _entered[id(context)] = _Entered(
            context=context,
            process=os.getpid(),
            thread=threading.get_ident(),
            task=ref(task) if task else None,
            lost=why,
            callers=callers,
            there=there,
        )
        _config()[_INHERITED] = True


def _leaving(self: FlowRunContext, *error: object) -> None:
    with _changing:
        found = _entered.pop(id(self), None)
        if found is not None and found.there is not None:
            others = _others()
            _beside.update(others)
            _started.update(one for one in others if one not in found.there)
        if not _entered:
            _config().pop(_INHERITED, None)
    _exit(self, *error)


def _watch() -> None:
    FlowRunContext.__enter__ = _entering  # type: ignore[method-assign,assignment]
    FlowRunContext.__exit__ = _leaving  # type: ignore[method-assign,assignment]
    if threading.current_thread() is threading.main_thread():
        _copied.set(True)
    # Steps may be imported by a flow that is under way.
    context = FlowRunContext.get()
    while context is not None and not context.detached:
        found = context._token.old_value if context._token is not None else None  # noqa: SLF001
        outer = found if isinstance(found, FlowRunContext) else None
        _note(context, is_root=outer is None or outer.detached)
        context = outer


_watch()
os.register_at_fork(after_in_child=lambda: globals().update(_changing=threading.Lock()))
