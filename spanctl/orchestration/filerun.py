"""Flow runs of a file or a module: where each was run, so that it can be gone on with there."""

import hashlib
import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from spanctl.invocation import (
    CODE_LABEL,
    FOLDER_LABEL,
    HOST_LABEL,
    TARGET_LABEL,
    USER_LABEL,
)


@dataclass(frozen=True, slots=True)
class FileRun:
    """Where a flow run of a file or a module was run, as its labels tell.

    Attributes:
        target: ``path.py:flow`` or ``package.module:flow``.
        folder: The folder that it was typed in.
        host: The machine.
        user: Who ran it there: a number.
        code: Digest of the file's contents; empty where it couldn't be read.
    """

    target: str
    folder: str
    host: str
    user: str
    code: str = ""

    @classmethod
    def here(cls, target: str, file: str | None) -> Self:
        """Return what to keep of a flow that is run here.

        Args:
            target: As it was typed.
            file: The file that holds the flow; None where it is in none.
        """
        where = str(Path.cwd()), socket.gethostname(), str(os.getuid())
        return cls(target, *where, digest(file))

    @classmethod
    def from_labels(cls, labels: Mapping[str, Any]) -> Self | None:
        """Read a flow run's labels; None for a run of neither a file nor a module."""
        if TARGET_LABEL not in labels:
            return None
        names = (TARGET_LABEL, FOLDER_LABEL, HOST_LABEL, USER_LABEL, CODE_LABEL)
        return cls(*(str(labels.get(name, "")) for name in names))

    @property
    def labels(self) -> dict[str, str]:
        """The flow run's labels."""
        return {
            TARGET_LABEL: self.target,
            FOLDER_LABEL: self.folder,
            HOST_LABEL: self.host,
            USER_LABEL: self.user,
            CODE_LABEL: self.code,
        }

    @property
    def refusal(self) -> str:
        """Why it can't be gone on with by this user, on this machine; empty where it can.

        Labels can be written by whoever reaches Prefect: what they name has to be this user's own.
        """
        if self.host != socket.gethostname():
            return f"it was run on {self.host}, and this is {socket.gethostname()}"
        if self.user != str(os.getuid()):
            return f"it was run by user {self.user}, and this is user {os.getuid()}"
        where = self.target.rpartition(":")[0]
        named = [Path(self.folder)]
        named += [Path(self.folder) / where] if where.endswith(".py") else []
        for path in named:
            try:
                owner = path.stat().st_uid
            except OSError:
                return f"{path} isn't there any more, or can't be looked at"
            if owner not in {os.getuid(), 0}:
                return f"{path} is another user's"
        return ""

    def command(self, flow_run: str) -> str:
        """Return what to type, where it was run, to go on with it."""
        return f"cd {shlex.quote(self.folder)} && spanctl run --resume {flow_run}"


def digest(file: str | None) -> str:
    """Return the digest of a file's contents; empty where it can't be read."""
    if file is None:
        return ""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:32]
    except OSError:
        return ""
