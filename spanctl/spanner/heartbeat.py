"""Heartbeats: executors that are at work say so, so that others needn't ask their machines.

One thread a process writes them, each executor at most once in its interval, which is well below
the time after which silence is taken for death.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from spanctl.clock import monotonic

_POLL: Final = 0.5
_AGAIN: Final = 1.5
"""Seconds after which a heartbeat that failed is tried again."""
_LINGER: Final = 20
"""Looks in vain after which the thread ends."""


@dataclass(slots=True)
class _Beating:
    beat: Callable[[], bool]
    interval: float
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = monotonic() + self.interval


class Heart:
    """Beats for executors in a thread that ends when there are none; thread-safe."""

    def __init__(self) -> None:
        """Start with none, and without the thread."""
        self.reset()

    def reset(self) -> None:
        """Forget all: a forked child has neither the thread nor its parent's executors."""
        self._lock = threading.Lock()
        self._beating: dict[str, _Beating] = {}
        self._runs = False

    def start(self, executor_id: str, beat: Callable[[], bool], interval: float) -> None:
        """Beat for an executor from one interval on.

        Args:
            executor_id: Its id.
            beat: Writes one heartbeat; False where it has to wait, as for a transaction that is
                open on an emulator. One that fails is tried again soon.
            interval: Seconds between two.
        """
        with self._lock:
            self._beating[executor_id] = _Beating(beat, interval)
            if not self._runs:
                with suppress(RuntimeError):  # no thread to be had: the next executor tries again
                    threading.Thread(target=self._look, name="spanctl-heart", daemon=True).start()
                    self._runs = True

    def stop(self, executor_id: str) -> None:
        """Beat for it no more."""
        with self._lock:
            self._beating.pop(executor_id, None)

    def clear(self) -> None:
        """Beat for nobody any more."""
        with self._lock:
            self._beating.clear()

    def _look(self) -> None:
        vain = 0
        while True:
            time.sleep(_POLL)
            with self._lock:
                due = [one for one in self._beating.values() if one.due <= monotonic()]
                vain = 0 if self._beating else vain + 1
                if vain > _LINGER:
                    self._runs = False
                    return
            for one in due:
                # Whatever ends one, an interruption of the process too, the others need theirs.
                with suppress(BaseException):
                    if not one.beat():
                        continue
                    one.due = monotonic() + one.interval
                    continue
                one.due = monotonic() + min(_AGAIN, one.interval)


heart: Final = Heart()
os.register_at_fork(after_in_child=heart.reset)
