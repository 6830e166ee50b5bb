"""google-auth credentials that stay alive: they look for a new token by themselves."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, Self

from google.oauth2.credentials import Credentials

from spanctl.clock import monotonic, now
from spanctl.credentials.hardening import without_locals
from spanctl.credentials.http import Http
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.secret import Kept, Secret
from spanctl.errors import ConfigurationError, NotPermittedError, UnreachableError
from spanctl.variables import UNIVERSE

_MARGIN: Final = timedelta(seconds=5)
_RECHECK: Final = 10.0


class TokenSource(Protocol):
    """Where a token comes from."""

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Return a live token; never the one that a server rejected, when one is given.

        Raises:
            SpanctlError: There is none.
        """
        ...


class LiveCredentials(Kept, Credentials):
    """Credentials whose token is fetched again before it expires; thread-safe.

    Google's clients call :meth:`refresh` by themselves before each request that needs it. Who sees
    UNAUTHENTICATED calls :meth:`renew` with the token that was used, and sends once more.
    """

    def __init__(self, source: TokenSource, http: Http, universe: str = UNIVERSE) -> None:
        """Remember the source; nothing is fetched yet.

        Args:
            source: Where tokens come from.
            http: What they are fetched through.
            universe: Domain of the cloud that they have to belong to.
        """
        super().__init__(token=None, universe_domain=universe)  # type: ignore[no-untyped-call]
        self._source = source
        self._http = http
        self._guard = threading.RLock()  # who unwinds may come by again
        self._looked = 0.0
        self._live: AccessToken | None = None

    @property
    def live(self) -> AccessToken | None:
        """The token in use and what is known of it; None before the first one."""
        return self._live

    def ensure(self) -> Secret:
        """Return a live token, fetched if need be.

        Raises:
            SpanctlError: There is none; the reason is told.
        """
        if self._live is None or not self.valid:
            self.refresh(None)
        if self._live is None:
            msg = "no token was fetched"
            raise NotPermittedError(msg)
        return self._live.token

    def refresh(self, request: object) -> None:
        """Look for a new token, at most every ten seconds while the old one lives.

        Args:
            request: Google's transport, which is left alone: it doesn't know the endpoints' CA.

        Raises:
            SpanctlError: There is no live token.
        """
        del request
        with self._guard, without_locals():
            alive = self._live is not None and now() < self._live.expiry - _MARGIN
            if alive and (self.valid or monotonic() - self._looked < _RECHECK):
                return
            try:
                self._take(self._source.fetch(self._http, None))
            except UnreachableError:
                # What still lives is better than nothing: the next look comes soon.
                if not alive:
                    raise
                self._looked = monotonic()

    def renew(self, rejected: Secret) -> None:
        """Replace a token that a server did not accept, unless another thread did it already.

        Raises:
            NotPermittedError: There is no other token.
            SpanctlError: The source failed.
        """
        with self._guard, without_locals():
            if self._live is not None and self._live.token != rejected:
                return
            fetched = self._source.fetch(self._http, rejected)
            if fetched.token == rejected:
                msg = "the credentials were refused, and there are no newer ones"
                raise NotPermittedError(msg, hint="run: spanctl creds check")
            self._take(fetched)

    def _take(self, fetched: AccessToken) -> None:
        if fetched.expiry <= now():
            msg = f"the token expired at {fetched.expiry:%Y-%m-%dT%H:%M:%SZ}"
            raise NotPermittedError(msg, hint="run: spanctl creds rotate")
        if fetched.universe != self.universe_domain:
            msg = f"the credentials are {fetched.universe}'s, and not {self.universe_domain}'s"
            hint = f"run: spanctl context set universe_domain={fetched.universe}"
            raise ConfigurationError(msg, hint=hint)
        self._quota_project_id = fetched.quota_project
        self._live = fetched
        self._looked = monotonic()
        # google-auth compares naive times in UTC.
        self.expiry: datetime = fetched.expiry.astimezone(UTC).replace(tzinfo=None)
        self.token: str = fetched.token.reveal_text()

    def _make_copy(self) -> Self:
        return self

    def __copy__(self) -> Self:
        """Return the same credentials: copies would each fetch their own token."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the same credentials."""
        return self
