"""The lines of a page that say who asked, who wrote, and how sure that is."""

from collections.abc import Iterator

from rich.text import Text

from spanctl.audit.model import Trail
from spanctl.ledger.receipt import Standing
from spanctl.printable import printable
from spanctl_cli.views import pieces
from spanctl_cli.views.standing import words

_STYLES = {Standing.PROVEN: "green", Standing.CLAIMED: "yellow dim"}
_HOLDS = {Standing.PROVEN, Standing.VOUCHED}


def actors(trail: Trail) -> Iterator[tuple[str, Text]]:
    """Yield who asked and who wrote, each with its standing, and what else was said of them."""
    if trail.receipt is None or trail.identity is None:
        return
    origin = trail.receipt.provenance
    asked, wrote = trail.identity.initiator, trail.identity.executor
    yield "asked by", sure(origin.initiator, words(asked, origin.initiator_chain))
    signed = Standing.PROVEN if asked in _HOLDS else asked
    yield "signed by", sure(", ".join(origin.initiator_chain), signed)
    if origin.initiator_chain:
        yield "asked at", sure(origin.initiator_claim, Standing.CLAIMED)
    yield "written by", sure(origin.executor, wrote)
    chain = " via ".join(origin.executor_chain)
    yield "acting for", sure(chain, origin.executor_chain_standing)
    if origin.executor_claim != origin.executor:
        yield "process", sure(origin.executor_claim, Standing.CLAIMED)


def sure(name: str | None, standing: str) -> Text:
    """Return a name and how sure it is, in words: what is only claimed looks another way."""
    found = pieces.plain(name)
    style = next((_STYLES[one] for one in _STYLES if one.value == standing), "")
    return found.append(f"  {printable(standing)}", style=style) if found else found
