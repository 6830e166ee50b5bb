"""A whole file checked before the first write, streaming; bad rows go to a file of their own."""

import contextlib
import csv
import json
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from spanctl.closing import Closing
from spanctl.errors import ConfigurationError, ConflictError
from spanctl.flows.converting import Converter, Mode
from spanctl.flows.cutting import Chunk, Marks, cut
from spanctl.flows.duplicates import Duplicate, KeyFinder
from spanctl.flows.reading import FileFormat, Mark, Record, Source
from spanctl.flows.rowfile import unpacked_name

_SORTED_DUPLICATES = 10_000
_HEADER = "line,reason,record\n"
_LONGEST_START = 4096  # bytes of a file that tell whether it is one of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the whole file holds.

    Attributes:
        rows: Records after the header, bad ones included.
        bad: How many of them can't be imported.
        chunks: Into how many transactions they are cut.
        marks: Where chunks begin.
        first_bad: The first bad line's number and reason; empty when there is none.
        repeated: Lines, in order, that repeat the primary key of an earlier one.
        first_repeated: Where the first of them is; None when there is none.
        rejects: The file that names the bad rows; None when there is none.
    """

    rows: int
    bad: int
    chunks: int
    marks: Marks
    first_bad: str = ""
    repeated: "Lines"
    first_repeated: Mark | None = None
    rejects: Path | None = None


class Lines:
    """A set of line numbers, 8 bytes each."""

    def __init__(self) -> None:
        """Start empty."""
        self._lines = array("Q")

    def take(self, line: int) -> None:
        """Take a line's number."""
        self._lines.append(line)

    def settle(self) -> None:
        """Make the set ready to be asked."""
        self._lines = array("Q", sorted(self._lines))

    def __contains__(self, line: int) -> bool:
        """Tell whether a line's number is in the set."""
        place = bisect_left(self._lines, line)
        return place < len(self._lines) and self._lines[place] == line

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._lines)


