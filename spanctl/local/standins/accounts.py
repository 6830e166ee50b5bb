"""Service accounts, their keys, and the local user: who exists, and what proves it."""

import json
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from spanctl.local.standins import jwt
from spanctl.local.standins.status import RefusedError, Status
from spanctl.local.standins.store import Store, from_micros, to_micros
from spanctl.local.standins.tokens import digest

KEYS_AT_MOST: Final = 10
FOREVER: Final = from_micros(253402300799 * 1_000_000)  # Google's word for "does not expire"
_SYSTEM_KEY_LIFE: Final = timedelta(days=730)


@dataclass(frozen=True, slots=True)
class Account:
    """A service account."""

    email: str
    unique_id: str
    display_name: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a service account.

    Attributes:
        key_id: Its id.
        email: The account's address.
        certificate: The public half, as a certificate in PEM.
        created: Since when it exists.
        expires: When it ends.
        disabled: Whether it is switched off.
        is_system: Whether Google would hold it (``signJwt``'s); else the user does.
    """

    key_id: str
    email: str
    certificate: str
    created: datetime
    expires: datetime
    disabled: bool
    is_system: bool


class Accounts:
    """Everybody whom the stand-ins know."""

    def __init__(self, store: Store, project: str) -> None:
        """Remember where they are kept."""
        self._store = store
        self.project = project

    def address(self, name: str) -> str:
        """Return the address of a service account of the project."""
        return f"{name}@{self.project}.iam.gserviceaccount.com"

    def ensure(self, name: str, display_name: str) -> str:
        """Make a service account if there is none of that name; return its address."""
        email = self.address(name)
        with self._store.transaction() as db:
            if not db.execute("SELECT 1 FROM accounts WHERE email = ?", (email,)).fetchone():
                now = self._store.timestamp()
                row = (email, _number(), display_name, 0, now)
                db.execute("INSERT INTO accounts VALUES (?, ?, ?, ?, ?)", row)
        return email

    def create(self, name: str, display_name: str) -> Account:
        """Make a service account.

        Raises:
            RefusedError: There is one of that name.
        """
        with self._store.transaction() as db:
            email = self.address(name)
            if db.execute("SELECT 1 FROM accounts WHERE email = ?", (email,)).fetchone():
                msg = f"Service account {name} already exists within project {self.project}."
                raise RefusedError(Status.ALREADY_EXISTS, msg)
            return self.get(self.ensure(name, display_name))

    def get(self, name: str) -> Account:
        """Return a service account by its address or its unique id.

        Raises:
            RefusedError: There is none.
        """
        query = "SELECT * FROM accounts WHERE email = ? OR unique_id = ?"
        with self._store.reading() as db:
            row = db.execute(query, (name, name)).fetchone()
        if row is None:
            msg = f"Unknown service account: {name}"
            raise RefusedError(Status.NOT_FOUND, msg)
        return _account(row)

    def every(self) -> list[Account]:
        """Return all service accounts, by address."""
        with self._store.reading() as db:
            return [_account(row) for row in db.execute("SELECT * FROM accounts ORDER BY email")]

    def set_disabled(self, email: str, *, disabled: bool) -> None:
        """Switch a service account, and with it every token and key of it, off or on."""
        with self._store.transaction() as db:
            db.execute("UPDATE accounts SET disabled = ? WHERE email = ?", (disabled, email))

    def create_key(self, email: str) -> tuple[Key, str]:
        """Make a key; returns it with its private half in PEM, which is not kept.

        Raises:
            RefusedError: The account has ten keys already.
        """
        private = jwt.new_key()  # outside of the transaction: it takes a tenth of a second
        with self._store.transaction():
            if sum(not key.is_system for key in self.keys(email)) >= KEYS_AT_MOST:
                msg = f"Service account {email} has {KEYS_AT_MOST} keys, the most it can have."
                raise RefusedError(Status.FAILED_PRECONDITION, msg)
            key = self._add_key(email, private, FOREVER, None)
        return key, jwt.private_pem(private)

    def _add_key(
        self, email: str, private: RSAPrivateKey, expires: datetime, kept: str | None
    ) -> Key:
        now = self._store.now()
        key_id = secrets.token_hex(20)
        public = jwt.certificate(private, email, now - timedelta(hours=1), expires)
        row = (key_id, email, public, kept, to_micros(now), to_micros(expires), 0)
        with self._store.transaction() as db:
            db.execute("INSERT INTO account_keys VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return Key(key_id, email, public, now, expires, disabled=False, is_system=kept is not None)

    def keys(self, email: str) -> list[Key]:
        """Return the keys of a service account, oldest first."""
        query = "SELECT * FROM account_keys WHERE email = ? AND expires > ? ORDER BY created, id"
        with self._store.reading() as db:
            return [_key(row) for row in db.execute(query, (email, self._store.timestamp()))]

    def key(self, email: str, key_id: str) -> Key:
        """Return one key.

        Raises:
            RefusedError: The account has no such key.
        """
        for key in self.keys(email):
            if key.key_id == key_id:
                return key
        msg = f"Service account key {key_id} does not exist."
        raise RefusedError(Status.NOT_FOUND, msg)

    def set_key_disabled(self, email: str, key_id: str, *, disabled: bool) -> None:
        """Switch a user's key off or on.

        Raises:
            RefusedError: The account has no such key, or it is not the user's.
        """
        with self._store.transaction() as db:
            self._user_key(email, key_id)
            db.execute("UPDATE account_keys SET disabled = ? WHERE id = ?", (disabled, key_id))

    def delete_key(self, email: str, key_id: str) -> None:
        """Delete a user's key; tokens that it was exchanged for live on.

        Raises:
            RefusedError: The account has no such key, or it is not the user's.
        """
        with self._store.transaction() as db:
            self._user_key(email, key_id)
            db.execute("DELETE FROM account_keys WHERE id = ?", (key_id,))

    def _user_key(self, email: str, key_id: str) -> None:
        if self.key(email, key_id).is_system:
            msg = "The request is not valid for a system-managed key."
            raise RefusedError(Status.FAILED_PRECONDITION, msg)

    def sign(self, email: str, payload: str) -> tuple[str, str]:
        """Sign a JSON text with the account's system key; returns the key's id and the JWT."""
        query = """SELECT * FROM account_keys WHERE email = ? AND private_key IS NOT NULL
            ORDER BY expires DESC LIMIT 1"""
        with self._store.transaction() as db:
            row = db.execute(query, (email,)).fetchone()
            if row is None or row["expires"] <= self._store.timestamp():
                private = jwt.new_key()
                until = self._store.now() + _SYSTEM_KEY_LIFE
                key = self._add_key(email, private, until, jwt.private_pem(private))
                row = db.execute(
                    "SELECT * FROM account_keys WHERE id = ?", (key.key_id,)
                ).fetchone()
        return row["id"], jwt.sign(payload, row["private_key"], row["id"])

    def add_user(self, email: str) -> Mapping[str, str]:
        """Give a user a new refresh token, in an ``authorized_user`` document; older ones end."""
        client, secret, refresh = (secrets.token_urlsafe(size) for size in (16, 24, 64))
        client += ".apps.googleusercontent.com"
        with self._store.transaction() as db:
            db.execute("INSERT OR IGNORE INTO users VALUES (?, ?)", (email, _number()))
            db.execute("DELETE FROM refresh_tokens WHERE email = ?", (email,))
            row = (digest(refresh), email, client, digest(secret))
            db.execute("INSERT INTO refresh_tokens VALUES (?, ?, ?, ?)", row)
        return {
            "type": "authorized_user",
            "account": email,
            "client_id": client,
            "client_secret": secret,
            "refresh_token": f"1//{refresh}",
        }

    def user_of(self, client_id: str, client_secret: str, refresh_token: str) -> str | None:
        """Return whose refresh token it is; None unless it and its client are right."""
        query = "SELECT * FROM refresh_tokens WHERE digest = ?"
        with self._store.reading() as db:
            found = db.execute(query, (digest(refresh_token.removeprefix("1//")),)).fetchone()
        if found is None or found["client_id"] != client_id:
            return None
        right = secrets.compare_digest(found["client_digest"], digest(client_secret))
        return str(found["email"]) if right else None


def key_document(account: Account, key: Key, pem: str, project: str, base: str) -> str:
    """Return the JSON file that holds a key, as Google's console gives it out.

    Args:
        account: Whose key it is.
        key: The key.
        pem: Its private half.
        project: The account's project.
        base: Where the stand-in answers (``https://127.0.0.1:PORT``).
    """
    document = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": key.key_id,
        "private_key": pem,
        "client_email": account.email,
        "client_id": account.unique_id,
        "auth_uri": f"{base}/o/oauth2/auth",
        "token_uri": f"{base}/token",
        "auth_provider_x509_cert_url": f"{base}/oauth2/v1/certs",
        "client_x509_cert_url": f"{base}/service_accounts/v1/metadata/x509/{account.email}",
        "universe_domain": "googleapis.com",
    }
    return json.dumps(document, indent=2)


def _account(row: sqlite3.Row) -> Account:
    return Account(row["email"], row["unique_id"], row["display_name"], bool(row["disabled"]))


def _key(row: sqlite3.Row) -> Key:
    return Key(
        key_id=row["id"],
        email=row["email"],
        certificate=row["certificate"],
        created=from_micros(row["created"]),
        expires=from_micros(row["expires"]),
        disabled=bool(row["disabled"]),
        is_system=row["private_key"] is not None,
    )


def _number() -> str:
    """Return a number such as Google's unique ids: 21 digits, the first one a 1."""
    return f"1{secrets.randbelow(10**20):020d}"
