"""Work into whose thread nobody raises an exception, but we, where it does no harm.

Prefect ends what runs too long in a thread by raising into that thread, between any two steps of
Python (``PyThreadState_SetAsyncExc``). Inside gRPC, or as a lock is let go, that leaves the lock
behind, and everybody waits for it for ever. So what sends RPCs runs in a thread that nobody else
knows, and who asked for it waits in a way that may be broken off at any step. When it is, the
work is told: an RPC in flight is cancelled, the body of a transaction is interrupted, the next
statement refuses; so its transaction is rolled back, or its outcome found out, before the caller
goes on with what was raised.
"""

import ctypes
import sys
import threading
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial, wraps
from typing import Any, Final, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

P = ParamSpec("P")
T = TypeVar("T")

_SLICE: Final = 0.05
"""Seconds after which a thread that waits comes by a step at which it can be broken off."""
_GRACE: Final = 5.0
"""Seconds in which an RPC whose reply tells what there is to settle may still end."""
_DEAF: Final = 10.0
"""Seconds after which a body that can't be interrupted is left alone; it won't commit."""


class Stopped(BaseException):
    """Nobody waits for this work any more."""


class Cancellable(Protocol):
    """An RPC in flight."""

    def cancel(self) -> object:
        """End it, from any thread."""


