"""Take live secrets out of text, in whatever encoding they appear, before anybody sees it.

Two nets, one behind the other: the values that this process holds (every
:class:`~spanctl.credentials.secret.Secret` is learned when it is made), in the encodings in which
libraries print them; and the shapes of Google's credentials, for those that came by another way.
"""

import base64
import binascii
import functools
import json
import logging
import re
import threading
import urllib.parse
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, Final

MASK: Final = "[secret]"
SHORTEST: Final = 8
"""Values of fewer bytes are not looked for: masking them would tear up ordinary text."""

_MOST_VALUES = 128
_LEAST_PART: Final = 16
_JWT: Final = re.compile(rb"[\w-]+\.[\w-]+(?:\.[\w-]+)+")
_PEM: Final = re.compile(rb"-----BEGIN [^-]+-----(.*?)-----END [^-]+-----", re.DOTALL)
_TALKATIVE: Final = (
    "google",
    "grpc",
    "urllib3",
    "requests",
    "requests_oauthlib",
    "httpx",
    "httpcore",
    "hpack",
    "h2",
)
"""Loggers whose debug records hold headers and payloads, before anybody knows them as secrets."""
_SHAPES = re.compile(
    r"ya29\.[\w.~+/=-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?"
    r"|(?<=bearer )[\w.~+/=-]{8,}",
    re.IGNORECASE | re.DOTALL,
)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class Redactor:
    """Knows live values and masks them; thread-safe.

    Of values that expire by themselves, such as tokens, it knows the newest 128; of lasting ones,
    such as keys, all.
    """

    def __init__(self) -> None:
        """Start without any value."""
        self._passing: OrderedDict[bytes, frozenset[str] | None] = OrderedDict()
        self._lasting: OrderedDict[bytes, frozenset[str] | None] = OrderedDict()
        # What a tracer or a signal raises in here is told by the same thread, through here.
        self._lock = threading.RLock()

    def learn(self, value: bytes, *, lasting: bool = False) -> None:
        """Mask this value from now on, also encoded; shorter ones than 8 bytes are left.

        Args:
            value: The value.
            lasting: Whether it doesn't expire by itself, and so is never forgotten.
        """
        if len(value) < SHORTEST:
            return
        with self._lock:
            # Most values are never looked for, so their encodings are worked out at the first look.
            kept = self._lasting if lasting else self._passing
            kept.setdefault(value, None)
            kept.move_to_end(value)
            while len(self._passing) > _MOST_VALUES:
                self._passing.popitem(last=False)

    def redact(self, text: str) -> str:
        """Return the text with every known value, and whatever looks like one, masked."""
        found = {needle for needles in self._known() for needle in needles if needle in text}
        # A value may hold another one (a document its key), so the longest goes first.
        for needle in sorted(found, key=len, reverse=True):
            text = text.replace(needle, MASK)
        return _SHAPES.sub(MASK, text)

    def _known(self) -> list[frozenset[str]]:
        with self._lock:
            found = []
            for kept in (self._passing, self._lasting):
                for value, needles in list(kept.items()):
                    known = needles if needles is not None else frozenset(_needles(value))
                    kept[value] = known
                    found.append(known)
            return found

    def redact_data(self, data: Any) -> Any:  # noqa: ANN401 - JSON-like data of any shape
        """Return data with every text in it redacted; what is neither data nor text, as text."""
        match data:
            case str():
                return self.redact(data)
            case None | bool() | int() | float():
                return data
            case Mapping():
                return {self.redact(str(k)): self.redact_data(v) for k, v in data.items()}
            case list() | tuple():
                return [self.redact_data(item) for item in data]
            case bytes():
                return self.redact(data.decode("utf-8", "backslashreplace"))
            case _:
                return self.redact(str(data))


def _needles(value: bytes) -> Iterator[str]:
    for part in (value, *parts(value)):
        yield from encodings(part)


