"""What a server calls things is neither run, expanded nor taken for an option by a TAB."""

import os
from collections.abc import Sequence
from typing import Final

import pytest

from spanctl.settings import Contexts, resolve
from spanctl_cli.completing.answer import answer
from spanctl_cli.completing.cache import Cache
from tests.shells.test_shells import BASH_COMPLETION, Prompt, prompt, shell

__all__ = ["prompt"]

NAMES: Final = (
    "a$(touch marker)",
    "b`touch marker`",
    "c;touch marker;",
    "d'$(touch marker)'",
    'e"$(touch marker)"',
    "f(touch marker)",
    "g{touch,marker}|&<>",
    "h!!",
    "i!?list?x!",
    "j\\$(touch marker)\\",
    "k*?[a-z]~ #%s%n:=x",
    "l\\n\\x60touch marker\\x60",
    "m!$ !^ ^a^b",
    'o"!!"',
)
NO_LINE: Final = ("n\n$(touch marker)", "n\r", "n\x1b]0;x\a", "n\x9b31m", "n\u202e", "n\tx")
"""Names that would draw on the terminal, or end the line."""
ABOUT: Final = "$(touch marker)`touch marker`:%F{red}"
EARLIER: Final = "spanctl context list"


@pytest.fixture
def hostile(prompt: Prompt) -> Prompt:
    """A terminal whose cache holds what somebody with the API has called their runs."""
    Cache.of(resolve()).write({"flow_runs": [(name, ABOUT) for name in (*NAMES, *NO_LINE)]})
    (prompt.home / "names").write_text(f"{NAMES[0]}\n")
    return prompt


def check(prompt: Prompt, command: Sequence[str], lines: Sequence[tuple[str, list[str]]]) -> None:
    typed = [one for line, _ in lines for one in (EARLIER, line)]
    got, _ = prompt.types(command, typed)
    assert got[1::2] == [["runs", "wait", *names] for _, names in lines]
    assert not [*prompt.home.rglob("marker")]


def in_one_line(quote: str) -> tuple[str, list[str]]:
    """Complete each name, and one that nothing fits."""
    tabs = "".join(f"{quote}{name[0]}\t" for name in NAMES)
    return f"spanctl runs wait {tabs}{quote}n\t{quote}", [*NAMES, "n"]


RAW: Final = 'spanctl runs wait "h!!"'
"""The control: typed so, the earlier line comes in."""


def test_bash(hostile: Prompt) -> None:
    """It quotes nothing itself, and looks for earlier lines in double quotes, too."""
    program = shell("bash", BASH_COMPLETION)
    (hostile.home / ".bashrc").write_text(f"cd; PS1='READY> '; . {BASH_COMPLETION}\n")
    command = [program, "--rcfile", str(hostile.home / ".bashrc"), "-i"]
    # A line that has an escaped backtick is completed no further.
    each = [
        (f"spanctl runs wait {quote}{name[0]}\t", [name])
        for quote in ("", "'", '"')
        for name in NAMES
    ]
    check(hostile, command, [*each, (RAW, [f"h{EARLIER}"])])


def test_a_usual_completion_of_bash_runs_it(hostile: Prompt) -> None:
    """Control."""
    naive = '_naive() { COMPREPLY=($(compgen -W "$(cat names)" -- "$2")); }'
    (hostile.home / ".bashrc").write_text(f"cd; PS1='READY> '\n{naive}\ncomplete -F _naive spanctl")
    command = [shell("bash"), "--rcfile", str(hostile.home / ".bashrc"), "-i"]
    hostile.types(command, ["spanctl runs show a\t"])
    assert (hostile.home / "marker").exists()


def test_zsh(hostile: Prompt) -> None:
    """Values and what is said about them."""
    program = shell("zsh")
    (hostile.home / ".zshrc").write_text(
        "cd; PS1='READY> '\n"
        f"fpath=({hostile.home}/share/zsh/site-functions $fpath)\n"
        "autoload -Uz compinit; compinit -u -D\n"
    )
    lines = [in_one_line(""), in_one_line('"'), (RAW, [f"h{EARLIER}"])]
    check(hostile, [program, "-d", "-i"], lines)


def test_fish(hostile: Prompt) -> None:
    """Values and what is said about them."""
    program = shell("fish")
    ready = "cd; function fish_prompt; echo -n 'READY> '; end; set -g fish_greeting"
    check(hostile, [program, "--private", "-C", ready, "-i"], [in_one_line("")])


def test_no_name_becomes_an_option() -> None:
    """A run that is called ``--yes`` is offered where it is taken for a name only."""
    Contexts.load().with_context("prod", {}).using("prod").save()
    cache = Cache.of(resolve())
    cache.write({"flow_runs": [("--yes", ""), ("good", "")]})
    cache.path.with_suffix(".asked").touch()

    def offered(line: str) -> set[str]:
        environ = {**os.environ, "_SPANCTL_LINE": line, "_SPANCTL_BREAKS": " \t\n\"'><=;|&(:"}
        return set(answer("bash", environ))

    assert offered("spanctl runs cancel ") == {"good"}
    assert offered("spanctl runs wait good ") == {"good"}
    assert offered("spanctl runs cancel -- ") == {"good", "--yes"}
    assert offered("spanctl runs cancel -- --y") == {"--yes"}
    assert "--yes" in offered("spanctl txn list --flow-run ")
