"""The page of ``spanctl doctor``: a line for each part, what mends it below, a sum at the end."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spanctl.health.model import Finding, Status
from spanctl.printable import printable
from spanctl_cli.output.rendering import terminal_width
from spanctl_cli.views import pieces

_ROOMY = 100
_MARKS = {
    Status.OK: ("✓", "green"),
    Status.WARN: ("!", "yellow"),
    Status.FAIL: ("✗", "bold red"),
    Status.SKIPPED: ("·", "dim"),
    Status.UNSUPPORTED: ("·", "dim"),
    Status.UNKNOWN: ("?", "yellow"),
}
_QUIET = {Status.SKIPPED, Status.UNSUPPORTED}
_WORDS = {
    Status.OK: "ok",
    Status.WARN: "to look at",
    Status.FAIL: "failed",
    Status.SKIPPED: "skipped",
    Status.UNSUPPORTED: "unsupported",
    Status.UNKNOWN: "unknown",
}


def page(found: Sequence[Finding]) -> Iterator[RenderableType]:
    """Yield the page.

    Args:
        found: What is known of each part, in the order in which they are shown.
    """
    if terminal_width() < _ROOMY:
        for finding in found:
            yield from _stacked(finding)
    else:
        yield _table(found)
    yield Text()
    yield _sum(found)
    if first := next((one for one in found if one.answer.status is Status.FAIL), None):
        yield pieces.whole(Text("start with ").append(first.part, style="bold"))


def _table(found: Sequence[Finding]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in found:
        status = finding.answer.status
        mark, style = _MARKS[status]
        told = _evidence(finding)
        if finding.answer.mend:
            told = told.append("\n").append_text(_mend(finding))
        table.add_row(
            Text(mark, style=style), Text(finding.part), Text(status.value, style=style), told
        )
    return table


def _stacked(finding: Finding) -> Iterator[RenderableType]:
    status = finding.answer.status
    mark, style = _MARKS[status]
    line = Text(f"{mark} ", style=style).append(finding.part, style="default not dim")
    yield line.append(f"  {status.value}", style=style)
    yield Padding(pieces.whole(_evidence(finding)), (0, 0, 0, 2), expand=False)
    if finding.answer.mend:
        yield Padding(pieces.whole(_mend(finding)), (0, 0, 0, 2), expand=False)


def _evidence(finding: Finding) -> Text:
    quiet = finding.answer.status in _QUIET
    return Text(printable(finding.answer.evidence), style="dim" if quiet else "")


def _mend(finding: Finding) -> Text:
    return Text("→ ", style="dim").append(printable(finding.answer.mend), style="cyan")


def _sum(found: Sequence[Finding]) -> Text:
    line = Text()
    for status in Status:
        if count := sum(one.answer.status is status for one in found):
            line.append(", " if line else "").append(
                f"{count} {_WORDS[status]}", style=_MARKS[status][1]
            )
    return pieces.whole(line)
