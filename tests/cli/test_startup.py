"""Ctrl-C and SIGTERM at any moment of a command's life, its start-up and its end included."""

import os
import signal
import subprocess
import sys

import pytest

from tests.fixtures.cli import child_environment

_AT_IMPORT = """
import importlib.abc, os, signal, sys

module, number = sys.argv[1], int(sys.argv[2])

class Interrupting(importlib.abc.MetaPathFinder):
    "Sends a signal when a module is about to be loaded, once."
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

from spanctl_cli.entry import main
sys.meta_path.insert(0, Interrupting())
sys.argv = ["spanctl", *sys.argv[3:]]
main()
"""
_AT_EXIT = """
import atexit, os, signal, sys
from spanctl_cli.entry import main
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["spanctl", "--version"]
main()
"""
_ENDS = {signal.SIGINT: (130, "error: interrupted\n"), signal.SIGTERM: (143, "error: terminated\n")}


def run(code: str, *args: str) -> tuple[int, str]:
    environment = child_environment(
        {
            "PREFECT_API_URL": "http://127.0.0.1:9/api",
            "SPANNER_EMULATOR_HOST": "127.0.0.1:9",
            "SPANCTL_PROJECT": "test-project",
            "SPANCTL_INSTANCE": "test-instance",
            "SPANCTL_DATABASE": "test-db",
        }
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", _ENDS)
@pytest.mark.parametrize(
    "module", ["typer", "spanctl_cli.main", "spanctl_cli.boundary", "spanctl_cli.commands.run"]
)
def test_a_signal_while_the_command_line_is_loaded(module: str, number: signal.Signals) -> None:
    """One line and the signal's exit code, no traceback."""
    assert run(_AT_IMPORT, module, str(int(number)), "context", "list") == _ENDS[number]


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("prefect", signal.SIGINT),
        ("prefect.flows", signal.SIGTERM),
        ("spanctl.flows.launch", signal.SIGINT),
        ("httpx", signal.SIGTERM),
    ],
)
def test_a_signal_while_a_command_loads_what_it_needs(module: str, number: signal.Signals) -> None:
    """It waits until the module is there: inside of one it might end as anything, or be lost."""
    command = ("run", "sql", "-e", "SELECT 1")
    code, told = run(_AT_IMPORT, module, str(int(number)), *command)
    assert (code, told.splitlines()[-1] + "\n") == _ENDS[number]
    assert "Traceback" not in told
    assert "a bug in spanctl" not in told


def test_a_signal_at_the_very_end() -> None:
    """Also as the interpreter leaves: one line, no traceback."""
    assert run(_AT_EXIT) == _ENDS[signal.SIGINT]


@pytest.mark.parametrize("kind", ["ImportError", "ValueError", "SystemExit"])
def test_what_an_interruption_was_turned_into_is_still_an_interruption(kind: str) -> None:
    """No "bug in spanctl" for a library that makes something else of Ctrl-C."""
    code = f"""
import os, signal, sys
from spanctl_cli.entry import main
import spanctl_cli.commands.context as context

def load(*_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise {kind}("made of it") from None

context.AppContext.of = load
sys.argv = ["spanctl", "context", "list"]
main()
"""
    assert run(code) == _ENDS[signal.SIGINT]


def test_a_signal_just_before_the_answer_is_read() -> None:
    """Noted by the system, not yet by Python, when the wait begins: it ends that all the same."""
    code = """
import ctypes, functools, signal, sys
from spanctl_cli import prompts

class Stdin:
    "Where the wait asks for the descriptor, in C, the signal comes: no step of Python is between."
    fileno = functools.partial(ctypes.CDLL(None)["raise"], int(signal.SIGINT))
    def isatty(self):
        return True

sys.stdin = Stdin()
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    prompts._answer()
except KeyboardInterrupt:
    sys.exit(130)
"""
    ours, theirs = os.pipe()  # an end that says nothing, ever
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), stdin=ours, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 130
