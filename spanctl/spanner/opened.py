"""In which sessions a transaction may be open: such a session is never deleted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from google.api_core.exceptions import GoogleAPICallError
from grpc import StatusCode

NOT_COMMITTED: Final = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.ALREADY_EXISTS,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.OUT_OF_RANGE,
        StatusCode.NOT_FOUND,
        StatusCode.PERMISSION_DENIED,
    }
)
"""Statuses that prove "not committed" when they answer the first and only send of a Commit."""
OVER: Final = NOT_COMMITTED | {StatusCode.ABORTED}
"""Statuses that only a server answers with: nothing was begun, or what was is over."""


class Opened:
    """What may be open, by the name of its session; thread-safe.

    To delete a session whose transaction holds locks ends an emulator, with all that it holds.
    """

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._marks: set[tuple[str, object]] = set()

    def note(self, session: str, mark: object) -> None:
        """Note that a transaction is about to begin."""
        self._marks.add((session, mark))

    def over(self, session: str, mark: object) -> None:
        """Note that it is over, or has never begun."""
        self._marks.discard((session, mark))

    def forget(self, session: str) -> None:
        """Keep nothing of a session that nobody asks for any more."""
        self._marks -= {one for one in self._marks.copy() if one[0] == session}

    def is_any_in(self, session: str) -> bool:
        """Whether a transaction may be open in a session."""
        return any(name == session for name, _ in self._marks.copy())

    @contextmanager
    def within(self, session: str) -> Iterator[None]:
        """Count a transaction that the block begins and ends as open until it has surely ended."""
        mark = object()
        self.note(session, mark)
        try:
            yield
        except GoogleAPICallError as error:
            if error.grpc_status_code in OVER:
                self.over(session, mark)
            raise
        self.over(session, mark)
