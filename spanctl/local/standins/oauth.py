"""Google's OAuth endpoints: assertions and refresh tokens become access tokens; tokens are told."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NoReturn

from spanctl.local.standins import jwt
from spanctl.local.standins.accounts import Accounts
from spanctl.local.standins.scopes import unknown_scopes
from spanctl.local.standins.store import Store
from spanctl.local.standins.tokens import CLOUD_PLATFORM, EMAIL_SCOPE, Tokens, lifetime_of

GOOGLE_TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
"""What google-auth puts into an assertion's audience, wherever it sends it."""

_ASSERTION: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME: Final = timedelta(hours=1)
_USER_SCOPES: Final = frozenset({"openid", EMAIL_SCOPE, CLOUD_PLATFORM})


class GrantError(Exception):
    """What OAuth answers, with status 400, to a request that it doesn't grant.

    Attributes:
        error: The code, as in RFC 6749.
        description: What is wrong.
    """

    def __init__(self, error: str, description: str) -> None:
        """Keep both parts."""
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description


class OAuth:
    """The token endpoint, ``tokeninfo``, and the public keys of service accounts."""

    def __init__(self, store: Store, accounts: Accounts, tokens: Tokens) -> None:
        """Work on these."""
        self._store = store
        self._accounts = accounts
        self._tokens = tokens

    def token(self, form: Mapping[str, str], url: str) -> dict[str, Any]:
        """Answer the token endpoint.

        Args:
            form: The fields of the request.
            url: Where the endpoint is: one of the two audiences that an assertion may have.

        Raises:
            GrantError: The assertion or the refresh token is not good, or of no known type.
        """
        kind = form.get("grant_type")
        if kind == _ASSERTION:
            return self._from_assertion(form.get("assertion", ""), url)
        if kind != "refresh_token":
            _refuse("Invalid grant_type", "unsupported_grant_type")
        return self._from_refresh_token(form)

    def _from_assertion(self, assertion: str, url: str) -> dict[str, Any]:
        parsed = jwt.parse(assertion)
        if parsed is None:
            _refuse("Invalid JWT: it can't be read.")
        claims, issuer = parsed.claims, str(parsed.claims.get("iss"))
        key = self._tokens.live_key(issuer, parsed.key_id)
        if key is None or not jwt.is_signed_by(parsed, key["certificate"]):
            _refuse("Invalid JWT Signature.")
        if claims.get("aud") not in {GOOGLE_TOKEN_URL, url}:
            _refuse("Invalid JWT: aud is not the token endpoint.")
        if lifetime_of(claims, self._store.now()) is None:
            text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable"
            _refuse(f"{text} timeframe. Check your iat and exp values in the JWT claim.")
        if claims.get("sub", issuer) != issuer or "target_audience" in claims:
            text = "Client is unauthorized to retrieve access tokens using this method."
            _refuse(text, "unauthorized_client")
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes or unknown_scopes(scopes):
            _refuse("Invalid OAuth scope or ID token audience provided.", "invalid_scope")
        return self._granted(issuer, scopes)

    def _from_refresh_token(self, form: Mapping[str, str]) -> dict[str, Any]:
        names = ("client_id", "client_secret", "refresh_token")
        email = self._accounts.user_of(*(form.get(name, "") for name in names))
        if email is None:
            _refuse("Token has been expired or revoked.")
        asked = frozenset(form.get("scope", "").split()) or _USER_SCOPES
        if not asked <= _USER_SCOPES:
            _refuse("Some requested scopes were not granted at the log-in.", "invalid_scope")
        return self._granted(email, asked)

    def _granted(self, email: str, scopes: frozenset[str]) -> dict[str, Any]:
        token, _ = self._tokens.mint(email, scopes, _LIFETIME)
        seconds = int(_LIFETIME.total_seconds()) - 1  # Google's says 3599
        return {
            "access_token": token,
            "expires_in": seconds,
            "scope": " ".join(sorted(scopes)),
            "token_type": "Bearer",
        }

    def tokeninfo(self, token: str) -> dict[str, Any]:
        """Tell what an access token is good for, and whose it is if its scopes allow that.

        Raises:
            GrantError: It is not live.
        """
        principal = self._tokens.look_up(token)
        if principal is None:
            _refuse("Invalid Value", "invalid_token")
        left = principal.expires_at - self._store.now()
        told: dict[str, Any] = {
            "azp": principal.unique_id,
            "aud": principal.unique_id,
            "scope": " ".join(sorted(principal.scopes)),
            "exp": str(int(principal.expires_at.timestamp())),
            "expires_in": str(int(left.total_seconds())),
            "access_type": "online",
        }
        if EMAIL_SCOPE in principal.scopes:
            told |= {"email": principal.email, "email_verified": "true"}
        if "openid" in principal.scopes:
            told["sub"] = principal.unique_id
        return told

    def certificates(self, email: str) -> dict[str, str]:
        """Return the certificates of an account's keys, by key id: disabled ones are left out.

        Raises:
            RefusedError: There is no such account.
        """
        keys = self._accounts.keys(self._accounts.get(email).email)
        return {key.key_id: key.certificate for key in keys if not key.disabled}

    def jwks(self, email: str) -> dict[str, Any]:
        """Return the same keys as a JSON web key set.

        Raises:
            RefusedError: There is no such account.
        """
        found = self.certificates(email).items()
        return {"keys": [jwt.jwk(certificate, key_id) for key_id, certificate in found]}


def _refuse(description: str, error: str = "invalid_grant") -> NoReturn:
    raise GrantError(error, description)
