"""``spanctl help``: what a message has no room for."""

import json
from collections.abc import Callable

import pytest

from spanctl_cli import exit_codes
from spanctl_cli.catalogue import ERRORS
from spanctl_cli.exit_codes import MEANINGS, ExitCode
from tests.fixtures.cli import Ended, Spanctl


def test_bare_help_lists_the_topics(spanctl: Spanctl) -> None:
    """Each topic that is listed is explained."""
    result = spanctl("help", "-o", "name")
    assert result.exit_code == 0
    topics = result.stdout.splitlines()
    assert {"exit-codes", "errors", "output", "schemas"} <= set(topics)
    for topic in set(topics) - {"COMMAND"}:
        assert spanctl("help", topic).stdout


def test_the_exit_codes_are_the_table_of_the_readme(spanctl: Spanctl) -> None:
    """Help, code and README say the same of the same codes."""
    items = json.loads(spanctl("help", "exit-codes", "-o", "json").stdout)["items"]
    assert [(item["exit_code"], item["meaning"]) for item in items] == [
        (code.value, MEANINGS[code]) for code in ExitCode
    ]
    rows = spanctl("help", "exit-codes", "--no-header", "--fields", "exit_code,meaning").stdout
    table = [f"| {row.replace(chr(9), ' | ')} |" for row in rows.splitlines()]
    assert exit_codes.markdown().splitlines()[2:] == table


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_every_error_code_is_explained(spanctl: Spanctl, code: str) -> None:
    """Its exit code, its cause and what to type, as prose and as JSON."""
    result = spanctl("help", code)
    assert result.exit_code == 0
    head, cause, further = result.stdout.strip().split("\n\n")
    assert head.startswith(f"{code}: exit {ERRORS[code].exit_code.value}, ")
    assert (cause, further) == (ERRORS[code].cause, ERRORS[code].next)
    told = json.loads(spanctl("help", code, "-o", "json").stdout)
    assert (told["code"], told["exit_code"]) == (code, ERRORS[code].exit_code.value)


def test_a_number_is_an_exit_code(spanctl: Spanctl) -> None:
    """It lists the errors that end with it."""
    assert spanctl("help", "6", "-o", "name").stdout.splitlines() == [
        code for code, found in ERRORS.items() if found.exit_code is ExitCode.CONFLICT
    ]


@pytest.mark.parametrize("words", [("audit",), ("audit", "list"), ("run", "sql"), ("init",)])
def test_help_of_a_command_is_its_help_page(spanctl: Spanctl, words: tuple[str, ...]) -> None:
    """``help COMMAND`` and ``COMMAND --help`` are the same text."""
    assert spanctl("help", *words).stdout == spanctl(*words, "--help").stdout


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("exit-code",), "exit-codes"),
        (("key_clsed",), "key_closed"),
        (("adit",), "audit"),
        (("audit", "lst"), "list"),
    ],
)
def test_what_is_misspelt_is_answered_with_what_was_meant(
    spanctl: Spanctl, words: tuple[str, ...], meant: str
) -> None:
    """Commands below groups, codes and topics alike."""
    result = spanctl("help", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"did you mean '{meant}'?" in result.stderr


def test_a_global_option_behind_the_command_is_put_right(spanctl: Spanctl) -> None:
    """The hint is the command line as it should have been."""
    result = spanctl("context", "list", "--verbose")
    assert result.exit_code == 2
    assert "it goes before the command: spanctl --verbose context list" in result.stderr


def test_an_error_on_a_terminal_names_its_explanation(terminal: Callable[..., Ended]) -> None:
    """A person reads where there is more; a script's stderr stays as short as it was."""
    shown = terminal("context", "use", "nope", env={"NO_COLOR": "1"})
    assert shown.exit_code == 5
    assert shown.stdout.splitlines()[-1] == "more: spanctl help not_found"


@pytest.mark.parametrize(
    "words", [("run", "import", "--skip-bad"), ("run", "sql", "-e"), ("runs", "list", "--limit")]
)
def test_an_option_without_its_value_names_the_help_of_its_command(
    spanctl: Spanctl, words: tuple[str, ...]
) -> None:
    """Not that of all commands."""
    done = spanctl(*words)
    assert done.exit_code == 2
    assert f"see: spanctl {words[0]} {words[1]} --help" in done.stderr
