"""Credentials that are tried: whose they are, and what is told of them."""

from typing import TYPE_CHECKING, Any

from spanctl.errors import NotPermittedError
from spanctl_cli.creds import facts
from spanctl_cli.creds.access import Access
from spanctl_cli.output import Column, Kind

if TYPE_CHECKING:
    from spanctl.credentials.identity import Principal
    from spanctl.credentials.live import LiveCredentials

WHO = (
    Column("principal", kind=Kind.ID),
    Column("standing", kind=Kind.STATE),
    Column("chain", title="asked through"),
    Column("chain_standing", title="chain", kind=Kind.STATE),
    Column("expires", kind=Kind.TIME),
    Column("seconds_left", title="time left", kind=Kind.DURATION),
    Column("scopes", extra=True),
    Column("reference", title="resolved from"),
)
CHECK = (
    *WHO,
    Column("database"),
    Column("reads", kind=Kind.FLAG),
    Column("writes", kind=Kind.FLAG),
    Column("enough", title="enough would be"),
    Column("excess", title="needless"),
)


def identified(reached: Access, text: str) -> "tuple[LiveCredentials, Principal]":
    """Resolve a reference and ask the issuer whose token came out.

    Raises:
        NotPermittedError: There is no token.
        SpanctlError: The reference can't be resolved.
    """
    from spanctl.credentials.http import Http
    from spanctl.credentials.identity import identify
    from spanctl.credentials.resolve import resolve

    live = resolve(reached.reference(text), reached.endpoints)
    live.ensure()
    token = live.live
    if token is None:
        msg = "there is no token"
        raise NotPermittedError(msg, hint="run: spanctl local up")
    return live, identify(Http(reached.endpoints), reached.endpoints, token)


def key_warning(reached: Access, text: str) -> str:
    """Return what to say when a reference leads to a key; empty when it doesn't."""
    from spanctl.credentials.reference import SecretReference

    reference = reached.reference(text)
    if not isinstance(reference, SecretReference):
        return ""
    from spanctl.credentials.rotation.status import read_status

    try:
        return facts.hint(read_status(reached.store, reference.name))
    except NotPermittedError:
        return ""  # who may only access the payload can't look at the secret


def told(reached: Access, text: str, who: "Principal") -> dict[str, Any]:
    """Return the values of ``WHO`` for what a reference resolved to."""
    return {
        "principal": who.name,
        "standing": who.standing,
        "chain": list(who.chain),
        "chain_standing": who.chain_standing if who.chain else None,
        "expires": who.expiry,
        "seconds_left": facts.left(who.expiry),
        "scopes": sorted(who.scopes),
        "reference": str(reached.reference(text)),
    }
