"""Where the stand-ins keep what they keep; every file is its owner's alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OWNER_ONLY: Final = 0o600


@dataclass(frozen=True, slots=True)
class Places:
    """The files of the stand-ins, in one folder."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite file: secrets, accounts, keys, policies, digests of tokens."""
        return self.path / "identity.db"

    @property
    def ca_certificate(self) -> Path:
        """The local CA's certificate alone."""
        return self.path / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """The local CA's private key."""
        return self.path / "ca.key"

    @property
    def certificate(self) -> Path:
        """The certificate that the servers show."""
        return self.path / "server.pem"

    @property
    def key(self) -> Path:
        """The private key of that certificate."""
        return self.path / "server.key"

    @property
    def bundle(self) -> Path:
        """The system's roots and the local CA: what clients verify servers with."""
        return self.path / "roots.pem"

    @property
    def user(self) -> Path:
        """The local user's ``authorized_user`` document; who can read it is that user."""
        return self.path / "user.json"

    @property
    def switches(self) -> Path:
        """The JSON file that makes the stand-ins lag or fail, if it exists."""
        return self.path / "switches.json"

    def create(self) -> None:
        """Make the folder, for its owner alone.

        Raises:
            OSError: It can't be made.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes that make these files out of the block."""
        self.create()
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, _OWNER_ONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all.

    Raises:
        OSError: It can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
    with os.fdopen(handle, "wb") as stream:
        os.fchmod(stream.fileno(), _OWNER_ONLY)  # a leftover may have been made by another umask
        stream.write(data)
    temporary.replace(path)
