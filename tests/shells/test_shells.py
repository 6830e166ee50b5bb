"""TAB in real shells on a terminal, with the files where the wheel installs them."""

import json
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from spanctl.settings import Contexts, resolve
from spanctl_cli.completing.cache import Cache
from tests.fixtures.cli import on_terminal

ROOT = Path(__file__).parents[2]
RUNS = (
    "we:ird=run @home",
    'it\'s "quoted" $HOME \\ `here`; & more!',
    "日本語 ラン",
    "-dash",
    "plain-fox",
)
DEPLOYMENT = "tra/night:ly *"
TXNS = ("3f2a9c1e-df12-5f07-8cb0-fd4f27fa981d", "40000000-df12-5f07-8cb0-fd4f27fa981d")
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
_PATIENCE = 60.0

# What is typed, TAB included, and the arguments that the shell then passes.
LINES: tuple[tuple[str, list[str]], ...] = (
    ("spanctl cont\tli\t", ["context", "list"]),
    ("spanctl -c te\ttxn resolve 3\t", ["-c", "test", "txn", "resolve", TXNS[0]]),
    ("spanctl --context=pr\truns li\t", ["--context=prod", "runs", "list"]),
    ("spanctl run sql --dry\t", ["run", "sql", "--dry-run"]),
    ("spanctl runs list --state sched\t", ["runs", "list", "--state", "scheduled"]),
    ("spanctl runs wait r --for=cancelle\t", ["runs", "wait", "r", "--for=cancelled"]),
    ("spanctl help exi\t", ["help", "exit-codes"]),
    ("spanctl help runs li\t", ["help", "runs", "list"]),
    ("spanctl help spanctl.txn.reo\t", ["help", "spanctl.txn.reopen/v1"]),
    ("spanctl run tra\t", ["run", DEPLOYMENT]),
    ("spanctl runs show we\t", ["runs", "show", RUNS[0]]),
    ("spanctl runs show we:ird=r\t", ["runs", "show", RUNS[0]]),
    ("spanctl runs show 'we:i\t", ["runs", "show", RUNS[0]]),
    ("spanctl runs show 日\t", ["runs", "show", RUNS[2]]),
    ("spanctl run import row\t", ["run", "import", "rows.csv"]),
    ("spanctl runs show nothing-like-it\t", ["runs", "show", "nothing-like-it"]),
)
QUOTED = ("spanctl runs show it\t", ["runs", "show", RUNS[1]])


@dataclass(frozen=True)
class Prompt:
    """Somebody's terminal: a home, ``spanctl`` on the PATH, completions where shells look."""

    home: Path

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "ZDOTDIR": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_DATA_DIRS": f"{self.home}/share:/usr/share",
            "PATH": f"{self.home}/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "ARGUMENTS": str(self.home / "arguments"),
        }

    def types(self, command: Sequence[str], lines: Sequence[str]) -> tuple[list[list[str]], str]:
        """Type the lines; return the arguments that spanctl got, and all that was shown."""
        got = self.home / "arguments"
        shown = bytearray()
        with on_terminal(list(command), 200, self.environment()) as (process, ours):
            reader = Thread(target=_drain, args=(ours, shown))
            reader.start()
            _until(lambda: b"READY" in shown, shown)
            for number, line in enumerate(lines, start=1):
                os.write(ours, f"{line}\r".encode())
                _until(lambda number=number: _lines(got) >= number, shown)
            os.write(ours, b"exit\r")
            process.wait(_PATIENCE)
            reader.join(_PATIENCE)
        return [json.loads(line) for line in got.read_text("utf-8").splitlines()], shown.decode()


def _drain(descriptor: int, shown: bytearray) -> None:
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # the other side closed
            return
        if not part:
            return
        shown += part


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _until(condition: Callable[[], bool], shown: bytearray) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"nothing came of it: {shown.decode(errors='replace')[-3000:]}")
        time.sleep(0.02)


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """A home with completions installed as the wheel says, and a cache that knows some names."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    for source, target in shared.items():
        (home / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, home / target)
    # Completes as it is; instead of running anything, it writes down what the shell passed.
    program = home / "bin" / "spanctl"
    tell = (
        "import json, os, sys;"
        "open(os.environ['ARGUMENTS'], 'a').write(json.dumps(sys.argv[1:]) + '\\n')"
    )
    program.write_text(
        "#!/bin/sh\n"
        f'if [ -n "$_SPANCTL_COMPLETE" ]; then exec "{sys.executable}" -m spanctl_cli.entry; fi\n'
        f'exec "{sys.executable}" -c "{tell}" "$@"\n'
    )
    program.chmod(0o755)
    (home / "rows.csv").write_text("id\n")
    Contexts.load().with_context("test", {}).with_context("prod", {}).using("prod").save()
    values = {
        "flow_runs": [(name, "a run") for name in RUNS],
        "deployments": [(DEPLOYMENT, "")],
        "unresolved": [(txn, "step: pay#2") for txn in TXNS],
    }
    for context in ("test", "prod"):
        Cache.of(resolve(context=context)).write(values)
    return Prompt(home)


def shell(name: str, needs: Path | None = None) -> str:
    """Return a shell's path; without it (or what it needs) fails in CI, and skips elsewhere."""
    found = shutil.which(name)
    if found and (needs is None or needs.exists()):
        return found
    missing = name if not found else "bash-completion"
    told = f"{missing} is not installed: apt-get install bash bash-completion zsh fish"
    if os.environ.get("CI") == "true":
        pytest.fail(told, pytrace=False)
    pytest.skip(told)


def check(prompt: Prompt, command: Sequence[str], extra: Sequence[tuple[str, list[str]]]) -> None:
    lines = (*LINES, *extra)
    got, shown = prompt.types(command, [line for line, _ in lines])
    assert got == [expected for _, expected in lines]
    assert "Traceback" not in shown
    assert "rror" not in shown.replace("@home", "")


def test_bash(prompt: Prompt) -> None:
    """bash-completion finds the script; each value reaches spanctl whole, open quotes or not."""
    program = shell("bash", BASH_COMPLETION)
    (prompt.home / ".bashrc").write_text(
        f"cd; PS1='READY> '; set +o histexpand; . {BASH_COMPLETION}\n"
    )
    quoted = ('spanctl runs show "it\t', QUOTED[1])
    check(prompt, [program, "--rcfile", str(prompt.home / ".bashrc"), "-i"], (QUOTED, quoted))


def test_zsh(prompt: Prompt) -> None:
    """compinit finds the script in fpath; the first TAB of a session completes already."""
    program = shell("zsh")
    (prompt.home / ".zshrc").write_text(
        "cd; PS1='READY> '; unsetopt banghist\n"
        f"fpath=({prompt.home}/share/zsh/site-functions $fpath)\n"
        "autoload -Uz compinit; compinit -u -D\n"
    )
    check(prompt, [program, "-d", "-i"], (QUOTED,))


def test_fish(prompt: Prompt) -> None:
    """fish finds the script in its vendor folder."""
    program = shell("fish")
    ready = "cd; function fish_prompt; echo -n 'READY> '; end; set -g fish_greeting"
    check(prompt, [program, "--private", "-C", ready, "-i"], (QUOTED,))
