"""Names and IDs of a context, kept for a day and renewed after seconds, for their owner alone."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from spanctl.privatefiles import write_private
from spanctl.settings import state_home
from spanctl.variables import CONTEXT_VARIABLE

if TYPE_CHECKING:
    from spanctl.settings import Settings

FRESH: Final = 20.0
"""Seconds after which a look at the cache has it renewed."""
KEPT: Final = 86_400.0
"""Seconds after which what is in the cache is no longer offered."""

Values = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache of one context as it is set now: other settings are another cache.

    Attributes:
        path: The file.
        context: The context's name; None when only the environment says where things are.
    """

    path: Path
    context: str | None

    @classmethod
    def of(cls, settings: "Settings") -> "Cache":
        """Return the cache of what these settings reach."""
        values = {name: setting.value for name, setting in settings.values.items()}
        text = json.dumps([settings.context, values], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return cls(state_home() / "completion" / f"{name}.json", settings.context)

    def read(self) -> Values:
        """Return what is known, by kind; nothing from a file that is broken, old or another's."""
        try:
            about = self.path.stat()
            if about.st_uid != os.geteuid() or time.time() - about.st_mtime > KEPT:
                return {}
            data = json.loads(self.path.read_bytes())
            return {
                str(kind): [(str(value), str(about)) for value, about in values]
                for kind, values in data["values"].items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}

    def is_fresh(self) -> bool:
        """Tell whether it was written within the last seconds."""
        return _age(self.path) < FRESH

    def write(self, values: Values) -> None:
        """Replace the file, whole or not at all; it and its folder are the owner's alone."""
        self._make_folder()
        write_private(self.path, json.dumps({"values": values}).encode())

    def forget_old(self) -> None:
        """Remove what nobody has asked for in a day: caches of settings that were changed."""
        for other in self.path.parent.iterdir():
            if _age(other) > KEPT:
                other.unlink(missing_ok=True)

    def have_renewed(self) -> None:
        """Start a detached process that renews the cache, unless one was started just now.

        Raises:
            OSError: The folder can't be written to, or no process can be started.
        """
        asked = self.path.with_suffix(".asked")
        if _age(asked) < FRESH:
            return
        self._make_folder()
        handle = os.open(asked, os.O_WRONLY | os.O_CREAT, 0o600)
        os.utime(handle)
        os.close(handle)
        if os.fork() == 0:
            _become_refresh(self.context)

    def _make_folder(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.parent.chmod(0o700)


def _age(path: Path) -> float:
    """Return the seconds since a file was written; endless for none, or one of the future."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")
    return age if age >= 0 else float("inf")


def _become_refresh(context: str | None) -> NoReturn:
    """Turn this process into the refresh: it holds neither the terminal nor the shell's pipes."""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        os.closerange(3, 256)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("_SPANCTL_")
        }
        if context is not None:
            environment[CONTEXT_VARIABLE] = context
        program = [sys.executable, "-P", "-m", "spanctl_cli.completing.refresh"]
        os.execve(program[0], program, environment)  # noqa: S606 - no shell is needed
    finally:
        os._exit(1)
