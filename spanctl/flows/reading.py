"""Records of a CSV or JSON Lines file, one at a time, each with its line and its place in bytes.

Reading can begin at any :class:`Mark` that was seen before, so nothing is read twice after a
restart. One record is in memory at a time; a line longer than 32 MiB is refused.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from spanctl import textfiles
from spanctl.closing import Closing
from spanctl.errors import UsageError
from spanctl.flows.rowfile import DAMAGES, FileFormat, RowFile, damaged, format_of, unpacked_name
from spanctl.spanner import jsontext

__all__ = ["EMPTY_TEXT", "FileFormat", "Mark", "Record", "Source"]

_LONGEST_LINE = 32 * 1024 * 1024
_LONGEST_FIELD = 16 * 1024 * 1024
_BOM = "\ufeff"
_QUOTATION = re.compile(rb'"[^"]*(?:""[^"]*)*+(?:"|\Z)')


class _Empty(str):
    __slots__ = ()


EMPTY_TEXT: Final = _Empty()
"""A field of a CSV that is empty between quotation marks, where that is told from NULL."""


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
        fields: Its fields: of a CSV in the order of the header, of JSON Lines by name; None when
            it can't be read.
        reason: Why it can't be read; empty when it can.
        torn: Whether it can't be read and takes several lines: a quotation that is closed late or
            never has taken them in, and what records they were isn't known.
    """

    line: int
    start: int
    end: int
    fields: Sequence[str] | dict[str, Any] | None
    reason: str = ""
    torn: bool = False


class Source(Closing):
    """An open file of records; a context manager.

    Attributes:
        path: Where it is.
        format: How it is written.
        size: Bytes of its text.
        sha256: SHA-256 of its text, hexadecimal; empty when it was not digested.
        columns: The names in its header: the first record of a CSV, the first keys of JSON Lines.
        first: The first record after the header.
    """

    def __init__(
        self,
        path: Path,
        *,
        file_format: FileFormat | None = None,
        delimiter: str | None = None,
        quoted_empty: bool = False,
        digested: bool = True,
    ) -> None:
        """Open a file, digest it, and read its header.

        Args:
            path: A regular file.
            file_format: How it is written; told by its name's end when left out.
            delimiter: What stands between the fields of a CSV: one character; a comma when left
                out, a tab in a ``.tsv``.
            quoted_empty: Whether an empty field of a CSV that is quoted comes as EMPTY_TEXT.
            digested: Whether its bytes are digested: a look at its header can do without.

        Raises:
            NotFoundError: There is no such file.
            UsageError: It is no regular file, has another format or encoding, or no header.
            ConfigurationError: There is no room to unpack it.
        """
        self.path = path
        self.format = file_format or format_of(path)
        tabs = unpacked_name(path).suffix.lower() == ".tsv"
        self.delimiter = delimiter or ("\t" if tabs else ",")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            msg = f"{self.delimiter!r} can't stand between fields"
            raise UsageError(msg, hint="name one character, such as ; or a tab")
        quiet = re.escape(self.delimiter)
        self._field = re.compile(f'"(?:[^"]|"")*"|[^{quiet}\\r\\n]*') if quoted_empty else None
        self._rows = RowFile(path, digested=digested)
        self._file: IO[bytes] = self._rows.text
        self.size, self.sha256 = self._rows.size, self._rows.sha256
        try:
            self.columns, self.first = self._header()
        except BaseException:
            self.close()
            raise

    def records(self, mark: Mark | None = None) -> Iterator[Record]:
        """Yield the records from a mark on; from the first one when none is given.

        Records that can't be read come with their reason. Blank lines are left out, but for those
        of a CSV with one column: there they are rows with an empty field.
        """
        start = mark or self.first
        self._file.seek(start.offset)
        lines = _Lines(self._file, start.line - 1)
        if self.format is FileFormat.JSONL:
            return self._json(lines)
        return self._csv(lines)

    def raw(self, record: Record) -> bytes:
        """Return a record's bytes as they are in the file, without the end of its last line."""
        return self._rows.bytes_of(record.start, record.end).rstrip(b"\r\n")

    def torn(self, record: Record) -> UsageError:
        """Return the error for a record that took in lines which may have been records."""
        text = self.raw(record)
        last = record.line + text.count(b"\n")
        found = [one.start() for one in _QUOTATION.finditer(text) if b"\n" in one.group()]
        opened = record.line + (text.count(b"\n", 0, found[-1]) if found else 0)
        msg = (
            f"{self.path}: lines {record.line} to {last} are read as one record, by a quotation"
            f" that line {opened} opens; it {record.reason}"
        )
        hint = "close the quotation; write a quotation mark inside of text twice"
        return UsageError(msg, hint=f"{hint}; --skip-bad leaves out no such lines", line=opened)

    def refuse_change(self) -> None:
        """Refuse a file that was written to since it was opened.

        Raises:
            ConflictError: It was.
        """
        self._rows.refuse_change()

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

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
        except UnicodeDecodeError:
            raise textfiles.not_utf8(self.path, unpacked=self._rows.packed) from None
        except DAMAGES:
            raise damaged(self.path) from None
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
                yield Record(line, start, end, None, _reason(error), torn=lines.line > line)
            else:
                end = tell()
                if width == 1 and not fields:
                    fields = [""]
                if len(fields) == width:
                    if self._field is not None and "" in fields:
                        fields = self._quoted(fields, start, end)
                    yield Record(line, start, end, fields)
                elif fields:
                    reason = f"has {len(fields)} fields, the header has {width}"
                    yield Record(line, start, end, None, reason, torn=lines.line > line)
            start = end

    def _quoted(self, fields: Sequence[str], start: int, end: int) -> Sequence[str]:
        """Return a record's fields, those that are quoted and empty as EMPTY_TEXT."""
        text, place, found = self._rows.bytes_of(start, end).decode(), 0, []
        for field in fields:
            match = self._field.match(text, place) if self._field else None
            found.append(EMPTY_TEXT if match and match.group() == '""' else field)
            place = (match.end() if match else place) + 1
        return found

    def _json(self, lines: "_Lines") -> Iterator[Record]:
        tell = self._file.tell
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
                if found is not None:
                    yield Record(lines.line, start, end, found)
            start = end


class _Lines:
    """Lines of a binary file as text; after a bad one, reading goes on with the next."""

    def __init__(self, file: IO[bytes], line: int) -> None:
        self.line = line
        self._readline: Callable[[int], bytes] = file.readline

    def read(self) -> str:
        """Return the next line with its end; empty at the end of the file."""
        raw = self._readline(_LONGEST_LINE)
        self.line += bool(raw)
        if len(raw) == _LONGEST_LINE:
            while raw and not raw.endswith(b"\n"):
                raw = self._readline(_LONGEST_LINE)
            msg = f"is longer than {_LONGEST_LINE // 1024 // 1024} MiB"
            raise ValueError(msg)
        text = raw.decode()
        return text.removeprefix(_BOM) if self.line == 1 else text


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
    found = jsontext.load(text)
    if not isinstance(found, dict):
        msg = "is no JSON object"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for every refusal
    return found
