"""A file of rows, open: its text's bytes, of a file that gzip packed too.

What is packed is unpacked into a nameless temporary file, so that reading can begin anywhere. The
text is what an import is known by: packed or not, it is the same import.
"""

import errno
import gzip
import hashlib
import io
import os
import shutil
import stat
import tempfile
import zlib
from enum import StrEnum
from pathlib import Path
from typing import IO

from spanctl import textfiles
from spanctl.closing import Closing
from spanctl.errors import ConfigurationError, ConflictError, NotFoundError, UsageError

DAMAGES = (gzip.BadGzipFile, EOFError, zlib.error)
"""What reading a file raises that gzip has not packed whole."""

_PART = 1024 * 1024


class FileFormat(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSONL = "jsonl"


class RowFile(Closing):
    """An open file; a context manager.

    Attributes:
        path: Where it is.
        text: Its text's bytes.
        packed: Whether gzip packed it.
        size: Bytes of its text; 0 for one that is packed and was not digested.
        sha256: SHA-256 of its text, hexadecimal; empty when it was not digested.
    """

    def __init__(self, path: Path, *, digested: bool = True) -> None:
        """Open a file, and digest it.

        Args:
            path: A regular file.
            digested: Whether its text is digested: a look at its header can do without.

        Raises:
            NotFoundError: There is no such file.
            UsageError: It is no regular file, is damaged, or holds no UTF-8 text.
            ConfigurationError: There is no room to unpack it: it may take half of what is free.
        """
        self.path = path
        self._file = _opened(path)
        self.text: IO[bytes] = self._file
        try:
            self._identity = self._stat()
            self.packed = textfiles.is_gzip(self._file.peek(textfiles.START))
            self.size = 0 if self.packed else self._identity[1]
            self.sha256 = ""
            if self.packed:
                self.text = self._unpacked(digested)
            elif digested:
                self.sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
            self.text.seek(0)
            start = self._read(textfiles.START)
            textfiles.refuse_foreign(start, path, unpacked=self.packed)
            self.text.seek(0)
        except BaseException:
            self.close()
            raise

    def bytes_of(self, start: int, end: int) -> bytes:
        """Return a part of its text, wherever reading is; of a digested file."""
        return os.pread(self.text.fileno(), end - start, start)

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
        self.text.close()
        self._file.close()

    def _stat(self) -> tuple[int, int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _read(self, size: int) -> bytes:
        try:
            return self.text.read(size)
        except DAMAGES:
            raise damaged(self.path) from None

    def _unpacked(self, digested: bool) -> IO[bytes]:
        packed = gzip.GzipFile(fileobj=self._file)
        try:
            textfiles.refuse_foreign(packed.peek(textfiles.START), self.path, unpacked=True)
        except DAMAGES:
            raise damaged(self.path) from None
        if not digested:
            return io.BufferedReader(packed)
        digest = hashlib.sha256()
        # A file of a megabyte may hold a gigabyte: others need the disk, too.
        most = shutil.disk_usage(tempfile.gettempdir()).free // 2
        room = tempfile.TemporaryFile(prefix="spanctl-rows-")  # noqa: SIM115 - closed by close()
        try:
            while part := packed.read(_PART):
                digest.update(part)
                self.size += room.write(part)
                _refuse_beyond(most, self.size)
            room.flush()
        except DAMAGES:
            room.close()
            raise damaged(self.path) from None
        except OSError as error:
            room.close()
            msg = f"{self.path} can't be unpacked into {tempfile.gettempdir()}: {error.strerror}"
            raise ConfigurationError(msg, hint="set TMPDIR to a folder with more room") from None
        self.sha256 = digest.hexdigest()
        return room


def _refuse_beyond(most: int, size: int) -> None:
    if size > most:
        raise OSError(errno.ENOSPC, f"its text has more than {most >> 20:,} MiB, half of the room")


def damaged(path: Path) -> UsageError:
    """Return the error for a file that gzip has not packed whole."""
    return UsageError(
        f"{path} is damaged: gzip can't unpack all of it", hint=f"see: gzip -t {path}"
    )


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


def unpacked_name(path: Path) -> Path:
    """Return a file's path without the ending that says that gzip packed it."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def format_of(path: Path) -> FileFormat:
    """Tell by its name how a file is written.

    Raises:
        NotFoundError: The name doesn't tell, and there is no such file.
        UsageError: The name doesn't tell; where the first bytes do, what they say it is.
    """
    match unpacked_name(path).suffix.lower():
        case ".csv" | ".tsv":
            return FileFormat.CSV
        case ".jsonl" | ".ndjson":
            return FileFormat.JSONL
    with _opened(path) as file:
        textfiles.refuse_foreign(file.peek(textfiles.START)[: textfiles.START], path)
    msg = f"{path} is neither .csv nor .jsonl"
    raise UsageError(msg, hint="rename it, or pass --format csv or --format jsonl")
