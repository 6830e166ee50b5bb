"""Small parts that pages for people are put together from."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spanctl.printable import printable
from spanctl_cli.output import Kind, text
from spanctl_cli.output.values import age


def both_ends(items: Sequence[Any], limit: int) -> Iterator[Any]:
    """Yield items; of more than ``limit`` the first and last ones, with None between."""
    if len(items) <= limit:
        yield from items
        return
    yield from items[: limit // 2]
    yield None
    yield from items[len(items) - (limit - limit // 2) :]


def heading(title: str, note: str = "") -> Text:
    """Return a section's heading, with a note beside it."""
    heading = Text(f"\n{title}", style="bold")
    return heading.append(f"  {note}", style="dim not bold") if note else heading


def grid(*columns: str, rigid: int = 0) -> Table:
    """Return an empty table with these headings; its cells fold, they are never cut.

    Args:
        columns: The headings.
        rigid: So many of the first columns stay on one line; there must be room for them.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number < rigid)
    return table


def indented(table: Table) -> Padding:
    """Return a table set off from the left."""
    return Padding(table, (0, 0, 0, 2), expand=False)


def stacked(first: Text, *below: Text) -> Iterator[RenderableType]:
    """Yield one entry of a list on a narrow terminal: a line, and what belongs to it below."""
    yield Padding(whole(first), (0, 0, 0, 2), expand=False)
    for line in below:
        if line.plain:
            yield Padding(whole(line), (0, 0, 0, 4), expand=False)


def whole(line: Text) -> Text:
    """Let a line wrap anywhere rather than lose a character."""
    line.overflow = "fold"
    return line


def plain(value: object, note: str = "") -> Text:
    """Return a value as text, with a note behind it; empty for nothing."""
    if value in (None, ""):
        return Text()
    return Text(printable(str(value))).append(note, style="yellow dim")


def named(name: str | None, identifier: str | None) -> Text:
    """Return a name and an id, whichever there is."""
    words = Text(printable(name)) if name else Text()
    if identifier:
        words.append("  " if name else "").append(printable(identifier), style="cyan")
    return words


def count(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rows(number: int | None, *, least: bool, most: bool = False) -> Text:
    """Return a number of rows for a table: ``12+`` for a lower bound, ``≤12`` for an upper one."""
    if number is None or not (least or most):
        return text(number, Kind.NUMBER)
    return Text(f"{number:,}+" if least else f"≤{number:,}")


def least(number: int, *, bound: bool, most: bool = False) -> str:
    """Return a number of rows in words: ``at least 12 rows``, ``at most 1 row``, ``3 rows``."""
    words = "at least " if bound else "at most " if most else ""
    return f"{words}{count(number, 'row')}"


def moment(value: datetime) -> str:
    """Return a time in full: local, to the microsecond, and how long ago."""
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S.%f %Z} ({age(value)})"


def clock(value: datetime) -> Text:
    """Return a time of the day, local, to the millisecond."""
    return Text(_time(value))


def _time(value: datetime) -> str:
    return f"{value.astimezone():%H:%M:%S}.{value.microsecond // 1000:03d}"
