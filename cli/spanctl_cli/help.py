"""Help pages: Typer's plain ones, grouped, with headings that stand out on a terminal.

Rich's help pages look alike but cost more than the rest of the start-up together.
"""

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

_WHOLE = 1000
"""Room for any first sentence: it is wrapped, not cut."""


class Panel(StrEnum):
    """The groups in which ``spanctl --help`` lists the commands."""

    RUN = "Run"
    LOOK = "Look back"
    SET_UP = "Set up"


def heading(text: str) -> str:
    """Return a heading, bold where stdout is a terminal that shows it."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\x1b[1m{text}\x1b[0m"


class Group(TyperGroup):
    """A group of commands whose bare name shows its help, and whose help is in panels."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's vendored type
        """Parse, reading no arguments at all as ``--help``."""
        if not args and not ctx.resilient_parsing and not self.invoke_without_command:
            args = ["--help"]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's vendored types
        """Write the commands, panel by panel, in the order of :class:`Panel`."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in Panel}
        for name in self.list_commands(ctx):
            command = self.commands[name]
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                panels.setdefault(panel, []).append((name, command.get_short_help_str(_WHOLE)))
        widest = max((len(name) for rows in panels.values() for name, _ in rows), default=0)
        for panel, rows in panels.items():
            if rows:
                with formatter.section(heading(panel)):
                    formatter.write_dl(_padded(rows, widest))


def _padded(rows: "Iterable[tuple[str, str]]", width: int) -> list[tuple[str, str]]:
    return [(name.ljust(width), text) for name, text in rows]
