"""Questions to the person, asked on stderr, and never of a script."""

import sys

from spanctl.errors import SpanctlError, UsageError
from spanctl_cli import talk
from spanctl_cli.context import AppContext
from spanctl_cli.output.values import safe


class DeclinedError(SpanctlError):
    """The person answered no; nothing was done (exit 1)."""

    code = "declined"


def can_ask(app: AppContext) -> bool:
    """Whether there is a person to ask: stdin and stderr are terminals, and no ``--no-input``."""
    return not app.no_input and sys.stdin.isatty() and talk.stderr_is_terminal()


def confirm(app: AppContext, question: str, *, yes: bool, hint: str = "pass --yes") -> None:
    """Return when the person agrees.

    Args:
        app: The invocation.
        question: Ends with a question mark.
        yes: The value of ``--yes``: agreed beforehand.
        hint: How a script agrees.

    Raises:
        UsageError: Nobody can be asked.
        DeclinedError: The answer was not yes.
    """
    if yes:
        return
    if not can_ask(app):
        msg = f"this needs a yes: {question}"
        raise UsageError(msg, hint=hint)
    talk.write(f"{safe(question)} [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        msg = "not confirmed, nothing was done"
        raise DeclinedError(msg)
