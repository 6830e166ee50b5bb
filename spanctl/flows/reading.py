"""Records of a CSV or JSON Lines file, one at a time, each with its line and its place in bytes.

Reading can begin at any :class:`Mark` that was seen before, so nothing is read twice after a
restart. One record is in memory at a time; a line longer than 32 MiB is refused.
"""

import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from spanctl.closing import Closing
from spanctl.errors import ConflictError, NotFoundError, UsageError

_LONGEST_LINE = 32 * 1024 * 1024
_LONGEST_FIELD = 16 * 1024 * 1024
_BOM = "\ufeff"


class FileFormat(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSONL = "jsonl"


class Mark(NamedTuple):
    """The start of a record: its offset in bytes, and its physical line, from 1."""

    offset: int
    line: int


class Record(NamedTuple):
    """One record, or the reason why it is none.

    Attributes:
        line: The physical line on which it begins.
        start: Its first byte.
        end: The byte after its last.
        fields: Its fields in the order of the header; None when it can't be read.
        reason: Why it can't be read; empty when it can.
    """

    line: int
    start: int
    end: int
    fields: Sequence[Any] | None
    reason: str = ""


class Source(Closing):
    """An open file of records; a context manager.

    Attributes:
        path: Where it is.
        format: How it is written.
        size: Its size in bytes.
        sha256: SHA-256 of its bytes, hexadecimal; empty when it was not digested.
        columns: The names in its header: the first record of a CSV, the first keys of JSON Lines.
        first: The first record after the header.
    """

    def __init__(
        self,
        path: Path,
        *,
        file_format: FileFormat | None = None,
        delimiter: str | None = None,
        digested: bool = True,
    ) -> None:
        """Open a file, digest it, and read its header.

        Args:
            path: A regular file.
            file_format: How it is written; told by its name's end when left out.
            delimiter: What stands between the fields of a CSV: one character; a comma when left
                out, a tab in a ``.tsv``.
            digested: Whether its bytes are digested: a look at its header can do without.

        Raises:
            NotFoundError: There is no such file.
            UsageError: It is no regular file, has another format or encoding, or no header.
        """
        self.path = path
        self.format = file_format or _format_of(path)
        self.delimiter = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            msg = f"{self.delimiter!r} can't stand between fields"
            raise UsageError(msg, hint="name one character, such as ; or a tab")
        self._file = _opened(path)
        try:
            self._identity = self._stat()
            self.size = self._identity[1]
            self.sha256 = _digest(self._file) if digested else ""
            self.columns, self.first = self._header()
        except BaseException:
            self._file.close()
            raise

    def records(self, mark: Mark | None = None) -> Iterator[Record]:
        """Yield the records from a mark on; from the first one when none is given.

        Records that can't be read come with their reason. Blank lines are left out.
        """
        start = mark or self.first
        self._file.seek(start.offset)
        lines = _Lines(self._file, start.line - 1)
        if self.format is FileFormat.JSONL:
            return self._json(lines)
        return self._csv(lines)

    def raw(self, record: Record) -> bytes:
        """Return a record's bytes as they are in the file, without the end of its last line."""
        size = record.end - record.start
        return os.pread(self._file.fileno(), size, record.start).rstrip(b"\r\n")

    def refuse_change(self) -> None:
        """Refuse a file that was written to since it was opened.

        Raises:
            ConflictError: It was.
        """
        if self._stat() != self._identity:
            msg = f"{self.path} changed while it was being read"
            raise ConflictError(msg, hint="run the import again when nobody writes to the file")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _stat(self) -> tuple[int, int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_ino, status.st_size, status.st_mtime_ns

    # -- the header

    def _header(self) -> tuple[tuple[str, ...], Mark]:
        self._file.seek(0)
        lines = _Lines(self._file, 0)
        try:
            if self.format is FileFormat.JSONL:
                return self._json_header(lines)
            reader = self._reader(lines)
            for fields in reader:
                if fields:
                    return tuple(fields), Mark(self._file.tell(), lines.line + 1)
        except (ValueError, csv.Error) as error:
            raise _unreadable(self.path, lines.line, _reason(error)) from None
        msg = f"{self.path} is empty"
        raise UsageError(msg, hint="its first line must name the columns")

    def _json_header(self, lines: "_Lines") -> tuple[tuple[str, ...], Mark]:
        while text := lines.read():
            if text.strip():
                return tuple(_object(text)), Mark(0, 1)
        msg = f"{self.path} is empty"
        raise UsageError(msg, hint="write one JSON object a line")

    # -- records

    def _reader(self, lines: "_Lines") -> Any:  # noqa: ANN401 - the csv module's nameless class
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
        return csv.reader(iter(lines.read, ""), delimiter=self.delimiter, strict=True)

    def _csv(self, lines: "_Lines") -> Iterator[Record]:
        reader, tell, width = self._reader(lines), self._file.tell, len(self.columns)
        start = tell()
        while True:
            line = lines.line + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except (ValueError, csv.Error) as error:
                end = tell()
                yield Record(line, start, end, None, _reason(error))
            else:
                end = tell()
                if len(fields) == width:
                    yield Record(line, start, end, fields)
                elif fields:
                    reason = f"has {len(fields)} fields, the header has {width}"
                    yield Record(line, start, end, None, reason)
            start = end

    def _json(self, lines: "_Lines") -> Iterator[Record]:
        tell, columns = self._file.tell, self.columns
        names = frozenset(columns)
        start = tell()
        while True:
            try:
                text = lines.read()
                end = tell()
                if not text:
                    return
                found = _object(text) if text.strip() else None
            except ValueError as error:
                end = tell()
                yield Record(lines.line, start, end, None, _reason(error))
            else:
                if found is not None and found.keys() == names:
                    yield Record(lines.line, start, end, [found[name] for name in columns])
                elif found is not None:
                    yield Record(lines.line, start, end, None, _differing(names, found.keys()))
            start = end


class _Lines:
    """Lines of a binary file as text; after a bad one, reading goes on with the next."""

    def __init__(self, file: io.BufferedReader, line: int) -> None:
        self.line = line
        self._readline: Callable[[int], bytes] = file.readline

    def read(self) -> str:
        """Return the next line with its end; empty at the end of the file."""
        raw = self._readline(_LONGEST_LINE)
        self.line += 1
        if len(raw) == _LONGEST_LINE:
            while raw and not raw.endswith(b"\n"):
                raw = self._readline(_LONGEST_LINE)
            msg = f"is longer than {_LONGEST_LINE // 1024 // 1024} MiB"
            raise ValueError(msg)
        text = raw.decode()
        return text.removeprefix(_BOM) if self.line == 1 else text


def _format_of(path: Path) -> FileFormat:
    match path.suffix.lower():
        case ".csv" | ".tsv":
            return FileFormat.CSV
        case ".jsonl" | ".ndjson":
            return FileFormat.JSONL
    msg = f"{path} is neither .csv nor .jsonl"
    raise UsageError(msg, hint="rename it, or pass --format csv or --format jsonl")


def _opened(path: Path) -> io.BufferedReader:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            msg = f"{path} is no regular file"
            raise UsageError(msg, hint="save the rows in a file first: an import reads it twice")
        return path.open("rb")
    except FileNotFoundError:
        msg = f"there is no file {path}"
        raise NotFoundError(msg) from None
    except OSError as error:
        msg = f"{path} can't be read: {error.strerror}"
        raise UsageError(msg) from None


def _digest(file: io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(path: Path, line: int, reason: str) -> UsageError:
    return UsageError(f"{path}: line {line} {reason}", hint="it must be UTF-8 text with a header")


def _reason(error: Exception) -> str:
    """Say what is wrong with a record, without its content."""
    match error:
        case UnicodeDecodeError():
            return "is not UTF-8"
        case json.JSONDecodeError():
            return f"is no JSON at character {error.pos + 1}"
        case csv.Error():
            told = (v for k, v in _CSV_REASONS.items() if str(error).startswith(k))
            return next(told, "is no CSV record")
        case _:
            return str(error)


_CSV_REASONS = {
    "unexpected end of data": "begins a quotation that is never closed",
    "new-line character": "ends in a bare carriage return",
    "field larger than": "has a field that is too long, or a quotation that is never closed",
}
"""By how the csv module's messages begin; they differ between versions of Python."""


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(
            text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique
        )
    except RecursionError:
        msg = "is nested too deeply"
        raise ValueError(msg) from None
    if not isinstance(found, dict):
        msg = "is no JSON object"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for every refusal
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        msg = "names a key of an object twice"
        raise ValueError(msg)
    return found


def _no_constant(_text: str) -> None:
    msg = "holds NaN or an infinity that is no JSON (write them as strings)"
    raise ValueError(msg)


def _differing(names: AbstractSet[str], found: AbstractSet[str]) -> str:
    if missing := sorted(names - found):
        return f"lacks {', '.join(missing)}, which the first row has"
    return f"has {', '.join(sorted(found - names))[:200]}, which the first row lacks"