class Shelter:
    """One piece of work, in a thread of its own.

    Only raw locks are used: those of :mod:`threading` are what an exception leaves behind.

    Attributes:
        is_asked: Whether it is to end.
        is_over: Whether it has ended.
        in_body: Whether it is at foreign code, which may be interrupted.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        """Prepare the work."""
        self.is_asked = False
        self.is_over = False
        self.in_body = False
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self._begun = allocate_lock()
        self._ended = allocate_lock()
        self._ended.acquire()
        self._lock = allocate_lock()
        self._ident = 0
        self._depth = 1  # 0 where it may be raised into
        self._raised = False
        self._asked = 0.0
        self._quick: WeakSet[Cancellable] = WeakSet()
        self._flying: WeakKeyDictionary[Cancellable, float] = WeakKeyDictionary()

    # -- in the thread that waits

    def result(self) -> Any:  # noqa: ANN401 - what the work returned
        """Have the work done, and return or raise what it did; an exception from outside ends it.

        Raises:
            BaseException: What the work raised, or what was raised into this thread meanwhile.
        """
        try:
            _start(self._run)
            self._wait()
        except BaseException as raised:
            self._leave_for_good()
            for note in getattr(self._error, "__notes__", ()):
                raised.add_note(note)
            if txn_id := getattr(self._value, "txn_id", None):
                raised.add_note(f"transaction {txn_id}: {self._value.outcome}")
            raise
        if self._error is not None:
            raise self._error
        return self._value

    def _wait(self, until: Callable[[], bool] = lambda: False) -> None:
        while not self.is_over and not self._ended.acquire(timeout=_SLICE):
            if until():
                return

    def _leave_for_good(self) -> None:
        """Have the work end, and wait for that whatever else is raised into this thread meanwhile.

        A flow's timeout may come on top of a task's, and a Commit may be in flight.
        """
        while True:
            try:
                return self._leave()
            except BaseException:  # noqa: BLE001, S112 - the first one is raised
                continue

    def _leave(self) -> None:
        if self._begun.acquire(blocking=False):
            return  # it never began, and now it never will
        with self._lock:
            self._asked = self._asked or time.monotonic()
            self.is_asked = True
        self._interrupt()
        _start(self._cancel)
        deaf = time.monotonic() + _DEAF
        # Without a thread's number it was kept from beginning, by a call before this one.
        self._wait(lambda: (self._interrupt() or not self._ident) and time.monotonic() > deaf)

    def _interrupt(self) -> bool:
        """Raise into the body, once, if that is what the work is at; tell whether it is."""
        with self._lock:
            if self._depth == 0 and not self._raised:
                self._raised = True
                _raise_into(self._ident, Stopped)
            return self._depth == 0

    # -- in its own thread, and in those of a body

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        self._ident = threading.get_ident()
        _here.shelter = self
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            self._error = error
        finally:
            self.is_over = True
            self._ended.release()

    def check(self) -> None:
        """Return unless the work is to end.

        Raises:
            Stopped: It is.
        """
        if self.is_asked:
            raise Stopped

    def enter(self, change: int) -> None:
        """Count a region that may (-1) or may not (+1) be raised into.

        An exception that was raised before and has not come yet comes now.
        """
        with self._lock:
            self._depth += change
            if self._raised and self._depth > 0:
                _raise_into(self._ident, None)

    def back(self, depth: int) -> None:
        """Count as out of foreign code again, as deep as before it; harmless when done twice."""
        self.in_body = False
        self.enter(depth - self._depth)

    @property
    def depth(self) -> int:
        """How deep it is in regions that may not be raised into; 0 where it may be."""
        return self._depth

    def flies(self, call: Cancellable, *, quick: bool) -> None:
        """Note an RPC in flight; it is forgotten with its object.

        Once the work is to end it is cancelled, after a while: whenever it was begun.

        Args:
            call: The RPC.
            quick: Whether nothing depends on its reply, so that it is cancelled at once.
        """
        with self._lock:
            self._flying[call] = time.monotonic()
            if quick:
                self._quick.add(call)
            late = quick and self.is_asked and self.in_body
        if late:
            call.cancel()

    def _cancel(self) -> None:
        with self._lock:
            quick = list(self._quick)
        for call in quick:
            call.cancel()
        while not self.is_over:
            for call in self._overdue():
                call.cancel()
            time.sleep(_SLICE)

    def _overdue(self) -> list[Cancellable]:
        """Return the RPCs that have had their grace since the work was to end."""
        with self._lock:
            flying = list(self._flying.items())
        before = time.monotonic() - _GRACE
        return [call for call, begun in flying if max(begun, self._asked) < before]


class _Here(threading.local):
    shelter: Shelter | None = None
    caller: tuple[Shelter, bool] | None = None


_here: Final = _Here()


def _raise_into(thread: int, kind: type[BaseException] | None) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), None if kind is None else ctypes.py_object(kind)
    )


def _start(function: Callable[[], None]) -> None:
    """Start a thread that can't be hit by what is raised into this one.

    While it is being started, a thread still counts as the one that starts it, and gets what is
    meant for that. So it goes on with a generator that was begun here: even its first step is in a
    block, which passes on what came astray.
    """
    starter = threading.get_ident()

    def run() -> Iterator[None]:
        try:
            yield
        except BaseException as stray:  # noqa: BLE001 - meant for the other thread
            _raise_into(starter, type(stray))
        function()

    begun = run()
    next(begun)
    start_new_thread(copy_context().run, (partial(next, begun, None),))


def current() -> Shelter | None:
    """Return the shelter that this thread works in; None outside of any."""
    return _here.shelter


def is_exposed() -> bool:
    """Whether somebody may raise into this thread: Prefect, and the main thread it leaves alone."""
    return (
        "prefect" in sys.modules
        and _here.shelter is None
        and threading.get_ident() != threading.main_thread().ident
    )


def sheltered(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function run in a shelter wherever it is called from a thread that is exposed."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if not is_exposed():
            return function(*args, **kwargs)
        result: T = Shelter(lambda: function(*args, **kwargs)).result()
        return result

    return run


def parts(source: Iterator[T]) -> Iterator[T]:
    """Return an iterator each step of which is sheltered, for whoever reads it."""
    step = sheltered(lambda: next(source, _END))
    while (part := step()) is not _END:
        yield part  # type: ignore[misc]  # what is no end is a part


_END: Final = object()


def check() -> None:
    """Return unless what this thread works for is to end.

    Raises:
        Stopped: It is.
    """
    if (mine := _here.shelter) is not None:
        mine.check()


def interruptible(foreign: Callable[[], T]) -> T:
    """Call what may be raised into when its work is to end: foreign code, without locks of ours.

    No context manager: what is raised as one is entered or left would leave it half done.

    Raises:
        Stopped: It is to end.
    """
    if (mine := _here.shelter) is None:
        return foreign()
    mine.check()
    depth = mine.depth
    try:
        try:
            mine.in_body = True
            mine.enter(-1)
            value = foreign()
        finally:
            mine.back(depth)
    except Stopped:  # it comes once only, but it may have come as this went back
        mine.back(depth)
        raise
    mine.check()
    return value


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep the block from being raised into, inside of one that may be."""
    if (mine := _here.shelter) is None:
        yield
        return
    mine.enter(1)
    try:
        yield
    finally:
        mine.enter(-1)


@contextmanager
def calling(shelter: Shelter | None, *, quick: bool) -> Iterator[None]:
    """Send the RPCs of the block for a shelter's work, whichever thread they are sent from.

    Args:
        shelter: The work's; None for this thread's.
        quick: Whether nothing depends on their replies once the work is to end.
    """
    before, mine = _here.caller, shelter or _here.shelter
    _here.caller = None if mine is None else (mine, quick)
    try:
        yield
    finally:
        _here.caller = before


def caller() -> tuple[Shelter, bool] | None:
    """Return for whose work this thread sends an RPC, and whether it may be cancelled at once."""
    if _here.caller is not None:
        return _here.caller
    return None if _here.shelter is None else (_here.shelter, False)
