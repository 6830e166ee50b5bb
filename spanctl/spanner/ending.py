"""At the end of a process its sessions are deleted, unless it is killed."""

import atexit
import os
import sys
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from spanctl.spanner.sessions import SessionPool

_FIRST: Final = 1
_pools: "WeakSet[SessionPool]" = WeakSet()
_awaited_in: set[int] = set()


def await_end(pool: "SessionPool") -> None:
    """Have a pool closed when this process ends."""
    _pools.add(pool)
    if os.getpid() in _awaited_in:
        return
    _awaited_in.add(os.getpid())
    processes = sys.modules.get("multiprocessing.process")
    # Another thread may be loading it: then this is no child.
    parent = getattr(processes, "parent_process", None)
    if parent is not None and parent() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, close_all, exitpriority=_FIRST)  # such a child leaves without atexit


@atexit.register
def close_all() -> None:
    """Delete the sessions of this process that nobody uses; it may make new ones afterwards."""
    for pool in list(_pools):
        pool.close()
