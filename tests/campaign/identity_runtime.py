"""What generated programs call: it keeps their journal, and brings them to grief where it is told.

A program runs in several processes, one after the other. All of them share one folder: the journal
holds a line for each thing that happened, and marks tell what has happened once already.
"""

import asyncio
import contextlib
import contextvars
import dataclasses
import inspect
import json
import os
import signal
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from google.api_core.exceptions import Aborted, DeadlineExceeded
from prefect.context import FlowRunContext
from pydantic import BaseModel

from spanctl.errors import SpanctlError
from spanctl.flows import using
from spanctl.spanner.rpc import Rpc

FOLDER: Final = "IDENTITY_FOLDER"
KEY: Final = "IDENTITY_KEY"
"""Variables: the program's folder, and the idempotency key of a run as a script."""

TABLE: Final = "writes"
COLUMNS: Final = ("program", "id", "label", "txn", "function", "given")
IN_BODY: Final = ("raise", "kill")
AT_COMMIT: Final = ("abort", "lose the reply", "kill before", "kill after")
_PATIENCE: Final = 5.0

POOL = ThreadPoolExecutor(1)
"""Its thread is there before any flow, so it has no context of one."""

_plan: dict[str, str] = {}


class OwnError(Exception):
    """What a program fails with by itself."""


def begin() -> None:
    """Note that the program's flow begins."""
    context = FlowRunContext.get()
    run = str(context.flow_run.id) if context and context.flow_run else None
    tell(run=run)


def plan(plan: Mapping[str, str]) -> None:
    """Say what is to happen once to the write of a label: one of IN_BODY or AT_COMMIT."""
    _plan.update(plan)


def tell(**word: Any) -> None:
    """Add a line to the journal."""
    path = Path(os.environ[FOLDER]) / "journal"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, json.dumps(word).encode() + b"\n")
    os.close(descriptor)


def first(mark: str) -> bool:
    """Tell whether this is the first time in the program's life."""
    path = Path(os.environ[FOLDER]) / "marks" / mark.replace("/", "_")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def crash(mark: str, how: str) -> None:
    """Come to grief, once.

    Raises:
        OwnError: It is not to die.
    """
    if first(mark):
        _grieve(how)


def _grieve(how: str) -> None:
    if how.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    raise OwnError(how)


# -- a write, and its call


def write(txn: Any, label: str, given: Any, function: str) -> None:
    """Leave a row of its own: applied twice, there are two."""
    program = Path(os.environ[FOLDER]).name
    row = (program, str(uuid.uuid4()), label, txn.txn_id, function, shown(given))
    txn.insert(TABLE, COLUMNS, [row])
    if _plan.get(label) in IN_BODY and first(f"grief {label}"):
        _grieve(_plan[label])


def call(site: str, label: str, make: Callable[[], Any], given: Any, *, catch: bool = False) -> Any:
    """Make a call of a step and note what it says of the write.

    Args:
        site: Where in the program.
        label: The write that is meant.
        make: Makes the call; its value is the result.
        given: The argument.
        catch: Whether the program goes on when it is refused.
    """
    tell(begun=site, label=label, given=shown(given))
    try:
        result = make()
    except SpanctlError as error:
        txn = error.details.get("txn_id") if isinstance(error.details, Mapping) else None
        tell(site=site, label=label, refused=error.code, txn=txn, caught=catch, why=str(error))
        if not catch:
            raise
        return None
    except Exception as error:
        tell(site=site, label=label, failed=repr(error))
        raise
    said = str(result.outcome)
    tell(site=site, label=label, said=said, txn=result.txn_id, replayed=result.replayed)
    return result


def together(calls: Sequence[tuple[str, str, Callable[[], Any], Any]]) -> None:
    """Submit steps side by side, then note what each says."""
    futures = [make() for *_, make, _ in calls]
    for (site, label, _, given), future in zip(calls, futures, strict=True):
        call(site, label, future.result, given)


