"""Help pages: Typer's plain ones, grouped, with headings that stand out on a terminal.

Rich's help pages look alike but cost more than the rest of the start-up together.
"""

import os
import re
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from spanctl_cli.coercion import PlainValues

if TYPE_CHECKING:
    from collections.abc import Iterable

_REQUIRED = re.compile(r"\{(.+)\}")
_OPTIONAL_TWICE = re.compile(r"\[\[(.+)\]\]")
_WHOLE = 1000
"""Room for any first sentence: it is wrapped, not cut."""


class Panel(StrEnum):
    """The groups in which ``spanctl --help`` lists the commands."""

    RUN = "Run"
    LOOK = "Look back"
    SET_UP = "Set up"
    HELP = "Help"


def heading(text: str) -> str:
    """Return a heading, bold where stdout is a terminal that shows it."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return text if plain or not sys.stdout.isatty() else f"\x1b[1m{text}\x1b[0m"


class _Placed:
    """A mix-in for commands and groups: what can't be parsed is told with whose help to read."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's vendored type
        """Parse; an option that lacks its value is told by Typer without its command."""
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]  # of the class mixed with
        except TyperException as error:
            if getattr(error, "ctx", None) is None:
                vars(error)["ctx"] = ctx
            raise
        return rest


class Command(_Placed, PlainValues, TyperCommand):
    """A command whose examples stay as they are written, to be copied."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Typer's own
        """Keep the help text, its examples marked."""
        super().__init__(*args, **kwargs)
        self.help = with_examples(self.help)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer's vendored type
        """Write arguments as ``FILE`` and ``[FILE]``, not as ``{FILE}`` and ``[[FILE]]``."""
        pieces = super().collect_usage_pieces(ctx)
        return [_OPTIONAL_TWICE.sub(r"[\1]", _REQUIRED.sub(r"\1", piece)) for piece in pieces]


def with_examples(text: str | None) -> str | None:
    """Mark the paragraphs that begin with ``Example``, so that they are not wrapped."""
    if text is None:
        return None
    return "\n\n".join(
        f"\b\n{part}" if part.startswith("Example") else part for part in text.split("\n\n")
    )


class Group(_Placed, PlainValues, TyperGroup):
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
