"""The SQLite file of the stand-ins: what they answered survives any kill."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from spanctl import clock

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE accounts (
  email TEXT PRIMARY KEY, unique_id TEXT UNIQUE NOT NULL, display_name TEXT NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0, created INTEGER NOT NULL);
CREATE TABLE account_keys (
  id TEXT PRIMARY KEY, email TEXT NOT NULL REFERENCES accounts ON DELETE CASCADE,
  certificate TEXT NOT NULL, private_key TEXT, created INTEGER NOT NULL, expires INTEGER NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0);
CREATE TABLE users (email TEXT PRIMARY KEY, unique_id TEXT UNIQUE NOT NULL);
CREATE TABLE refresh_tokens (
  digest BLOB PRIMARY KEY, email TEXT NOT NULL REFERENCES users, client_id TEXT NOT NULL,
  client_digest BLOB NOT NULL);
CREATE TABLE tokens (
  digest BLOB PRIMARY KEY, email TEXT NOT NULL, scopes TEXT NOT NULL, chain TEXT NOT NULL,
  expires INTEGER NOT NULL);
CREATE TABLE bindings (
  resource TEXT NOT NULL, role TEXT NOT NULL, member TEXT NOT NULL,
  PRIMARY KEY (resource, role, member)) WITHOUT ROWID;
CREATE TABLE secrets (
  id TEXT PRIMARY KEY, created INTEGER NOT NULL, etag TEXT NOT NULL, replication BLOB NOT NULL,
  labels TEXT NOT NULL, annotations TEXT NOT NULL, destroy_ttl INTEGER, newest INTEGER NOT NULL);
CREATE TABLE aliases (
  secret TEXT NOT NULL REFERENCES secrets ON DELETE CASCADE, at INTEGER NOT NULL,
  aliases TEXT NOT NULL);
CREATE INDEX aliases_by_secret ON aliases (secret);
CREATE TABLE versions (
  secret TEXT NOT NULL REFERENCES secrets ON DELETE CASCADE, number INTEGER NOT NULL,
  created INTEGER NOT NULL, etag TEXT NOT NULL, payload BLOB, crc INTEGER NOT NULL,
  crc_given INTEGER NOT NULL, destroyed INTEGER, scheduled INTEGER,
  PRIMARY KEY (secret, number));
CREATE TABLE states (
  secret TEXT NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL, state TEXT NOT NULL,
  FOREIGN KEY (secret, number) REFERENCES versions ON DELETE CASCADE);
CREATE INDEX states_by_version ON states (secret, number);
"""


class Store:
    """One connection that threads take turns on."""

    def __init__(self, path: Path, now: Callable[[], datetime] = clock.now) -> None:
        """Open the file, owner-only, and make its tables if it is new.

        Raises:
            sqlite3.DatabaseError: It is no such file.
        """
        self.now = now
        self._lock = threading.RLock()
        self._folds = True  # a killed process may have left what it wiped
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # -wal and -shm take after it
        path.chmod(0o600)
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA secure_delete = ON")  # a destroyed payload leaves no bytes behind
        with self.transaction() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_VERSION}")
        if version not in {0, _VERSION}:
            self._db.close()
            msg = f"{path} was written by another version of spanctl"
            raise sqlite3.DatabaseError(msg)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction: all of it is kept, or, if it raises, nothing.

        Inside another one's block it joins that transaction.
        """
        with self._lock:
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            if self._folds:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._folds = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read in the block, in which nobody else uses the connection."""
        with self._lock:
            yield self._db

    def wiped(self) -> None:
        """Have what the transaction under way deletes gone from every file once it is over.

        What it deletes lies in the write-ahead log, too, which is then folded into the file.
        """
        self._folds = True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def timestamp(self) -> int:
        """Return the time now as it is stored: microseconds since 1970."""
        return to_micros(self.now())


def to_micros(value: datetime) -> int:
    """Return a time as it is stored: microseconds since 1970, in UTC."""
    return (value - _EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """Return a stored time, aware, in UTC."""
    return _EPOCH + timedelta(microseconds=value)
