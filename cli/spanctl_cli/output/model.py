"""What a command hands to the output: results as values, with no idea of how they will look."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from spanctl.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    NAME = "name"

    @property
    def is_json(self) -> bool:
        """Whether machines read the output as JSON, and so expect errors as JSON too."""
        return self in {Format.JSON, Format.JSONL}

    @property
    def is_table(self) -> bool:
        """Whether people read the output: aligned on a terminal, tab-separated in a pipe."""
        return self in {Format.TABLE, Format.WIDE}


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a result is written.

    Attributes:
        fields: Comma-separated names of the fields to write, in this order; None for all.
        header: Whether tables and CSV begin with the names of their columns.
    """

    fields: str | None = None
    header: bool = True


class Kind(StrEnum):
    """What a column's values are, which decides how they are shown to people."""

    TEXT = "text"
    ID = "id"
    NUMBER = "number"
    TIME = "time"
    DURATION = "duration"
    LEFT = "left"
    STATE = "state"
    FLAG = "flag"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Document:
    """A value that is JSON, so that its text is JSON too: ``null`` and ``"a"``, not nothing and a.

    Attributes:
        value: What JSON can hold.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a result.

    Attributes:
        key: Its name in rows, JSON, headers of piped tables and ``--fields``.
        title: Its heading on a terminal; made from the key when empty.
        kind: What its values are (a DURATION is in seconds, or a timedelta; so is LEFT,
            the time until something ends, which is coloured by its urgency).
        extra: Left out of tables unless ``--fields`` names it; data formats always hold it.
    """

    key: str
    title: str = ""
    kind: Kind = Kind.TEXT
    extra: bool = False

    @property
    def heading(self) -> str:
        """The heading that people see."""
        return self.title or self.key.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Listing:
    """Several things of one kind, in order.

    Attributes:
        schema: The noun of its JSON schema: ``"contexts"`` gives ``spanctl.contexts/v1``.
        columns: Its fields, in the order in which they are shown.
        rows: Field name to value; a missing field is None. Iterated once.
        empty: Said on stderr when a person is shown no rows.
        facts: Further top-level members of the JSON document.
        view: Rich renderables in place of the table on a terminal.
    """

    schema: str
    columns: Sequence[Column]
    rows: Iterable[Mapping[str, Any]]
    empty: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    view: "Callable[[], Iterable[RenderableType]] | None" = None

    def picked(self, fields: Sequence[str]) -> Self:
        """Return it with only these fields, in this order.

        Raises:
            UsageError: A field doesn't exist; the hint lists those that do.
        """
        return replace(self, columns=_pick(self.columns, fields), facts={}, view=None)

    def widened(self) -> Self:
        """Return it with what tables else leave out."""
        return replace(self, columns=_all(self.columns), view=None)


@dataclass(frozen=True, slots=True)
class Record:
    """One thing.

    Attributes:
        schema: The noun of its JSON schema.
        columns: Its fields, in the order in which they are shown.
        values: Field name to value.
        sections: What belongs to it.
        view: Rich renderables in place of the table on a terminal.
    """

    schema: str
    columns: Sequence[Column]
    values: Mapping[str, Any]
    sections: Sequence["Section"] = ()
    view: "Callable[[], Iterable[RenderableType]] | None" = None

    def picked(self, fields: Sequence[str]) -> Self:
        """Return it with only these fields and sections, in this order.

        Raises:
            UsageError: A field doesn't exist; the hint lists those that do.
        """
        sections = {section.key: section for section in self.sections}
        columns = _pick(
            [*self.columns, *(Column(key) for key in sections)],
            fields,
        )
        return replace(
            self,
            columns=tuple(column for column in columns if column.key not in sections),
            sections=tuple(sections[name] for name in fields if name in sections),
            view=None,
        )

    def widened(self) -> Self:
        """Return it, and its sections, with what tables else leave out."""
        sections = tuple(
            replace(section, content=section.content.widened()) for section in self.sections
        )
        return replace(self, columns=_all(self.columns), sections=sections, view=None)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a record: its JSON member, its heading, and what it holds."""

    key: str
    title: str
    content: Listing | Record


def _all(columns: Sequence[Column]) -> tuple[Column, ...]:
    return tuple(replace(column, extra=False) for column in columns)


def _pick(columns: Sequence[Column], fields: Sequence[str]) -> tuple[Column, ...]:
    known = {column.key: column for column in columns}
    if unknown := [name for name in fields if name not in known]:
        msg = f"unknown fields: {', '.join(unknown)}"
        raise UsageError(msg, hint=f"known are: {', '.join(known)}")
    return tuple(replace(known[name], extra=False) for name in dict.fromkeys(fields))
