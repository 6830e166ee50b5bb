"""Who a credential is: what Google's tokeninfo proves, and what is only claimed."""

from dataclasses import dataclass
from datetime import UTC, datetime

from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.hardening import without_locals
from spanctl.credentials.http import Http, call
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.secret import Secret
from spanctl.errors import ConfigurationError, NotPermittedError
from spanctl.ledger.receipt import Standing

__all__ = ["Principal", "Standing", "TokenInfo", "claimed", "identify", "token_info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who acts.

    Attributes:
        name: E-mail, or unique id where the token doesn't allow to know the e-mail.
        standing: Whether the issuer of the token said so, or only a document.
        chain: Who stands behind, from the first who asked to the last delegate.
        chain_standing: The same for the chain: proven where each link was exchanged by this
            process at IAM, from a first token that the issuer told.
        scopes: What the token is for, as the issuer told it.
        expiry: When the token stops working.
        is_kept: Whether the credentials at the base lie in a secret, where many may read them.
    """

    name: str
    standing: Standing
    chain: tuple[str, ...] = ()
    chain_standing: Standing = Standing.CLAIMED
    scopes: frozenset[str] = frozenset()
    expiry: datetime | None = None
    is_kept: bool = False

    def __str__(self) -> str:
        """Return the name, and who stands behind it."""
        return " via ".join((self.name, *reversed(self.chain)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """What the issuer says of an access token.

    Attributes:
        email: Whose it is; None when its scopes don't allow to know.
        subject: Unique id of that principal, or of the client it was issued to.
        scopes: What it is for.
        expiry: When it stops working.
    """

    email: str | None
    subject: str | None
    scopes: frozenset[str]
    expiry: datetime


@without_locals()
def token_info(http: Http, endpoints: Endpoints, token: Secret) -> TokenInfo:
    """Ask the issuer about a token; it travels in the body, where no server logs it.

    Raises:
        NotPermittedError: The token is not live.
        UnreachableError: The issuer did not answer.
    """
    form = {"access_token": token.reveal_text()}
    url = f"{endpoints.oauth2}/tokeninfo"
    try:
        told = call(http, "POST", url, "asking whose a token is", form=form)
    except ConfigurationError as error:
        # To a token that is not live the endpoint answers 400, as to a bad request.
        msg = "the access token is not live"
        raise NotPermittedError(msg, hint="run: spanctl creds rotate") from error
    try:
        expiry = datetime.fromtimestamp(int(told["exp"]), UTC)
    except (KeyError, ValueError, TypeError, OverflowError):
        expiry = None
    if expiry is None:
        msg = "the issuer's answer about the access token can't be read"
        raise NotPermittedError(msg, hint="check the endpoints: spanctl context show")
    verified = str(told.get("email_verified", "")).lower() == "true"
    email = str(told["email"]) if told.get("email") and verified else None
    subject = told.get("sub") or told.get("azp")
    return TokenInfo(
        email=email,
        subject=str(subject) if subject else None,
        scopes=frozenset(str(told.get("scope", "")).split()),
        expiry=expiry,
    )


def identify(http: Http, endpoints: Endpoints, token: AccessToken) -> Principal:
    """Say whose a token is, and who stands behind it.

    Raises:
        NotPermittedError: The token is not live.
        UnreachableError: The issuer did not answer.
    """
    told = token_info(http, endpoints, token.token)
    proven = told.email or told.subject
    name = told.email or token.principal or told.subject or "unknown"
    chain, standing = _chain(http, endpoints, token)
    return Principal(
        name=name,
        standing=Standing.PROVEN if proven == name else Standing.CLAIMED,
        chain=chain,
        chain_standing=standing,
        scopes=told.scopes,
        expiry=told.expiry,
        is_kept=_is_kept(token),
    )


def _is_kept(token: AccessToken) -> bool:
    return token.version is not None or (token.base is not None and _is_kept(token.base))


def _chain(
    http: Http, endpoints: Endpoints, token: AccessToken
) -> tuple[tuple[str, ...], Standing]:
    if token.base is None:
        # A document may say what it likes of who minted it.
        claimed = (token.minted_by, *token.delegates) if token.minted_by else token.delegates
        return tuple(one for one in claimed if one), Standing.CLAIMED
    base = identify(http, endpoints, token.base)
    whole = base.chain_standing is Standing.PROVEN or not base.chain
    proven = base.standing is Standing.PROVEN and whole
    chain = (*base.chain, base.name, *token.delegates)
    return chain, Standing.PROVEN if proven else Standing.CLAIMED


def claimed(token: AccessToken) -> Principal:
    """Say whose a token says it is, without asking anybody."""
    chain: list[str] = []
    link: AccessToken | None = token
    while link is not None:
        chain = [*link.delegates, *chain]
        if link.base is None and link.minted_by:
            chain = [link.minted_by, *chain]
        link = link.base
        if link is not None and link.principal:
            chain = [link.principal, *chain]
    return Principal(
        name=token.principal or "unknown",
        standing=Standing.CLAIMED,
        chain=tuple(chain),
        expiry=token.expiry,
        is_kept=_is_kept(token),
    )
