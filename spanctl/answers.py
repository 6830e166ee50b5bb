"""Answers of HTTP servers, bounded as a whole: in the time that they take, and in their bytes.

A socket's own timeout holds for each byte, so that an answer which comes in bytes, or has no end,
would hold a command for ever, or fill the memory.
"""

import http.client
import io
import socket
from typing import Any, Final

from spanctl.clock import monotonic

_PART: Final = 64 * 1024


class TooLongError(Exception):
    """An answer has more bytes than any has that makes sense."""


class _Bounded(io.RawIOBase):
    """What a socket receives, until a time and up to a number of bytes."""

    def __init__(self, sock: socket.socket, deadline: float, most: int) -> None:
        self._socket = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - the base's
        seconds = self._deadline - monotonic()
        if seconds <= 0:
            raise TimeoutError
        self._socket.settimeout(seconds)
        count = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise TooLongError
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class Answer(http.client.HTTPResponse):
    """An answer that is over by ``deadline``, a monotonic time, and has ``most`` bytes at most.

    Reading beyond raises TimeoutError, or TooLongError. For ``response_class`` of a connection.
    """

    def __init__(self, sock: socket.socket, deadline: float, most: int, **more: Any) -> None:  # noqa: ANN401 - the base's
        """Begin to read from a socket."""
        super().__init__(sock, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_Bounded(sock, deadline, most))


def whole(response: http.client.HTTPResponse) -> bytes:
    """Return the body of an answer, read in parts: its announced length is only a word.

    Raises:
        IncompleteRead: It ended before.
    """
    parts = []
    while part := response.read(_PART):
        parts.append(part)
    if response.length:
        cut = http.client.IncompleteRead(b"", response.length)
        raise cut
    return b"".join(parts)
