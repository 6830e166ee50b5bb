"""Where Google's Spanner emulator is on this machine."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spanctl.errors import ConfigurationError
from spanctl.local.ports import LOOPBACK

VARIABLE: Final = "SPANCTL_SPANNER_EMULATOR"
IMAGE: Final = "gcr.io/cloud-spanner-emulator/emulator:1.5.28"
_BINARY: Final = "emulator_main"  # never gateway_main: stopping that leaves its child behind
_IN_SDK: Final = Path("bin/cloud_spanner_emulator") / _BINARY
_SDK_ROOTS: Final = ("/usr/lib/google-cloud-sdk", "~/google-cloud-sdk", "/opt/google-cloud-sdk")
_INSTALL: Final = (
    "install it with: sudo apt-get install google-cloud-cli-spanner-emulator, "
    "or: gcloud components install cloud-spanner-emulator, or start docker or podman"
)


@dataclass(frozen=True, slots=True)
class Emulator:
    """A way to run the emulator.

    Attributes:
        program: The binary, or the container engine.
        image: The container image; empty for a binary.
    """

    program: str
    image: str = ""

    def command(self, port: int, name: str) -> tuple[str, ...]:
        """Return the command that serves on loopback; ``name`` is what a container is called."""
        if not self.image:
            return (self.program, "--host_port", f"{LOOPBACK}:{port}")
        publish = f"{LOOPBACK}:{port}:9010"
        run = ("run", "--rm", "--name", name, "--publish", publish, self.image)
        return (self.program, *run, f"./{_BINARY}", "--host_port", "0.0.0.0:9010")

    def cleanup(self, name: str) -> tuple[str, ...]:
        """Return the command that removes what outlives a killed client; empty for a binary."""
        return (self.program, "rm", "--force", name) if self.image else ()


def find(environ: Mapping[str, str] = os.environ) -> Emulator:
    """Find the emulator: named by the environment, on PATH, in a Cloud SDK, or as a container.

    Raises:
        ConfigurationError: There is none, or the one that is named can't be run.
    """
    path = environ.get("PATH", os.defpath)
    if named := environ.get(VARIABLE):
        found = shutil.which(str(Path(named).expanduser()), path=path)
        if found is None:
            msg = f"{VARIABLE} names {named}, which is no program"
            raise ConfigurationError(msg, hint=f"let it name {_BINARY}, or unset it")
        return Emulator(found)
    for candidate in _candidates(path, environ):
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return Emulator(str(candidate))
    for engine in ("docker", "podman"):
        if found := shutil.which(engine, path=path):
            return Emulator(found, IMAGE)
    msg = "Google's Spanner emulator is not installed"
    raise ConfigurationError(msg, hint=_INSTALL)


def _candidates(path: str, environ: Mapping[str, str]) -> Iterator[Path]:
    if found := shutil.which(_BINARY, path=path):
        yield Path(found)
    if gcloud := shutil.which("gcloud", path=path):
        yield Path(gcloud).resolve().parent.parent / _IN_SDK
    home = environ.get("HOME", "~")
    for root in _SDK_ROOTS:
        yield Path(root.replace("~", home, 1)) / _IN_SDK