def mapped(
    calls: Sequence[tuple[str, str, Any]], make: Callable[[], Any], *, catch: bool = False
) -> None:
    """Map a step over arguments, then note what each element says, or the refusal of them all."""
    try:
        results = [one.result for one in make()]
    except SpanctlError as error:
        results = [partial(_raise, error)] * len(calls)
    for (site, label, given), result in zip(calls, results, strict=True):
        call(site, label, result, given, catch=catch)


def _raise(error: Exception) -> None:
    raise error


def shown(value: Any) -> str:
    """Return a value as text: the same wherever it is equal."""
    match value:
        case OrderedDict():
            return f"O{[(shown(k), shown(v)) for k, v in value.items()]}"
        case dict():
            return f"D{sorted((shown(k), shown(v)) for k, v in value.items())}"
        case set() | frozenset():
            return f"{type(value).__name__}{sorted(map(shown, value))}"
        case list() | tuple():
            return f"{type(value).__name__}{[shown(one) for one in value]}"
        case _ if dataclasses.is_dataclass(value) or isinstance(value, BaseModel):
            return f"{type(value).__name__}{shown(dict(vars(value)))}"
    return repr(value)


# -- places


def in_pool(make: Callable[[], Any]) -> Any:
    """Make a call in a pool's thread, which has no flow run's context."""
    return POOL.submit(make).result()


def in_thread(make: Callable[[], Any]) -> Any:
    """Make a call in a new thread, which has none either."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def in_empty_context(make: Callable[[], Any]) -> Any:
    """Make a call in the flow's own thread, in a context of nothing."""
    return contextvars.Context().run(make)


def in_copied_context(make: Callable[[], Any]) -> Any:
    """Make a call in a thread that knows the flow run."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, make).result()


def in_job(job: str, make: Callable[[], Any]) -> Any:
    """Make a call in a thread without a context, as part of a job that is named."""

    def named() -> Any:
        with using(job=job):
            return make()

    return in_pool(named)


def in_fork(make: Callable[[], Any]) -> Any:
    """Make a call in a forked process, which can do no more than be refused.

    Raises:
        SpanctlError: The refusal.
        OwnError: It was not refused.
    """
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            threading.Timer(_PATIENCE, os._exit, (1,)).start()
            try:
                make()
            except SpanctlError as error:
                os.write(writable, error.code.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as stream:
        code = stream.read()
    os.waitpid(pid, 0)
    if not code:
        msg = "a forked process's call was not refused"
        raise OwnError(msg)
    refused = SpanctlError("in the forked process")
    refused.code = code  # type: ignore[misc]
    raise refused


def script(flow: Callable[[], Any]) -> None:
    """Run a program as ``python FILE`` does, under the idempotency key if one is set."""
    with using(idempotency_key=os.environ[KEY] or None):
        running = flow()
        if inspect.iscoroutine(running):
            asyncio.run(running)


# -- what happens at the commit


def arm() -> None:
    """Have commits of the plan's writes come to grief, once each."""
    send = Rpc.commit

    def commit(self: Rpc, request: Any, *, timeout: float) -> Any:
        label = _label(request)
        how = _plan.get(label) if label else None
        if how not in AT_COMMIT or not first(f"grief {label}"):
            return send(self, request, timeout=timeout)
        if how == "abort":
            raise Aborted(how)
        if how == "kill before":
            _grieve(how)
        send(self, request, timeout=timeout)
        if how == "kill after":
            _grieve(how)
        raise DeadlineExceeded(how)

    Rpc.commit = commit  # type: ignore[method-assign]


def _label(request: Any) -> str | None:
    for one in request.mutations:
        if one.insert.table == TABLE:
            values = one.insert.values[0]
            at = list(one.insert.columns).index("label")
            value = values.values[at] if hasattr(values, "values") else values[at]
            return str(getattr(value, "string_value", value))
    return None
