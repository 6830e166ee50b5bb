"""What a command gets from its surroundings, each part built when it is first asked for."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Self

import typer

from spanctl_cli import talk

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from spanctl.settings import Settings


@dataclass(frozen=True, slots=True)
class AppContext:
    """One invocation of spanctl: its global options, and builders of what commands share.

    Commands take ``ctx: typer.Context`` and start with ``app = AppContext.of(ctx)``.

    Attributes:
        settings: Resolves every setting, once (``ConfigurationError`` or ``NotFoundError``).
        console: A Rich console on stderr for progress and live views.
        context_name: The value of ``--context``.
        quiet: Say nothing on stderr but errors.
        verbose: Show what only a maintainer wants to see.
        no_input: Never ask.
        as_json: Machines read the output, so stderr is for one JSON object, and only on failure.
    """

    settings: "Callable[[], Settings]"
    console: "Callable[[], Console]"
    context_name: str | None = None
    quiet: bool = False
    verbose: bool = False
    no_input: bool = False
    as_json: bool = False

    @classmethod
    def build(
        cls,
        *,
        context: str | None,
        quiet: bool,
        verbose: bool,
        no_input: bool,
        as_json: bool = False,
    ) -> "AppContext":
        """Return the surroundings of one invocation; nothing is read or imported yet."""

        @cache
        def settings() -> "Settings":
            from spanctl.settings import resolve

            found = resolve(context=context)
            if found.unknown and not quiet and not as_json:
                talk.say(_unknown(found), label="warning")
            return found

        return cls(settings, cache(talk.console), context, quiet, verbose, no_input, as_json)

    @classmethod
    def of(cls, ctx: typer.Context) -> Self:
        """Return the surroundings of the command that runs."""
        found = ctx.find_object(cls)
        if found is None:
            msg = "the command runs outside spanctl_cli.main"
            raise RuntimeError(msg)
        return found

    def note(self, text: str) -> None:
        """Say something on stderr, unless quiet."""
        if not self.quiet:
            talk.say(text)

    def warn(self, text: str) -> None:
        """Warn on stderr, unless quiet."""
        if not self.quiet:
            talk.say(text, label="warning")

    def status(self, text: str) -> AbstractContextManager[None]:
        """Show a person on a terminal what goes on while the block runs, unless quiet."""
        return talk.status(text, quiet=self.quiet or self.as_json)


def _unknown(settings: "Settings") -> str:
    names = ", ".join(settings.unknown)
    return f"context {settings.context} has settings that spanctl doesn't know: {names}"
