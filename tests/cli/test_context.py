"""``spanctl context``: named databases, chosen and shown, each value with its source."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from spanctl.settings import Contexts
from tests.fixtures.cli import Ended

Spanctl = Callable[..., Result]
PLACE = ("project=proj-1", "instance=main", "database=orders")


@pytest.fixture
def two(spanctl: Spanctl) -> Spanctl:
    """Two contexts, the first in use."""
    assert spanctl("context", "create", "prod", *PLACE).exit_code == 0
    assert spanctl("context", "create", "test", "emulator_host=127.0.0.1:9010").exit_code == 0
    return spanctl


def shown(spanctl: Spanctl, *before: str) -> dict[str, tuple[str | None, str, str | None]]:
    document = json.loads(spanctl(*before, "context", "show", "-o", "json").stdout)
    return {
        item["name"]: (item["value"], item["source"], item["origin"])
        for item in document["settings"]
    }


def test_the_first_context_is_used_from_then_on(two: Spanctl, config_home: Path) -> None:
    """Later ones wait to be chosen."""
    contexts = Contexts.load(config_home / "contexts.toml")
    assert contexts.current == "prod"
    result = two("context", "list", "-o", "json")
    assert [(item["name"], item["in_use"]) for item in json.loads(result.stdout)["items"]] == [
        ("prod", True),
        ("test", False),
    ]
    assert two("context", "list", "-o", "name").stdout == "prod\ntest\n"


def test_listing_shows_the_whole_database_name(two: Spanctl) -> None:
    """A context that names no whole database shows none, not a half one."""
    rows = two("context", "list", "--fields", "name,database").stdout.splitlines()[1:]
    assert rows == ["prod\tprojects/proj-1/instances/main/databases/orders", "test\t"]


def test_show_names_each_source(
    two: Spanctl, config_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flag, environment, file, default and unset are told apart."""
    monkeypatch.setenv("SPANCTL_DATABASE", "other")
    found = shown(two)
    assert found["project"] == ("proj-1", "context", f"prod in {config_home / 'contexts.toml'}")
    assert found["database"] == ("other", "environment", "SPANCTL_DATABASE")
    assert found["spanner_endpoint"] == ("spanner.googleapis.com", "default", None)
    assert found["emulator_host"] == (None, "unset", None)


def test_the_flag_chooses_for_one_command(two: Spanctl) -> None:
    """--context beats the environment and leaves the file alone."""
    result = two("-c", "test", "context", "show", "-o", "json")
    document = json.loads(result.stdout)
    assert (document["context"], document["chosen_by"]) == ("test", "flag")
    assert json.loads(two("context", "show", "-o", "json").stdout)["context"] == "prod"


def test_local_is_used_when_nothing_else_is_chosen(spanctl: Spanctl, config_home: Path) -> None:
    """What ``local up`` leaves behind works without a choice."""
    path = config_home / "contexts.toml"
    Contexts(path, None, {"local": {}, "prod": {}}).save()
    document = json.loads(spanctl("context", "show", "-o", "json").stdout)
    assert (document["context"], document["chosen_by"]) == ("local", "default")


def test_use_changes_the_choice(two: Spanctl) -> None:
    """And says so on stderr, where it spoils no pipe."""
    result = two("context", "use", "test")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "in use: test\n")
    assert json.loads(two("context", "show", "-o", "json").stdout)["context"] == "test"
    assert two("-q", "context", "use", "prod").stderr == ""


def test_set_changes_and_unsets_settings_of_the_context_in_use(two: Spanctl) -> None:
    """An empty value unsets; a dash stands for an underscore."""
    assert two("context", "set", "work-pool=fast", "project=").exit_code == 0
    found = shown(two)
    assert found["work_pool"][0] == "fast"
    assert found["project"][0] is None
    assert found["instance"][0] == "main"


