"""``spanctl doctor``: every part that spanctl stands on, how it is, and what mends it."""

from typing import TYPE_CHECKING

import typer

from spanctl_cli import exit_codes
from spanctl_cli.context import AppContext
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.options import FieldsOption, OutputOption, Panel, TimeoutOption
from spanctl_cli.output import Column, Kind, Listing, emit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from spanctl.health.model import Finding

_COLUMNS = (
    Column("part", kind=Kind.ID),
    Column("status", kind=Kind.STATE),
    Column("evidence"),
    Column("mend"),
    Column("code", extra=True),
    Column("exit_code", kind=Kind.NUMBER, extra=True),
    Column("seconds", kind=Kind.DURATION, extra=True),
    Column("facts", kind=Kind.DATA, extra=True),
)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("doctor", rich_help_panel=Panel.SET_UP)(doctor)


def doctor(
    ctx: typer.Context,
    *,
    timeout: TimeoutOption = None,
    output: OutputOption = None,
    fields: FieldsOption = None,
) -> None:
    """Look at every part, side by side: how it is, how that shows, and what mends it.

    Exits 0 when nothing failed, warnings included, and else with the worst code of the failures:
    2 for settings, 3 unreachable, 4 credentials, 5 missing, 6 schema, 9 limbo. --timeout is for
    each part. Nothing is changed, but that a saved search is made in Prefect, to see that it can
    write, and removed again.

    Example: spanctl doctor

    Example: spanctl doctor -o json
    """
    from spanctl.health.examining import DEADLINE, examine
    from spanctl.health.parts import PARTS, checks
    from spanctl.health.surroundings import Surroundings

    app = AppContext.of(ctx)
    limit = timeout or DEADLINE
    around = Surroundings(app.settings, timeout=limit * 0.8)
    with app.status("looking at every part"):
        found = list(examine(checks(around), deadline=limit))
        around.close()
    found.sort(key=lambda finding: list(PARTS).index(finding.part))
    worst = max(_exit_code(finding) for finding in found)

    def view() -> "Iterable[RenderableType]":
        from spanctl_cli.views.doctor import page

        return page(found)

    facts = {"ok": worst == ExitCode.DONE, "worst": worst, "counts": _counts(found)}
    rows = [_row(finding) for finding in found]
    emit(Listing("doctor", _COLUMNS, rows, facts=facts, view=view), output, fields=fields)
    if worst:
        raise typer.Exit(worst)


def _exit_code(finding: "Finding") -> int:
    error = finding.answer.error
    return int(exit_codes.of(error)) if error else int(ExitCode.DONE)


def _counts(found: "Sequence[Finding]") -> dict[str, int]:
    from spanctl.health.model import Status

    statuses = [finding.answer.status for finding in found]
    return {status.value: statuses.count(status) for status in Status}


def _row(finding: "Finding") -> dict[str, object]:
    answer = finding.answer
    return {
        "part": finding.part,
        "status": answer.status,
        "evidence": answer.evidence,
        "mend": answer.mend or None,
        "code": answer.error.code if answer.error else None,
        "exit_code": _exit_code(finding),
        "seconds": round(finding.seconds, 3),
        "facts": dict(answer.facts),
    }
