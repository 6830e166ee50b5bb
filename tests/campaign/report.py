"""``docs/RELIABILITY.md``: one marked section a campaign, renewed by the run that measured it."""

import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.campaign.model import Tally

PLACE = Path(__file__).parents[2] / "docs" / "RELIABILITY.md"
_PACKAGES = ("spanctl", "google-cloud-spanner", "google-cloud-secret-manager", "grpcio", "prefect")
_HEAD = "| | cases | wrong | duplicate | lost | unresolved |\n|---|---|---|---|---|---|\n"


def versions() -> dict[str, str]:
    """Return what was tried, and with what."""
    known = {name: version(name) for name in _PACKAGES}
    return {**known, "python": platform.python_version()}


def section(  # noqa: PLR0913 - all that a reader needs to judge a figure
    name: str,
    about: str,
    tallies: list[Tally],
    *,
    seed: int,
    command: str,
    spent: float,
    made_with: Mapping[str, str],
    on: datetime | None = None,
) -> str:
    """Write one campaign's section, markers included."""
    rows = "".join(_row(tally) for tally in tallies)
    more = "".join(_more(tally) for tally in tallies)
    with_what = ", ".join(f"{what} {which}" for what, which in made_with.items())
    when = (on or datetime.now(UTC)).strftime("%Y-%m-%d")
    return (
        f"<!-- campaign: {name} -->\n## {name}\n\n{about}\n\n{_HEAD}{rows}{more}\n"
        f"{when}, {_span(spent)}, seed {seed}: `{command}`. With {with_what}.\n"
        f"<!-- end: {name} -->"
    )


def _row(tally: Tally) -> str:
    counts = (tally.cases, tally.wrong, tally.duplicate, tally.lost, tally.unresolved)
    return f"| {tally.side} | {' | '.join(f'{count:,}' for count in counts)} |\n"


def _more(tally: Tally) -> str:
    parts = [f"{count:,} {name}" for name, count in sorted(tally.counted.items())]
    parts += [
        f"{name}: median {_span(tally.median(name))}, longest {_span(max(taken))}"
        for name, taken in sorted(tally.timed.items())
    ]
    return f"\n{tally.side}: {'; '.join(parts)}.\n" if parts else ""


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def renew(text: str, name: str, written: str) -> str:
    """Return the document with one section replaced, or added at its end."""
    marked = re.compile(
        rf"<!-- campaign: {re.escape(name)} -->.*?<!-- end: {re.escape(name)} -->", re.DOTALL
    )
    if marked.search(text):
        return marked.sub(lambda _: written, text)
    return f"{text.rstrip()}\n\n{written}\n"
