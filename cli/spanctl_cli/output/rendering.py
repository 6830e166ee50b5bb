"""Results as people see them on a terminal, drawn by Rich into a string."""

import io
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spanctl.printable import printable
from spanctl_cli.output import stdout
from spanctl_cli.output.model import Column, Kind, Listing, Record
from spanctl_cli.output.values import human, in_ascii

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_NARROWEST = 12
_ROOM = 24
_PADDING = re.compile(" +$", re.MULTILINE)
_URGENT = 300.0
_SOON = 900.0
_GAP = 2
_GOOD = frozenset({"active", "committed", "completed", "done", "ok", "present", "proven", "ready"})
_GOOD |= {"alive", "running", "up", "verified", "yes"}
_BAD = frozenset({"broken", "crashed", "dead", "denied", "down", "error", "failed", "missing"})
_BAD |= {"limbo", "tampered", "unknown", "unreachable", "zombie"}
_WARN = frozenset(
    {"absent", "cancelled", "cancelling", "claimed", "degraded", "disabled", "expired"}
)
_WARN |= {
    "abandoned",
    "at_least_once",
    "due",
    "ended",
    "fenced",
    "late",
    "not_committed",
    "paused",
    "pending",
    "retrying",
    "scheduled",
    "waiting",
}
_WARN |= {"starting", "stopping", "unresolved", "unsupported"}


def text(value: Any, kind: Kind = Kind.TEXT) -> "Text":  # noqa: ANN401 - a cell of any type
    """Return a value as Rich text, styled by its kind; its characters are never read as markup."""
    from rich.text import Text

    words = human(value, kind)
    if not words:
        return Text("-", style="dim")
    if kind is Kind.LEFT:
        return Text(words, style=_urgency(value))
    return Text(words, style=_style(words, kind))


def _urgency(left: float) -> str:
    return "bold red" if left < _URGENT else "yellow" if left < _SOON else "green"


def _style(words: str, kind: Kind) -> str:
    if kind is Kind.ID:
        return "cyan"
    if kind is Kind.STATE:
        word = words.lower().replace(" ", "_").replace("-", "_")
        for style, known in (("green", _GOOD), ("red", _BAD), ("yellow", _WARN)):
            if word in known:
                return style
    return ""


def console(file: io.TextIOBase | io.StringIO) -> "Console":
    """Return a console that draws as the terminal at stdout can show it."""
    from rich.console import Console

    dumb = os.environ.get("TERM", "") in {"dumb", ""} or bool(os.environ.get("NO_COLOR"))
    return Console(
        file=file,  # type: ignore[arg-type]  # any text stream serves
        force_terminal=not dumb,
        no_color=dumb,
        color_system=None if dumb else "auto",
        width=terminal_width(),
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )


def terminal_width() -> int:
    """Return how many columns the terminal has."""
    import shutil

    return max(shutil.get_terminal_size().columns, 1)


def drawn(result: Listing | Record, *, header: bool = True) -> str:
    """Return the text that shows a result on the terminal.

    Args:
        result: What to show.
        header: Whether tables begin with their headings.
    """
    buffer = io.StringIO()
    target = console(buffer)
    if result.view is not None:
        for renderable in result.view():
            target.print(renderable)
    else:
        _draw(target, result, header=header)
    page = _PADDING.sub("", buffer.getvalue())
    return page if stdout.holds_unicode() else in_ascii(page)


def _draw(target: "Console", result: Listing | Record, *, header: bool) -> None:
    if isinstance(result, Listing):
        _draw_listing(target, result, header=header)
        return
    columns = [column for column in result.columns if not column.extra]
    _draw_block(target, columns, result.values)
    for section in result.sections:
        target.print()
        _heading(target, section.title)
        _draw(target, section.content, header=header)


def _heading(target: "Console", title: str) -> None:
    from rich.text import Text

    target.print(Text(printable(title), style="bold"), soft_wrap=True)


def _draw_listing(target: "Console", listing: Listing, *, header: bool) -> None:
    columns = [column for column in listing.columns if not column.extra]
    rows = list(listing.rows)
    if not rows:
        from rich.text import Text

        if listing.empty:
            target.print(Text(printable(listing.empty), style="dim"), soft_wrap=True)
        return
    cells = [[text(row.get(column.key), column.kind) for column in columns] for row in rows]
    if _least_width(columns, cells) <= target.width:
        target.print(_grid(columns, cells, header=header))
        return
    for index, row in enumerate(rows):
        if index:
            target.print()
        _draw_block(target, columns, row)


def _rigid(column: Column) -> bool:
    return column.kind not in {Kind.TEXT, Kind.DATA}


def _least_width(columns: Sequence[Column], cells: Sequence[Sequence["Text"]]) -> int:
    total = -_GAP
    for index, column in enumerate(columns):
        widest = _widest(column, index, cells)
        total += _GAP + (widest if _rigid(column) else min(widest, _NARROWEST))
    return total


def _widest(column: Column, index: int, cells: Sequence[Sequence["Text"]]) -> int:
    from rich.cells import cell_len

    heading = cell_len(printable(column.heading))
    return max([heading, *(row[index].cell_len for row in cells)])


def _grid(
    columns: Sequence[Column], cells: Sequence[Sequence["Text"]], *, header: bool
) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        header_style="bold dim",
        show_header=header,
    )
    for index, column in enumerate(columns):
        widest = _widest(column, index, cells)
        table.add_column(
            Text(printable(column.heading)),
            justify="right" if column.kind in {Kind.NUMBER, Kind.DURATION} else "left",
            no_wrap=_rigid(column),
            min_width=widest if _rigid(column) else min(widest, _NARROWEST),
            overflow="fold",
        )
    for row in cells:
        table.add_row(*row)
    return table


def hanging(name: "Text", value: "Text", width: int) -> "RenderableType | None":
    """Return a value that wraps between words below itself, with a name to its left.

    None where it fits on one line or has several, or where a word of it does not fit: the terminal
    wraps that at its edge, and what is copied from there is whole.
    """
    from rich.cells import cell_len
    from rich.table import Table

    room = width - name.cell_len
    longest = max(map(cell_len, value.plain.split()), default=0)
    if room < _ROOM or value.cell_len <= room or longest > room or "\n" in value.plain:
        return None
    beside = Table.grid()
    beside.add_column(no_wrap=True)
    beside.add_column()
    beside.add_row(name, value)
    return beside


def _draw_block(target: "Console", columns: Sequence[Column], row: Mapping[str, Any]) -> None:
    from rich.cells import cell_len
    from rich.text import Text

    headings = [printable(column.heading) for column in columns]
    indent = max(map(cell_len, headings), default=0) + _GAP
    for column, heading in zip(columns, headings, strict=True):
        name = Text(heading + " " * (indent - cell_len(heading)), style="dim")
        value = text(row.get(column.key), column.kind)
        wrapped = None if _rigid(column) else hanging(name, value, target.width)
        if wrapped is None:
            target.print(Text().append_text(name).append_text(value), soft_wrap=True)
        else:
            target.print(wrapped)
