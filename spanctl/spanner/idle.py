"""The guard over transactions that stay quiet: their locks keep others waiting.

The server ends a transaction that was idle for 10 s or more, and says so as ABORTED, at the next
statement. One thread for each process sees to it that it ends before, and that its body is told
why. Transactions register with a dictionary's insert: it costs them next to nothing.
"""

import os
import threading
import time
from contextlib import suppress
from typing import Final, Protocol

LIMIT: Final = 8.0
"""Seconds that a transaction may be quiet: neither a statement outstanding nor one begun."""
_POLL: Final = 0.25
_LINGER: Final = 80
"""So many times the thread looks in vain before it ends."""


class Guarded(Protocol):
    """A transaction under guard."""

    def expire(self) -> bool:
        """Roll back if it was quiet for too long; tell whether it needs no guard any more."""


class Guard:
    """Looks after transactions in a thread that ends when there are none; thread-safe."""

    def __init__(self) -> None:
        """Start with none, and without the thread."""
        self.reset()

    def reset(self) -> None:
        """Forget all: a forked child has neither the thread nor its parent's transactions."""
        self._lock = threading.Lock()
        self._guarded: dict[int, Guarded] = {}
        self._runs = False

    def watch(self, transaction: Guarded) -> None:
        """Guard a transaction that has begun."""
        with self._lock:
            self._guarded[id(transaction)] = transaction
            if not self._runs:
                threading.Thread(target=self._look, name="spanctl-idle", daemon=True).start()
                self._runs = True

    def forget(self, transaction: Guarded) -> None:
        """Guard it no more."""
        with self._lock:
            self._guarded.pop(id(transaction), None)

    def _look(self) -> None:
        vain = 0
        while True:
            time.sleep(_POLL)
            with self._lock:
                guarded = list(self._guarded.values())
                vain = 0 if guarded else vain + 1
                if vain > _LINGER:
                    self._runs = False
                    return
            for transaction in guarded:
                with suppress(Exception):  # it is looked at again; the others need their guard
                    if transaction.expire():
                        self.forget(transaction)


guard: Final = Guard()
os.register_at_fork(after_in_child=guard.reset)
