"""What the commands about flow runs take: which runs, and why."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spanctl.orchestration.browsing import RunFilter

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A flow run's id, or its name if only one has it.")
]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Flow runs, by their ids or names.")
]
WhyOption = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the state's message.")
]


def states() -> list[str]:
    """Return what completes a state."""
    from spanctl.orchestration.browsing import state_words

    return state_words()


StateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        "-s",
        metavar="STATE",
        help="In this state, or active, ended. Repeatable.",
        autocompletion=states,
    ),
]
FlowOption = Annotated[str | None, typer.Option("--flow", metavar="NAME", help="Of this flow.")]
DeploymentOption = Annotated[
    str | None, typer.Option("--deployment", "-d", metavar="NAME", help="Of this deployment.")
]
TagOption = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="With this tag. Repeatable.")
]


def run_filter(  # noqa: PLR0913, PLR0917 - the options
    state: Sequence[str] | None,
    flow: str | None,
    deployment: str | None,
    tag: Sequence[str] | None,
    since: str | None,
    until: str | None,
    mine: bool,
) -> "RunFilter":
    """Return the filter that options describe.

    Raises:
        UsageError: A time is none.
    """
    from spanctl import clock
    from spanctl.invocation import user_at_host
    from spanctl.orchestration.browsing import RunFilter

    return RunFilter(
        states=tuple(state or ()),
        flow=flow,
        deployment=deployment,
        tags=tuple(tag or ()),
        since=clock.parse_since(since) if since else None,
        until=clock.parse_since(until) if until else None,
        initiator=user_at_host() if mine else None,
    )
