"""Things that are closed when the block that they are used in ends."""

from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import ClassVar, Self


class Closing(ABC):
    """A context manager whose block hands out the thing itself, and closes it at its end.

    Attributes:
        harmless: Errors of closing by which nothing is lost: the end of a block doesn't raise them.
    """

    harmless: ClassVar[tuple[type[Exception], ...]] = ()

    @abstractmethod
    def close(self) -> object:
        """Let go of what is held; it may be called more than once."""

    def __enter__(self) -> Self:
        """Return the thing itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it, however the block ended; that it can't be closed replaces no other error."""
        with suppress(*self.harmless if error is None else (Exception,)):
            self.close()
