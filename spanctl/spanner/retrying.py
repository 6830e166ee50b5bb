"""Which failed RPCs are sent again, after what pause, and until when: the one table for all.

=================  ======================================================================
what was sent      is sent again after
=================  ======================================================================
a read, a session  :func:`read_again`: it did not reach the server, or the way back broke
a write that may   :func:`write_again`: all that passes, ABORTED too
be applied twice
a statement of a   :func:`write_again`, by running the whole body again; a stream that
transaction        breaks is first gone on with where it broke
Commit             TRANSIENT, as the same Commit; see :mod:`spanctl.spanner.protocol`
=================  ======================================================================
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from google.api_core.exceptions import GoogleAPICallError
from google.cloud.spanner_v1.types import PartialResultSet
from google.rpc.error_details_pb2 import RetryInfo
from grpc import StatusCode

from spanctl.clock import monotonic
from spanctl.shelter import uninterrupted
from spanctl.spanner.rpc import Rpc, status_of

TRANSIENT: Final = frozenset(
    {
        StatusCode.UNAVAILABLE,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.INTERNAL,
        StatusCode.UNKNOWN,
        StatusCode.CANCELLED,
    }
)
"""Statuses after which the same request may well succeed when it is sent again."""

SILENCE: Final = 10.0
"""Seconds after which a server that can't be reached any more is given up."""
_NEVER_REACHED: Final = 1.6
"""The same for one that has never answered this process: a wrong address, mostly."""
_BROKEN: Final = ("RST_STREAM", "Received unexpected EOS on DATA frame from server")
"""What Google's clients take an INTERNAL error for a broken connection by: its text."""
_CHANCE: Final = random.Random()  # noqa: S311 - no secret; the program's own sequence is left alone
_MAX_HELD: Final = 16 * 1024 * 1024
"""Bytes of a stream that wait for its next resume token."""


def read_again(error: GoogleAPICallError) -> bool:
    """Tell whether a read that failed so may be sent again as it is."""
    match status_of(error):
        case StatusCode.UNAVAILABLE:
            return True
        case StatusCode.INTERNAL:
            return any(words in str(error.message) for words in _BROKEN)
        case StatusCode.RESOURCE_EXHAUSTED:
            return retry_delay(error) is not None
        case _:
            return False


def write_again(error: GoogleAPICallError) -> bool:
    """Tell whether a write that failed so, and may be applied twice, may be sent again."""
    status = status_of(error)
    return status is StatusCode.ABORTED or status in TRANSIENT


def retry_delay(error: GoogleAPICallError) -> float | None:
    """Return the seconds that the server asks to wait, None when it says nothing."""
    for info in error.details:
        if isinstance(info, RetryInfo):
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


def patience(rpc: Rpc) -> float:
    """Return the seconds for which a server that can't be reached is tried again."""
    return SILENCE if rpc.has_answered else _NEVER_REACHED


class Pauses:
    """The pauses between tries of one request, within its time.

    Each is as long as the server asks, else twice as long as the one before, with some jitter.
    """

    def __init__(self, until: float, *, first: float = 0.05, longest: float = 1.0) -> None:
        """Begin.

        Args:
            until: Monotonic time after which nothing is sent any more.
            first: Seconds of the first pause.
            longest: Seconds of the longest that the server has not asked for.
        """
        self.until = until
        self._first = self._next = first
        self._longest = longest

    def take(self, error: GoogleAPICallError, *, until: float | None = None) -> bool:
        """Wait before another try; False, at once, where time is over before it could be made."""
        jittered = _CHANCE.uniform(self._next / 2, self._next)
        seconds = retry_delay(error) or jittered
        if monotonic() + seconds > min(self.until, self.until if until is None else until):
            return False
        time.sleep(seconds)
        self._next = min(self._next * 2, self._longest)
        return True

    def progressed(self) -> None:
        """Begin anew with short pauses: the server has answered."""
        self._next = self._first


def resumed(
    opened: Callable[[bytes], Iterable[PartialResultSet]],
    again: Callable[[GoogleAPICallError, bool], bool],
    *,
    until: float,
    silence: float,
) -> Iterator[PartialResultSet]:
    """Yield the parts of a stream, each once; go on where it broke.

    Parts are held back until their resume token has come, or there are too many of them: from
    then on until the next token a break is an error.

    Args:
        opened: Sends the request with a resume token, empty at the start.
        again: Tells whether to go on after an error; the second argument is whether anything was
            yielded.
        until: Monotonic time after which nothing is sent any more.
        silence: Seconds without any part after which it isn't gone on with.

    Raises:
        GoogleAPICallError: It broke for good, as it came.
    """
    pauses, heard = Pauses(until), monotonic()
    token, held, size, certain, yielded = b"", list[PartialResultSet](), 0, True, False
    parts: Any = None
    begun = False
    while True:
        try:
            with uninterrupted():
                parts = parts or iter(opened(token))
                part = next(parts, None)
        except GoogleAPICallError as error:
            # In a stream that has begun it says that the token's time is over: what opens it once
            # more takes another one, or finds that there is none.
            outlived = begun and status_of(error) is StatusCode.UNAUTHENTICATED
            if not certain or not (outlived or again(error, yielded)):
                raise
            if not pauses.take(error, until=heard + silence):
                raise
            held.clear()
            parts, size, begun = None, 0, False
            continue
        heard, begun = monotonic(), True
        pauses.progressed()
        if part is not None:
            held.append(part)
            size += PartialResultSet.pb(part).ByteSize()
            if not part.resume_token and size <= _MAX_HELD:
                continue
            certain, token = bool(part.resume_token), part.resume_token or token
        yielded = yielded or bool(held)
        yield from held
        if part is None:
            return
        held.clear()
        size = 0
