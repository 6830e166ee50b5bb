"""Options that several commands share, ready to annotate a parameter with."""

from typing import Annotated

import typer

from spanctl.clock import parse_duration
from spanctl.errors import UsageError
from spanctl_cli.help import Panel as Panel  # noqa: PLC0414 - offered beside the options
from spanctl_cli.output import Format


def seconds(text: str) -> float:
    """Read a length of time: ``30``, ``1.5s``, ``500ms``, ``5m``, ``2h``, ``1d``.

    Raises:
        typer.BadParameter: The text is none, or not above zero.
    """
    try:
        return parse_duration(text)
    except UsageError as error:
        msg = f"{error.message}; {error.hint}"
        raise typer.BadParameter(msg) from None


OutputOption = Annotated[
    Format | None,
    typer.Option("--output", "-o", help="Format of the result.", show_default="table"),
]
FieldsOption = Annotated[
    str | None,
    typer.Option("--fields", metavar="A,B", help="Show these fields only, in this order."),
]
NoHeaderOption = Annotated[
    bool, typer.Option("--no-header", help="Leave out the header line of table, wide and csv.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Agree beforehand; don't ask.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", parser=seconds, metavar="DURATION", help="Give up after 30s, 5m, 2h ..."
    ),
]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in every receipt of the run.")
]
IdempotencyKeyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        help="The same key never does the work twice in this database.",
    ),
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="AGE|TIME", help="An age such as 24h or 7d, or RFC 3339."),
]
