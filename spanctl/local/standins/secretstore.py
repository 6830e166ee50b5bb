"""Secrets and their versions in SQLite: every rule of their life, none of the wire."""

import json
import re
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from spanctl.credentials.crc32c import crc32c
from spanctl.local.standins import secretrules
from spanctl.local.standins.secretrows import Secret, State, Version, secret_of, version_of
from spanctl.local.standins.status import RefusedError, Status, invalid
from spanctl.local.standins.store import Store
from spanctl.local.standins.switches import Switches

LATEST: Final = "latest"
_SECOND: Final = 1_000_000
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,14}")


class Secrets:
    """The secrets of one project."""

    def __init__(
        self, store: Store, project_path: str, switches: Callable[[], Switches] = Switches
    ) -> None:
        """Work on this store, and destroy what came due while nobody did.

        Args:
            store: Where they are kept.
            project_path: ``projects/NUMBER``, for the texts of refusals.
            switches: Returns how slow the service is right now.
        """
        self._store = store
        self._project = project_path
        self._switches = switches
        for secret in self.every():
            self._destroy_due(secret.secret_id)

    def create(
        self,
        secret_id: str,
        replication: bytes,
        labels: Mapping[str, str],
        annotations: Mapping[str, str],
        delay: timedelta | None,
    ) -> Secret:
        """Make a secret without versions.

        Raises:
            RefusedError: There is one of that id, or something isn't allowed.
        """
        secretrules.check_secret_id(secret_id)
        _check(labels, annotations, delay)
        with self._store.transaction() as db:
            if db.execute("SELECT 1 FROM secrets WHERE id = ?", (secret_id,)).fetchone():
                msg = f"Secret [{self._name(secret_id)}] already exists."
                raise RefusedError(Status.ALREADY_EXISTS, msg)
            now = self._store.timestamp()
            written = (json.dumps(dict(labels)), json.dumps(dict(annotations)), _seconds(delay))
            row = (secret_id, now, _etag(), replication, *written, 0)
            db.execute("INSERT INTO secrets VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("INSERT INTO aliases VALUES (?, ?, '{}')", (secret_id, now))
            return self.get(secret_id)

    def get(self, secret_id: str) -> Secret:
        """Return a secret as it is now, aliases included.

        Raises:
            RefusedError: There is none.
        """
        with self._store.reading() as db:
            row = db.execute("SELECT * FROM secrets WHERE id = ?", (secret_id,)).fetchone()
            if row is None:
                msg = f"Secret [{self._name(secret_id)}] not found."
                raise RefusedError(Status.NOT_FOUND, msg)
            return secret_of(row, self._aliases(db, secret_id, self._store.timestamp()))

    def every(self) -> list[Secret]:
        """Return all secrets, newest first."""
        with self._store.reading() as db:
            now = self._store.timestamp()
            rows = db.execute("SELECT * FROM secrets ORDER BY created DESC, id").fetchall()
            return [secret_of(row, self._aliases(db, row["id"], now)) for row in rows]

    def update(self, secret_id: str, etag: str, changes: Mapping[str, Any]) -> Secret:
        """Replace some fields: ``labels``, ``annotations``, ``aliases``, ``destroy_delay``.

        Raises:
            RefusedError: There is no such secret, the etag is another, or a value isn't allowed.
        """
        with self._store.transaction() as db:
            old = self.get(secret_id)
            _match(etag, old.etag)
            labels = changes.get("labels", old.labels)
            annotations = changes.get("annotations", old.annotations)
            delay = changes.get("destroy_delay", old.destroy_delay)
            _check(labels, annotations, delay)
            values = (json.dumps(dict(labels)), json.dumps(dict(annotations)), _seconds(delay))
            db.execute(
                "UPDATE secrets SET labels = ?, annotations = ?, destroy_ttl = ?, etag = ?"
                " WHERE id = ?",
                (*values, _etag(), secret_id),
            )
            if "aliases" in changes:
                secretrules.check_aliases(changes["aliases"], old.newest)
                row = (secret_id, self._store.timestamp(), json.dumps(dict(changes["aliases"])))
                db.execute("INSERT INTO aliases VALUES (?, ?, ?)", row)
            return self.get(secret_id)

    def delete(self, secret_id: str, etag: str) -> None:
        """Remove a secret with all its versions, for good.

        Raises:
            RefusedError: There is no such secret, or the etag is another.
        """
        with self._store.transaction() as db:
            _match(etag, self.get(secret_id).etag)
            db.execute("DELETE FROM secrets WHERE id = ?", (secret_id,))
            self._store.wiped()

    def add(self, secret_id: str, payload: bytes, checksum: int | None) -> Version:
        """Add an enabled version under the next number.

        Raises:
            RefusedError: There is no such secret, or the payload is empty, too large, or not
                what the checksum says.
        """
        if not 0 < len(payload) <= secretrules.PAYLOAD_AT_MOST:
            msg = f"The payload must hold 1 to {secretrules.PAYLOAD_AT_MOST} bytes."
            raise invalid(msg)
        actual = crc32c(payload)
        if checksum is not None and checksum != actual:
            msg = "The payload's CRC32C checksum does not match the data that was received."
            raise invalid(msg)
        with self._store.transaction() as db:
            number = self.get(secret_id).newest + 1
            now = self._store.timestamp()
            given = checksum is not None
            row = (secret_id, number, now, _etag(), payload, actual, given, None, None)
            db.execute("UPDATE secrets SET newest = ? WHERE id = ?", (number, secret_id))
            db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            _set_state(db, secret_id, number, now, State.ENABLED)
            return self.version(secret_id, str(number))

    def access(self, secret_id: str, which: str) -> tuple[Version, bytes, int]:
        """Return a version with its payload and checksum; ``which`` is a number or an alias.

        Raises:
            RefusedError: There is no such version, or it is not enabled.
        """
        with self._store.reading() as db:
            version = self.version(secret_id, which)
            then = self._store.timestamp() - int(self._switches().states * _SECOND)
            state = _state(db, secret_id, version.number, then)
            if version.state is State.DESTROYED:
                state = State.DESTROYED  # nothing is left that a lag could show
            if state is not State.ENABLED:
                name = f"{self._name(secret_id)}/versions/{version.number}"
                msg = f"Secret Version [{name}] is in {state} state."
                raise RefusedError(Status.FAILED_PRECONDITION, msg)
            query = "SELECT payload, crc FROM versions WHERE secret = ? AND number = ?"
            row = db.execute(query, (secret_id, version.number)).fetchone()
        return version, bytes(row["payload"]), int(row["crc"])

    def version(self, secret_id: str, which: str) -> Version:
        """Return a version by its number, by an alias, or as ``latest``.

        Raises:
            RefusedError: There is no such version.
        """
        self._destroy_due(secret_id)
        with self._store.reading() as db:
            number = self._number(db, secret_id, which)
            query = "SELECT * FROM versions WHERE secret = ? AND number = ?"
            row = db.execute(query, (secret_id, number)).fetchone() if number else None
            if row is None:
                msg = f"Secret Version [{self._name(secret_id)}/versions/{which}] not found."
                if which == LATEST:
                    msg = f"Secret [{self._name(secret_id)}] not found or has no versions."
                raise RefusedError(Status.NOT_FOUND, msg)
            return version_of(row, _state(db, secret_id, row["number"], self._store.timestamp()))

    def _number(self, db: sqlite3.Connection, secret_id: str, which: str) -> int | None:
        self.get(secret_id)
        now, switches = self._store.timestamp(), self._switches()
        if _NUMBER.fullmatch(which):
            return int(which)
        if which == LATEST:
            then = now - int(switches.latest * _SECOND)
            query = "SELECT max(number) FROM versions WHERE secret = ? AND created <= ?"
            number: int | None = db.execute(query, (secret_id, then)).fetchone()[0]
            return number
        then = now - int(switches.aliases * _SECOND)
        return self._aliases(db, secret_id, then).get(which)

    def versions(self, secret_id: str) -> list[Version]:
        """Return all versions of a secret, newest first.

        Raises:
            RefusedError: There is no such secret.
        """
        self.get(secret_id)
        self._destroy_due(secret_id)
        now = self._store.timestamp()
        with self._store.reading() as db:
            query = "SELECT * FROM versions WHERE secret = ? ORDER BY number DESC"
            rows = db.execute(query, (secret_id,)).fetchall()
            return [version_of(row, _state(db, secret_id, row["number"], now)) for row in rows]

    def set_state(self, secret_id: str, which: str, etag: str, state: State) -> Version:
        """Enable, disable or destroy a version; one that is to be destroyed is saved by the former.

        Raises:
            RefusedError: There is no such version, the etag is another, or it is destroyed already.
        """
        if not _NUMBER.fullmatch(which):
            msg = "A version's state is changed by its number: aliases are not supported here."
            raise invalid(msg)
        self._destroy_due(secret_id)  # here: a refusal below takes back what it did inside
        with self._store.transaction() as db:
            old = self.version(secret_id, which)
            _match(etag, old.etag)
            if old.state is State.DESTROYED:
                name = f"{self._name(secret_id)}/versions/{old.number}"
                msg = f"Secret Version [{name}] is in DESTROYED state."
                raise RefusedError(Status.FAILED_PRECONDITION, msg)
            now, delay, due = self._store.timestamp(), self.get(secret_id).destroy_delay, None
            if state is State.DESTROYED and delay:
                state, due = State.DISABLED, now + delay // timedelta(microseconds=1)
            key = (secret_id, old.number)
            query = "UPDATE versions SET etag = ?, scheduled = ? WHERE secret = ? AND number = ?"
            db.execute(query, (_etag(), due, *key))
            _set_state(db, *key, now, state)
            if state is State.DESTROYED:
                self._wipe(db, *key, now)
        return self.version(secret_id, which)

    def _destroy_due(self, secret_id: str) -> None:
        now = self._store.timestamp()
        query = "SELECT number, scheduled FROM versions WHERE secret = ? AND scheduled <= ?"
        with self._store.reading() as db:
            due = db.execute(query, (secret_id, now)).fetchall()
        if not due:
            return
        with self._store.transaction() as db:
            for row in due:
                _set_state(db, secret_id, row["number"], row["scheduled"], State.DESTROYED)
                self._wipe(db, secret_id, row["number"], row["scheduled"])

    def _wipe(self, db: sqlite3.Connection, secret_id: str, number: int, at: int) -> None:
        query = """UPDATE versions SET payload = NULL, destroyed = ?, scheduled = NULL
            WHERE secret = ? AND number = ?"""
        db.execute(query, (at, secret_id, number))
        self._store.wiped()

    def _aliases(self, db: sqlite3.Connection, secret_id: str, at: int) -> dict[str, int]:
        query = """SELECT aliases FROM aliases WHERE secret = ? AND at <= ?
            ORDER BY at DESC, rowid DESC LIMIT 1"""
        row = db.execute(query, (secret_id, at)).fetchone()
        return dict(json.loads(row["aliases"])) if row else {}

    def _name(self, secret_id: str) -> str:
        return f"{self._project}/secrets/{secret_id}"


def _check(
    labels: Mapping[str, str], annotations: Mapping[str, str], delay: timedelta | None
) -> None:
    secretrules.check_labels(labels)
    secretrules.check_annotations(annotations)
    secretrules.check_delay(delay)


def _match(given: str, stored: str) -> None:
    if given and given != stored:
        msg = f"The etag provided ({given[:64]}) does not match the etag of the stored resource."
        raise RefusedError(Status.FAILED_PRECONDITION, msg)


def _set_state(db: sqlite3.Connection, secret_id: str, number: int, at: int, state: State) -> None:
    db.execute("INSERT INTO states VALUES (?, ?, ?, ?)", (secret_id, number, at, state.value))


def _state(db: sqlite3.Connection, secret_id: str, number: int, at: int) -> State:
    """Return the state that a version had at a time; its first one for any time before."""
    query = """SELECT state FROM states WHERE secret = ? AND number = ?
        ORDER BY at > ?, CASE WHEN at > ? THEN at ELSE -at END, rowid DESC LIMIT 1"""
    return State(db.execute(query, (secret_id, number, at, at)).fetchone()["state"])


def _seconds(delay: timedelta | None) -> int | None:
    return int(delay.total_seconds()) if delay else None


def _etag() -> str:
    """Return a new etag, in quotes as Secret Manager's are."""
    return f'"{secrets.token_hex(7)}"'
