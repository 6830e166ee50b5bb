"""How far an import is, told while it goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from spanctl.clock import monotonic
from spanctl.flows.reading import Source

INTERVAL = 0.1
"""Seconds between two reports of progress."""


class Phase(StrEnum):
    """What an import is doing."""

    CHECKING = "checking"
    WRITING = "writing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportProgress:
    """How far an import is.

    Attributes:
        phase: What it is doing.
        rows: Rows done in this phase; in writing, those of earlier runs included.
        total_rows: Rows of the file; None until it was checked.
        bytes: Bytes of the file done in this phase.
        total_bytes: The file's size.
        seconds: Since the phase began.
        rows_per_second: Of this phase, in this run.
        seconds_left: Until the phase ends; None until that can be told.
    """

    phase: Phase
    rows: int
    total_rows: int | None
    bytes: int
    total_bytes: int
    seconds: float
    rows_per_second: float
    seconds_left: float | None


Listener = Callable[[ImportProgress], None]

_listener: ContextVar[Listener | None] = ContextVar("spanctl_import_listener", default=None)


@contextmanager
def reporting(listener: Listener) -> Iterator[None]:
    """Have imports inside the block tell their progress, ten times a second at most."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


class Progress:
    """Told of each chunk; tells the listener now and then."""

    def __init__(self, phase: Phase, source: Source, total_rows: int | None = None) -> None:
        """Start a phase."""
        self._listener = _listener.get()
        self._phase = phase
        self._size = source.size
        self._total_rows = total_rows
        self._started = monotonic()
        self._next = 0.0
        self._first: tuple[int, int] | None = None

    def __call__(self, rows: int, bytes_done: int) -> None:
        """Note how far the phase is."""
        if self._first is None:
            self._first = (0, 0) if self._phase is Phase.CHECKING else (rows, bytes_done)
        moment = monotonic()
        if self._listener is None or (moment < self._next and bytes_done < self._size):
            return
        self._next = moment + INTERVAL
        seconds = moment - self._started
        moved = bytes_done - self._first[1]
        left = (self._size - bytes_done) * seconds / moved if moved else None
        self._listener(
            ImportProgress(
                phase=self._phase,
                rows=rows,
                total_rows=self._total_rows,
                bytes=bytes_done,
                total_bytes=self._size,
                seconds=seconds,
                rows_per_second=(rows - self._first[0]) / seconds if seconds else 0.0,
                seconds_left=left,
            )
        )
