"""Ctrl-C inside of an RPC, at any moment of it."""

import subprocess
import sys

from tests.faults import raw
from tests.fixtures.cli import child_environment


def test_what_follows_an_interrupted_read_is_answered(emulator: str) -> None:
    """The roll-back and the look-up after Ctrl-C don't wait for what the interrupted RPC held."""
    name = raw.create_database(emulator, ["CREATE TABLE t (a INT64) PRIMARY KEY (a)"])
    command = [sys.executable, "-m", "tests.faults.interrupted", emulator, name, "1000"]
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, timeout=300, check=False
    )
    raw.drop_database(emulator, name)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) > 500