def test_set_follows_the_flag(two: Spanctl) -> None:
    """--context names the context that is changed."""
    assert two("-c", "test", "context", "set", "project=proj-2").exit_code == 0
    assert shown(two)["project"][0] == "proj-1"
    assert shown(two, "-c", "test")["project"][0] == "proj-2"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("use", "prdo"), 5, "there is no context 'prdo'; did you mean 'prod'?"),
        (("delete", "nope", "--yes"), 5, "there is no context 'nope'"),
        (("create", "prod"), 6, "there is a context 'prod' already"),
        (("create", "a b"), 2, "'a b' is no name for a context"),
        (("create", "../up"), 2, "'../up' is no name for a context"),
        (("create", "new", "databse=x"), 2, "there is no setting 'databse'; did you mean database"),
        (("set", "database"), 2, "'database' is not SETTING=VALUE"),
        (("lst",), 2, "Did you mean 'list'"),
    ],
)
def test_mistakes_are_named_and_change_nothing(
    two: Spanctl, config_home: Path, args: tuple[str, ...], code: int, message: str
) -> None:
    """One line, the exit code of its kind, and the file as it was."""
    path = config_home / "contexts.toml"
    before = path.read_bytes()
    result = two("context", *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert path.read_bytes() == before


def test_a_misspelt_flag_context_is_suggested_everywhere(two: Spanctl) -> None:
    """The suggestion belongs to the setting, not to one command."""
    result = two("-c", "tset", "context", "show")
    assert result.exit_code == 5
    assert "did you mean 'test'?" in result.stderr


def test_delete_asks_and_a_script_must_agree_beforehand(two: Spanctl) -> None:
    """Without a terminal nothing is deleted unless --yes says so."""
    result = two("context", "delete", "prod", stdin="y\n")
    assert result.exit_code == 2
    assert "hint: pass --yes" in result.stderr
    assert two("context", "delete", "prod", "--yes").exit_code == 0
    assert two("context", "list", "-o", "name").stdout == "test\n"
    assert json.loads(two("context", "show", "-o", "json").stdout)["context"] is None


def test_list_and_use_mend_a_choice_that_is_gone(two: Spanctl, config_home: Path) -> None:
    """A current context that someone removed by hand locks nobody out."""
    path = config_home / "contexts.toml"
    path.write_text(path.read_text().replace('current = "prod"', 'current = "gone"'))
    assert two("context", "list", "-o", "name").stdout == "prod\ntest\n"
    assert two("context", "show").exit_code == 5
    assert two("context", "use", "test").exit_code == 0
    assert two("context", "show").exit_code == 0


def test_a_broken_file_is_named(spanctl: Spanctl, config_home: Path) -> None:
    """Exit 2, with the path to mend."""
    config_home.mkdir()
    (config_home / "contexts.toml").write_text("[contexts")
    result = spanctl("context", "list")
    assert result.exit_code == 2
    assert str(config_home / "contexts.toml") in result.stderr


def test_on_a_terminal_delete_takes_a_yes(
    child: Callable[..., Ended], terminal: Callable[..., Ended]
) -> None:
    """Anything but y or yes, Enter and end of file included, declines with exit 1."""
    assert child("context", "create", "prod").exit_code == 0
    for answer in ("\n", "no\n", "Yup\n", "\x04"):
        ended = terminal("context", "delete", "prod", keys=answer)
        assert ended.exit_code == 1
        assert "Forget the context prod? [y/N]" in ended.stdout
        assert "not confirmed" in ended.stdout
    assert terminal("--no-input", "context", "delete", "prod", keys="y\n").exit_code == 2
    assert terminal("context", "delete", "prod", keys="y\n").exit_code == 0
    assert child("context", "list", "-o", "name").stdout == ""


def test_ctrl_c_at_the_question_is_130(
    child: Callable[..., Ended], terminal: Callable[..., Ended]
) -> None:
    """The interrupt is not an answer."""
    assert child("context", "create", "prod").exit_code == 0
    assert terminal("context", "delete", "prod", keys="\x03").exit_code == 130
    assert child("context", "list", "-o", "name").stdout == "prod\n"


def test_help_is_plain_in_a_pipe_and_bold_on_a_terminal(
    child: Callable[..., Ended], terminal: Callable[..., Ended]
) -> None:
    """Headings stand out where that can be seen; NO_COLOR is respected."""
    assert "\x1b" not in child("--help").stdout
    assert "\x1b[1mSet up\x1b[0m:" in terminal("--help").stdout
    assert "\x1b" not in terminal("--help", env={"NO_COLOR": "1"}).stdout


def test_completion_offers_commands_and_context_names(
    two: Spanctl, child: Callable[..., Ended]
) -> None:
    """The installed scripts get their answers from spanctl itself."""
    del two

    def complete(words: str) -> list[str]:
        return child(env={"_SPANCTL_COMPLETE": "bash", "_SPANCTL_LINE": words}).stdout.split()

    assert "context" in complete("spanctl con")
    assert complete("spanctl context use pr") == ["prod"]


def test_a_pasted_secret_is_not_kept(two: Spanctl, config_home: Path) -> None:
    """Neither set nor create writes what is no reference; neither repeats it."""
    pasted = "pnu_a-key-pasted-in-place-of-its-reference"
    for command in (("set",), ("create", "third")):
        ended = two("context", *command, f"prefect_api_key={pasted}")
        assert ended.exit_code == 2
        assert pasted not in ended.output + ended.stderr
        assert "secret:projects/" in ended.stderr
    assert pasted not in (config_home / "contexts.toml").read_text()


def test_a_context_with_a_pasted_secret_can_be_mended(two: Spanctl, config_home: Path) -> None:
    """What was written by hand is refused, not shown, and can be unset."""
    path = config_home / "contexts.toml"
    pasted = "pnu_a-key-pasted-in-place-of-its-reference"
    path.write_text(path.read_text() + f'prefect_api_key = "{pasted}"\n')
    assert Contexts.load(path).get("test")["prefect_api_key"] == pasted
    assert two("context", "use", "test").exit_code == 0
    ended = two("context", "show")
    assert ended.exit_code == 2
    assert pasted not in ended.output + ended.stderr
    assert two("context", "set", "prefect_api_key=").exit_code == 0
    assert shown(two)["prefect_api_key"] == (None, "unset", None)


def test_a_setting_that_nobody_knows_warns_and_stops_nothing(
    two: Spanctl, config_home: Path
) -> None:
    """It is named where a person reads it, its value never, and it can be unset."""
    path = config_home / "contexts.toml"
    path.write_text(path.read_text() + 'data-base = "hidden-word"\n')
    assert two("context", "use", "test").exit_code == 0
    ended = two("context", "show")
    assert (ended.exit_code, ended.stderr) == (
        0,
        "warning: context test has settings that spanctl doesn't know: data-base\n",
    )
    assert "hidden-word" not in ended.output
    assert two("context", "set", "instance=other").exit_code == 0
    assert Contexts.load(path).get("test")["data-base"] == "hidden-word"
    for quiet in (("-q", "context", "show"), ("context", "show", "-o", "json")):
        assert two(*quiet).stderr == ""
    assert two("context", "set", "data-base=").exit_code == 0
    assert two("context", "show").stderr == ""
    assert Contexts.load(path).get("test")["instance"] == "other"


@pytest.mark.parametrize("verb", [("create", "new"), ("set",)])
@pytest.mark.parametrize("setting", ["project=P", "instance=i", "database=Orders"])
def test_what_can_be_no_part_of_a_name_is_refused(
    two: Spanctl, verb: tuple[str, ...], setting: str
) -> None:
    """Where it is typed, with the rule; not by the first command that needs a database."""
    before = two("context", "list", "-o", "json").stdout
    result = two("context", *verb, setting)
    part, _, text = setting.partition("=")
    assert result.exit_code == 2
    assert f"{text!r} is no id of a" in result.stderr
    assert f"{part}'s id has 2 to" in result.stderr
    assert two("context", "list", "-o", "json").stdout == before
