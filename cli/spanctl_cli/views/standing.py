"""How sure a name is, in the words that lists, trails, JSON and pages share."""

from collections.abc import Iterable

from spanctl.ledger.receipt import Standing

_SURENESS = (Standing.CLAIMED, Standing.VOUCHED, Standing.PROVEN)


def words(standing: Standing, signers: Iterable[str]) -> str:
    """Return ``proven``, ``vouched for by ACCOUNT`` or ``claimed``.

    Args:
        standing: How sure it is.
        signers: The accounts that signed who asked; none where nobody did.
    """
    if standing is Standing.VOUCHED:
        return f"vouched for by {', '.join(dict.fromkeys(signers))}"
    return standing.value


def least(standings: Iterable[Standing]) -> Standing | None:
    """Return the least sure of several; None of none."""
    return min(standings, key=_SURENESS.index, default=None)
