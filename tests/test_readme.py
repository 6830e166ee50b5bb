"""The README's promises: its files and commands, in its order, on a real local stack."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMEOUT = 180


def blocks() -> list[tuple[str, str, str]]:
    """Return (language, file name, text) of each fenced block, in order."""
    return [match.groups(default="") for match in _BLOCK.finditer(README.read_text("utf-8"))]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield the environment of a new user in an empty home; ends their stack afterwards."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment = {
        **kept,
        "HOME": str(tmp_path / "home"),
        "SPANCTL_RECOVER_EVERY": "0s",  # else the worker may be faster than the next command
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for name in ("SPANCTL_CONFIG_HOME", "SPANCTL_STATE_HOME", "PREFECT_HOME", "PREFECT_API_URL"):
        environment.pop(name, None)
    (tmp_path / "home").mkdir()
    yield environment
    run("spanctl local down", tmp_path, environment)


def run(
    command: str, folder: Path, environment: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run one command of the README as a shell would."""
    words = shlex.split(command)
    if words[0] == "spanctl":
        words = [sys.executable, "-m", "spanctl_cli.main", *words[1:]]
    elif words[0] == "python":
        words[0] = sys.executable
    return subprocess.run(  # noqa: PLW1510 - the caller looks at the exit code
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT
    )


def test_every_example_runs(tmp_path: Path, home: dict[str, str]) -> None:
    """Each file of the README is written and each command run, in order; all of them succeed."""
    ran = 0
    for language, name, text in blocks():
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
        if language == "python":
            compile(text, name, "exec")
        if name == "plain.py":
            result = run("python plain.py", tmp_path, home)
            assert result.returncode == 0, result.stderr
            assert result.stdout.endswith("False\n")
        if language == "console":
            for line in text.splitlines():
                assert line.startswith("$ "), f"not a command: {line}"
                command, _, code = line.removeprefix("$ ").partition("  # exit ")
                result = run(command, tmp_path, home)
                told = f"{line}\n{result.stdout}\n{result.stderr}"
                ended = result.returncode
                # A shell adds 128 to the number of the signal that ended a process.
                assert (128 - ended if ended < 0 else ended) == int(code or 0), told
                ran += 1
    assert ran >= 12