def parts(value: bytes) -> Iterator[bytes]:
    """Yield the parts of a value that give it away by themselves.

    A signed token is cut at its dots by whatever looks into it, a key in PEM at its lines, and
    ``user:password`` at its colon.
    """
    if _JWT.fullmatch(value):
        _, *rest = value.split(b".")  # the header says nothing
        yield from (part for part in rest if len(part) >= _LEAST_PART)
    for body in _PEM.findall(value.replace(b"\\n", b"\n")):
        lines = [line.strip() for line in body.splitlines()]
        yield b"".join(lines)
        yield from (line for line in lines if len(line) >= _LEAST_PART)
    user, colon, password = value.partition(b":")
    if colon and user.isalnum() and len(password) >= SHORTEST:
        yield password


def encodings(value: bytes) -> Iterator[str]:
    """Yield how libraries write a value: as it is, quoted, escaped, in Base64 and hexadecimal."""
    text = value.decode("utf-8", "backslashreplace")
    yield text
    yield repr(text)[1:-1]
    yield repr(value)[2:-1]
    for plain in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        yield plain
        yield json.dumps(plain)[1:-1]
        yield plain.replace("/", "\\/")
    for quoted in (
        urllib.parse.quote(value),
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote_plus(value),
    ):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), quoted)
    for separator in ((), (":",), (" ",)):
        digits = binascii.hexlify(value, *separator).decode()
        yield digits
        yield digits.upper()
    yield from _inside_base64(value)


def _inside_base64(value: bytes) -> Iterator[str]:
    """Yield the value's Base64 at each of the three offsets at which larger data may hold it."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            encoded = encode(b"\0" * offset + value).decode().rstrip("=")
            # Characters at either end also carry bits of the neighbours.
            start = 0 if offset == 0 else offset + 1
            end = len(encoded) if (offset + len(value)) % 3 == 0 else len(encoded) - 1
            if end - start >= SHORTEST:
                yield encoded[start:end]


REDACTOR: Final = Redactor()
"""This process's redactor: it learns each secret when it is made."""


def redact(text: str) -> str:
    """Mask what this process's redactor knows."""
    return REDACTOR.redact(text)


class RedactingFilter(logging.Filter):
    """A filter for handlers: lets every record pass, without its secrets."""

    def __init__(self, redactor: Redactor = REDACTOR) -> None:
        """Use this redactor."""
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record's message, traceback and extra fields, and keep it."""
        clean(record, self._redactor)
        return True


def clean(record: logging.LogRecord, redactor: Redactor = REDACTOR) -> None:
    """Replace a record's message, arguments, traceback, stack and extra fields by masked text.

    Debug records of Google's and HTTP libraries are masked whole: they hold what was just received,
    which nobody knows as a secret yet.
    """
    whole = record.levelno <= logging.DEBUG and record.name.partition(".")[0] in _TALKATIVE
    try:
        message = MASK if whole else record.getMessage()
    except Exception:  # noqa: BLE001 - whatever the arguments' own code raises
        # Left alone, logging would print the arguments themselves to stderr.
        message = f"{record.msg} (with arguments that don't fit)"
    record.msg = redactor.redact(message)
    record.args = ()
    if record.exc_info and record.exc_info[0] and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    if record.exc_text:
        record.exc_text = redactor.redact(record.exc_text)
        record.exc_info = None  # with it, a handler could print the frames' variables
    if record.stack_info:
        record.stack_info = redactor.redact(record.stack_info)
    for name in record.__dict__.keys() - _STANDARD:
        value = record.__dict__[name]
        record.__dict__[name] = MASK if whole else redactor.redact_data(value)


def install_logging(redactor: Redactor = REDACTOR) -> None:
    """Mask every log record of this process, of any logger and handler, present and future.

    Calling it again changes nothing.
    """
    make = logging.Logger.makeRecord
    if getattr(make, "redacts", False):
        return

    @functools.wraps(make)
    def masked(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401 - passed on
        record = make(self, *args, **kwargs)
        clean(record, redactor)
        return record

    masked.redacts = True  # type: ignore[attr-defined]
    logging.Logger.makeRecord = masked  # type: ignore[method-assign]
