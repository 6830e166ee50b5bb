"""How a file is imported, and how it is cut: the values that an import stands on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from spanctl.errors import ConflictError, UsageError
from spanctl.flows.columns import Mode
from spanctl.flows.cutting import CHUNK_BYTES, Marks
from spanctl.flows.reading import FileFormat
from spanctl.spanner.sessions import MAX_SESSIONS

UNLIMITED = 2**63 - 1
"""For ``skip_bad``: any number of bad rows may be left out."""

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a file is imported.

    Attributes:
        mode: What happens to rows that are already there.
        file_format: How the file is written; told by its name when None.
        delimiter: What separates the fields of a CSV; a comma when None, a tab in a ``.tsv``.
        null: Text that means NULL in a CSV; None: an empty field, where its column may be NULL.
        quoted_empty: Whether a quoted empty field of a CSV is an empty STRING or BYTES, not NULL.
        chunk_rows: Rows in one transaction; chosen from the table when None.
        parallel: Transactions side by side, for inserts; one at a time is fastest on the emulator.
        skip_bad: At most so many bad rows are left out; with more, nothing is written.
        rejects: Where bad rows are named; beside the file when None.
        new: Whether to import the file once more, though an earlier import of it has finished.
        omitted_null: Whether a key that a line of JSON Lines leaves out is NULL; else its column is
            not written.
    """

    mode: Mode = Mode.INSERT
    file_format: FileFormat | None = None
    delimiter: str | None = None
    null: str | None = None
    chunk_rows: int | None = None
    parallel: int = 1
    skip_bad: int = 0
    rejects: Path | None = None
    new: bool = False
    omitted_null: bool = False
    quoted_empty: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be done.

        Raises:
            UsageError: The number of transactions side by side is out of range, or the mode is one
                where their order counts.
        """
        if not 1 <= self.parallel <= MAX_SESSIONS:
            msg = f"{self.parallel} transactions can't run side by side"
            raise UsageError(msg, hint=f"choose 1 to {MAX_SESSIONS}")
        if self.parallel > 1 and self.mode is not Mode.INSERT:
            msg = f"mode {self.mode} writes one chunk after the other: of equal keys one wins"
            raise UsageError(msg, hint="leave --parallel out, or pass --mode insert")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """How a file is cut, as the ledger keeps it.

    Attributes:
        rows: Rows of the file, bad ones included.
        bad: Rows that are left out.
        chunks: Into how many transactions it is cut.
        chunk_rows: Rows in a chunk.
        chunk_bytes: A chunk also ends when it has so many bytes.
        marks: Where chunks begin.
    """

    rows: int
    bad: int
    chunks: int
    chunk_rows: int
    chunk_bytes: int = CHUNK_BYTES
    marks: Marks = field(default_factory=Marks)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-able data, well below what a receipt keeps."""
        return {
            "version": _VERSION,
            "rows": self.rows,
            "bad": self.bad,
            "chunks": self.chunks,
            "chunk_rows": self.chunk_rows,
            "chunk_bytes": self.chunk_bytes,
            **self.marks.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConflictError: A newer spanctl wrote it.
        """
        if data.get("version") != _VERSION:
            msg = "the import was begun by another version of spanctl"
            raise ConflictError(msg, hint="upgrade spanctl, or pass --new")
        numbers = {name: int(data[name]) for name in _PLAN_NUMBERS}
        return cls(**numbers, marks=Marks.from_json(data))


_PLAN_NUMBERS = ("rows", "bad", "chunks", "chunk_rows", "chunk_bytes")
