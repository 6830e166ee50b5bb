"""The lines of a page that say who asked, who wrote, and how sure that is."""

from collections.abc import Iterator

from rich.text import Text

from spanctl.audit.model import Trail
from spanctl.ledger.receipt import Standing
from spanctl_cli.views import pieces

_STYLES = {Standing.PROVEN: "green", Standing.CLAIMED: "yellow dim"}


def actors(trail: Trail) -> Iterator[tuple[str, Text]]:
    """Yield who asked and who wrote, each with its standing, and what else was said of them."""
    if trail.receipt is None or trail.identity is None:
        return
    origin = trail.receipt.provenance
    asked, wrote = trail.identity.initiator, trail.identity.executor
    yield "asked by", sure(origin.initiator, asked)
    yield "signed by", sure(", ".join(origin.initiator_chain), asked)
    if origin.initiator_chain:
        yield "asked at", sure(origin.initiator_claim, Standing.CLAIMED)
    yield "written by", sure(origin.executor, wrote)
    chain = " via ".join(origin.executor_chain)
    yield "acting for", sure(chain, origin.executor_chain_standing)
    if origin.executor_claim != origin.executor:
        yield "process", sure(origin.executor_claim, Standing.CLAIMED)


def sure(name: str | None, standing: Standing) -> Text:
    """Return a name and how sure it is: what is only claimed looks another way."""
    found = pieces.plain(name)
    return found.append(f"  {standing.value}", style=_STYLES[standing]) if found else found
