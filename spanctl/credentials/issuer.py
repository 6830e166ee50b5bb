"""Whose the tokens of credentials are: asked once for each token, whoever needs to know."""

import threading
from typing import Final

from spanctl.clock import monotonic
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.identity import Principal, Standing, claimed, identify
from spanctl.credentials.live import LiveCredentials
from spanctl.errors import NotPermittedError, SpanctlError

_AGAIN: Final = 30.0
"""Seconds after which an issuer that did not answer is asked again."""


class Issuer:
    """Says who credentials are; thread-safe, without a request while the token stays the same."""

    def __init__(self, credentials: LiveCredentials, endpoints: Endpoints) -> None:
        """Ask nothing yet."""
        self._credentials = credentials
        self._endpoints = endpoints
        self._http = Http(endpoints)
        self._lock = threading.Lock()
        self._known: tuple[AccessToken, Principal, float | None] | None = None

    def token(self) -> AccessToken:
        """Return the live token.

        Raises:
            SpanctlError: There is none; the reason is told.
        """
        self._credentials.ensure()
        if (live := self._credentials.live) is None:
            msg = "no token was fetched"
            raise NotPermittedError(msg)
        return live

    def principal(self) -> Principal:
        """Say whose the live token is: proven by its issuer, or claimed while that doesn't answer.

        Raises:
            SpanctlError: There is no live token; the reason is told.
        """
        token = self.token()
        if (found := self._cached(token)) is not None:
            return found
        with self._lock:  # threads that begin together ask once
            return self._cached(token) or self._ask(token)

    def _cached(self, token: AccessToken) -> Principal | None:
        if (known := self._known) is None or known[0] is not token:
            return None
        _, principal, until = known
        return principal if until is None or monotonic() < until else None

    def _ask(self, token: AccessToken) -> Principal:
        try:
            principal, until = identify(self._http, self._endpoints, token), None
        except SpanctlError:
            # Writing goes on: what nobody confirmed is called claimed, which is the truth.
            principal, until = claimed(token), monotonic() + _AGAIN
        self._known = (token, principal, until)
        return principal


def asker(principal: Principal) -> tuple[str | None, Standing]:
    """Return who stands at the base of a chain, and how sure that is; None where that says nothing.

    A chain that nobody proved is passed over: then it is the principal itself that asks, as far
    as anybody can tell. Credentials in a secret are those of all who may read it: whose they are
    doesn't say who asks.
    """
    if principal.is_kept:
        return None, Standing.CLAIMED
    if principal.chain and principal.chain_standing is Standing.PROVEN:
        return principal.chain[0], Standing.PROVEN
    return principal.name, principal.standing
