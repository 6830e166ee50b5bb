"""What Python drops: no exception leaves a finalizer, or the callback of a weak reference.

Nor one of the garbage collector's. A signal's handler that raises there has raised for nothing.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

Hook = Callable[["sys.UnraisableHookArgs"], object]

_again: Final[list[tuple[type[BaseException], Callable[[], object]]]] = []
_behind: Hook = sys.__unraisablehook__


@contextmanager
def again(kind: type[BaseException], act: Callable[[], object]) -> Iterator[None]:
    """Act whenever an exception is dropped in the block, and in the main thread.

    Args:
        kind: Of which kind; the innermost block of several takes it.
        act: Has it raised again a moment later; it must not raise itself.
    """
    global _behind
    if not _again:
        _behind, sys.unraisablehook = sys.unraisablehook, _tell
    entry = (kind, act)
    _again.append(entry)
    try:
        yield
    finally:
        _again.remove(entry)
        if not _again and sys.unraisablehook is _tell:
            sys.unraisablehook = _behind


def put(hook: Hook) -> None:
    """Have a hook told of all else that is dropped, also behind the blocks of :func:`again`."""
    global _behind  # noqa: PLW0603 - there is one hook
    if sys.unraisablehook is _tell:
        _behind = hook
    else:
        sys.unraisablehook = hook


def _tell(dropped: "sys.UnraisableHookArgs") -> None:
    if threading.current_thread() is threading.main_thread():
        for kind, act in reversed(_again):
            if isinstance(dropped.exc_value, kind):
                act()
                return
    _behind(dropped)
