"""Google's Spanner emulator as a child process, for tests and benchmarks."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Self

from spanctl.local import ports

PROJECT = "test-project"
INSTANCE = "test-instance"
_KNOWN = (
    Path("/usr/lib/google-cloud-sdk/bin/cloud_spanner_emulator/emulator_main"),
    Path("/usr/share/google-cloud-sdk/bin/cloud_spanner_emulator/emulator_main"),
    Path("/opt/google-cloud-sdk/bin/cloud_spanner_emulator/emulator_main"),
)

RAW_CLIENT = {
    "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS": "false",
    "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS_FOR_RW": "false",
    "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS_PARTITIONED_OPS": "false",
    "SPANNER_DISABLE_BUILTIN_METRICS": "true",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Settings under which Google's own client works at its best against the emulator."""


def binary() -> Path | None:
    """Return the emulator's binary, None when it isn't installed."""
    if found := shutil.which("emulator_main"):
        return Path(found)
    if gcloud := shutil.which("gcloud"):
        beside = Path(gcloud).resolve().parent / "cloud_spanner_emulator" / "emulator_main"
        if beside.exists():
            return beside
    return next((path for path in _KNOWN if path.exists()), None)


def free_port() -> int:
    """Return a loopback port on which nothing listens, and which no outgoing connection takes."""
    return ports.choose()


class Emulator:
    """One emulator process on a free port, ended with the block."""

    def __init__(self, *flags: str) -> None:
        """Start it when the block is entered, with further flags of ``emulator_main``."""
        self._flags = flags
        self.address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = binary()
        if program is None:
            msg = "the Spanner emulator is not installed"
            raise FileNotFoundError(msg)
        # Its churning of change streams makes it crash (SIGSEGV) while transactions are aborted.
        calm = "--enable_change_stream_churning=false"
        command = [str(program), "--host_port", self.address, calm, *self._flags]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
        )
        host, _, port = self.address.partition(":")
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.__exit__()
                    raise
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid


def new_name() -> str:
    """Return a fresh database id: tests share nothing but the emulator."""
    return f"t-{uuid.uuid4().hex[:20]}"