class Rejects(Closing):
    """The file of bad rows; made with the first of them, readable by its owner only.

    Attributes:
        path: Where it is.
        count: How many rows it names.
    """

    def __init__(self, source: Source, path: Path | None = None) -> None:
        """Choose the place: ``FILE.rejects.csv`` or ``FILE.rejects.jsonl`` beside the file."""
        beside = unpacked_name(source.path).with_suffix(f".rejects.{source.format}")
        self.path = path or beside
        self.count = 0
        self.first = ""
        self._first_line = 0
        self._source = source
        self._stream: IO[str] | None = None

    def add(self, record: Record, reason: str) -> None:
        """Name a bad row.

        Raises:
            ConfigurationError: The file can't be written.
        """
        self.count += 1
        if not self.first or record.line < self._first_line:
            self._first_line = record.line
            self.first = f"line {record.line}: {reason}"
        raw = self._source.raw(record).decode("utf-8", "backslashreplace")
        with self._told():
            if self._stream is None:
                self._stream = self._create()
            if self._source.format is FileFormat.JSONL:
                entry = {"line": record.line, "reason": reason, "record": raw}
                self._stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
            else:
                csv.writer(self._stream, lineterminator="\n").writerow([record.line, reason, raw])

    def refuse_other(self) -> None:
        """Refuse a place where something stands that is no file of bad rows, and not empty.

        Raises:
            ConflictError: There is one: it would be lost.
            ConfigurationError: It can't be read.
        """
        with self._told():
            try:
                status = self.path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISREG(status.st_mode) and (not status.st_size or self._is_ours()):
                return
        msg = f"{self.path} is there, and is no file of bad rows"
        raise ConflictError(msg, hint="pass --rejects PATH, or move it away")

    def _is_ours(self) -> bool:
        with self.path.open("rb") as stream:
            line = stream.readline(_LONGEST_START)
        if self._source.format is FileFormat.CSV:
            return line == _HEADER.encode()
        return line.startswith(b'{"line": ') and b', "reason": "' in line

    def _create(self) -> IO[str]:
        self.refuse_other()
        self.path.unlink(missing_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        stream = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
        if self._source.format is FileFormat.CSV:
            stream.write(_HEADER)
        return stream

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = f"the file of bad rows {self.path} can't be written: {error.strerror}"
            told = f"bad is, among others, {self.first}; or " if self.first else ""
            hint = f"{told}pass --rejects PATH"
            raise ConfigurationError(msg, hint=hint) from None

    def close(self) -> None:
        """Close the file, if one was made."""
        if self._stream is not None:
            with self._told():
                self._stream.close()


def validate(  # noqa: PLR0913 - one pass, told in full
    source: Source,
    converter: Converter,
    *,
    mode: Mode,
    rows: int,
    rejects: Path | None = None,
    progress: Callable[[int, int], None] = lambda _rows, _bytes: None,
) -> Checked:
    """Check every row of a file, and find where its chunks begin; one chunk is in memory at a time.

    In mode insert, a primary key that an earlier line has is bad, too: in mode insert-absent the
    first of such lines wins, in the others the last. Keys that Spanner makes are none of the file.

    Args:
        source: The file.
        converter: For the table.
        mode: What the import does.
        rows: Rows of a chunk.
        rejects: Where to name bad rows; beside the file when left out.
        progress: Called with rows and bytes done after each chunk.

    Raises:
        ConfigurationError: Bad rows can't be written down.
        ConflictError: The file changed meanwhile, or another file stands where bad rows go.
        UsageError: A quotation that is closed late or never takes in other lines: they are more
            than one bad row, and nobody knows which.
    """
    marks, repeated = Marks(), Lines()
    count = chunks = 0
    with Rejects(source, rejects) as bad, KeyFinder() as keys:
        bad.refuse_other()
        for chunk in cut(source.records(), rows):
            if torn := next((one for one in chunk.records if one.torn), None):
                raise source.torn(torn)
            _check(chunk, converter, bad, keys if mode is Mode.INSERT else None)
            marks.add(chunk)
            count += len(chunk.records)
            chunks += 1
            progress(count, chunk.end)
        first = _reject_duplicates(keys, bad, repeated, ", ".join(converter.key_columns))
        source.refuse_change()
        return Checked(
            rows=count,
            bad=bad.count,
            chunks=chunks,
            marks=marks,
            first_bad=bad.first,
            repeated=repeated,
            first_repeated=first,
            rejects=bad.path if bad.count else None,
        )


def _check(chunk: Chunk, converter: Converter, bad: Rejects, keys: KeyFinder | None) -> None:
    convert, key_of, digestible = converter.values, converter.key_of, converter.digestible
    for record in chunk.records:
        if record.fields is None:
            bad.add(record, record.reason)
            continue
        try:
            row = convert(record.fields)
        except ValueError as error:
            bad.add(record, str(error))
        else:
            if keys is not None and (key := key_of(row)) is not None:
                keys.add(digestible(key), record)


def _reject_duplicates(keys: KeyFinder, bad: Rejects, repeated: Lines, columns: str) -> Mark | None:
    """Name them in the order of their lines as long as they are few enough to be sorted.

    Returns:
        The first of them.
    """
    waiting: list[Duplicate] = []
    first: Mark | None = None
    for duplicate in keys.duplicates():
        record = duplicate.record
        repeated.take(record.line)
        if first is None or record.line < first.line:
            first = Mark(record.start, record.line)
        waiting.append(duplicate)
        if len(waiting) > _SORTED_DUPLICATES:
            _reject_all(waiting, bad, columns)
            waiting.clear()
    _reject_all(waiting, bad, columns)
    repeated.settle()
    return first


def _reject_all(duplicates: list[Duplicate], bad: Rejects, columns: str) -> None:
    for record, first in sorted(duplicates, key=lambda one: one.record.line):
        bad.add(record, f"has the same primary key ({columns}) as line {first}")
