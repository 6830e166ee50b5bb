"""Bearer tokens: minted, kept as digests only, and turned back into their principals."""

import hashlib
import json
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from spanctl.local.standins import jwt
from spanctl.local.standins.status import RefusedError, Status
from spanctl.local.standins.store import Store, from_micros, to_micros
from spanctl.local.standins.switches import Switches

CLOUD_PLATFORM: Final = "https://www.googleapis.com/auth/cloud-platform"
EMAIL_SCOPE: Final = "https://www.googleapis.com/auth/userinfo.email"
SELF_SIGNED_LIFE: Final = timedelta(hours=1)

_SKEW: Final = timedelta(seconds=30)
_MISSING: Final = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, "
    "login cookie or other valid authentication credential."
)
_INVALID: Final = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, "
    "login cookie or other valid authentication credential."
)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a live token stands for.

    Attributes:
        email: The address.
        is_account: Whether it is a service account; else it is a user.
        unique_id: The number by which Google knows it.
        scopes: What the token is good for.
        chain: The addresses that stand behind an impersonation, who asked first.
        expires_at: When the token ends.
    """

    email: str
    is_account: bool
    unique_id: str
    scopes: frozenset[str]
    chain: tuple[str, ...]
    expires_at: datetime

    @property
    def member(self) -> str:
        """What it is called in an IAM policy."""
        return f"{'serviceAccount' if self.is_account else 'user'}:{self.email}"


def digest(secret: str) -> bytes:
    """Return what is kept of a token; it has too much entropy to be guessed from that."""
    return hashlib.sha256(secret.encode()).digest()


class Tokens:
    """The token store: the issuer writes it, every other stand-in asks it."""

    def __init__(self, store: Store, switches: Callable[[], Switches] = Switches) -> None:
        """Remember where the digests are, and what says how slow new keys are."""
        self._store = store
        self._switches = switches

    def mint(
        self, email: str, scopes: frozenset[str], lifetime: timedelta, chain: tuple[str, ...] = ()
    ) -> tuple[str, datetime]:
        """Make an access token; returns it, for the only time, and when it ends."""
        token = f"ya29.c.{secrets.token_urlsafe(96)}"
        expires = self._store.now() + lifetime
        row = (digest(token), email, " ".join(sorted(scopes)), json.dumps(chain))
        with self._store.transaction() as db:
            db.execute("DELETE FROM tokens WHERE expires < ?", (self._store.timestamp(),))
            db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?)", (*row, to_micros(expires)))
        return token, expires

    def admit(self, authorization: str | None, service: str) -> Principal:
        """Return who an ``authorization`` header stands for, right now.

        Args:
            authorization: The header's value, None if it is missing.
            service: The host of the API that was called (``spanner.googleapis.com``).

        Raises:
            RefusedError: The token is missing, unknown, expired, revoked, or not for this service.
        """
        if not authorization:
            raise RefusedError(Status.UNAUTHENTICATED, _MISSING)
        scheme, _, token = authorization.partition(" ")
        principal = self.look_up(token.strip()) if scheme.lower() == "bearer" else None
        if principal is None:
            principal = self._self_signed(token.strip(), service)
        own = f"https://www.googleapis.com/auth/{service.partition('.')[0]}."
        good = {CLOUD_PLATFORM, f"https://{service}/"}
        if not any(scope in good or scope.startswith(own) for scope in principal.scopes):
            msg = "Request had insufficient authentication scopes."
            raise RefusedError(Status.PERMISSION_DENIED, msg)
        return principal

    def look_up(self, token: str) -> Principal | None:
        """Return who an access token stands for; None unless it is live and its account enabled."""
        query = """
            SELECT t.email, t.scopes, t.chain, t.expires,
              a.unique_id AS account, u.unique_id AS user
            FROM tokens t LEFT JOIN accounts a ON a.email = t.email AND NOT a.disabled
            LEFT JOIN users u ON u.email = t.email WHERE t.digest = ? AND t.expires > ?"""
        with self._store.reading() as db:
            row = db.execute(query, (digest(token), self._store.timestamp())).fetchone()
        if row is None or (row["account"] is None and row["user"] is None):
            return None
        return Principal(
            email=row["email"],
            is_account=row["account"] is not None,
            unique_id=row["account"] or row["user"],
            scopes=frozenset(row["scopes"].split()),
            chain=tuple(json.loads(row["chain"])),
            expires_at=from_micros(row["expires"]),
        )

    def live_key(self, email: str, key_id: str) -> sqlite3.Row | None:
        """Return a key that works now: it, and its account, are enabled; it is old enough."""
        now = self._store.timestamp()
        query = """
            SELECT k.*, a.unique_id FROM account_keys k JOIN accounts a ON a.email = k.email
            WHERE k.id = ? AND k.email = ? AND NOT k.disabled AND NOT a.disabled
            AND k.expires > ? AND k.created <= ?"""
        with self._store.reading() as db:
            values = (key_id, email, now, now - int(self._switches().keys * 1_000_000))
            found: sqlite3.Row | None = db.execute(query, values).fetchone()
        return found

    def _self_signed(self, token: str, service: str) -> Principal:
        """Return who a JWT stands for that a key signed for one API: some clients send these."""
        parsed = jwt.parse(token)
        refusal = RefusedError(Status.UNAUTHENTICATED, _INVALID)
        if parsed is None:
            raise refusal
        issuer = str(parsed.claims.get("iss"))
        key = self.live_key(issuer, parsed.key_id)
        if key is None or not jwt.is_signed_by(parsed, key["certificate"]):
            raise refusal
        expires = lifetime_of(parsed.claims, self._store.now())
        if expires is None or parsed.claims.get("sub", issuer) != issuer:
            raise refusal
        scopes = str(parsed.claims.get("scope", "")).split() or [str(parsed.claims.get("aud"))]
        if not parsed.claims.get("scope") and f"https://{service}/" not in scopes:
            raise refusal
        return Principal(
            email=issuer,
            is_account=True,
            unique_id=key["unique_id"],
            scopes=frozenset(scopes),
            chain=(),
            expires_at=expires,
        )


def lifetime_of(claims: dict[str, Any], now: datetime) -> datetime | None:
    """Return when an assertion ends; None unless it holds now and for an hour at most."""
    issued, expires = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or not isinstance(expires, int):
        return None
    try:
        since, until = from_micros(issued * 1_000_000), from_micros(expires * 1_000_000)
    except OverflowError:
        return None
    if since - _SKEW > now or until <= now or until - since > SELF_SIGNED_LIFE:
        return None
    return until
