"""Settings: where each value comes from, and a context file that is never half-written."""

import os
import stat
from pathlib import Path

import pytest

from spanctl.errors import ConfigurationError, NotFoundError, UsageError
from spanctl.resources import DatabaseName
from spanctl.settings import Contexts, Source, config_home, resolve, state_home
from spanctl.variables import VARIABLES

PLACE = {"project": "proj-1", "instance": "inst-1", "database": "data-1"}


def contexts(tmp_path: Path, current: str | None = None, **named: dict[str, str]) -> Contexts:
    return Contexts(tmp_path / "contexts.toml", current, named)


def test_a_flag_beats_the_environment_beats_the_context_beats_the_default(tmp_path: Path) -> None:
    """Precedence holds for one setting as each place is taken away."""
    known = contexts(tmp_path, "a", a={"spanner_endpoint": "from-context"})
    environ = {"SPANCTL_SPANNER_ENDPOINT": "from-environment"}
    flags = {"spanner_endpoint": "from-flag"}

    def value(**places: object) -> tuple[str | None, Source, str]:
        setting = resolve(contexts=known, **{"environ": {}, **places}).values["spanner_endpoint"]  # type: ignore[arg-type]
        return setting.value, setting.source, setting.origin

    assert value(flags=flags, environ=environ) == ("from-flag", Source.FLAG, "--spanner-endpoint")
    assert value(environ=environ) == (
        "from-environment",
        Source.ENVIRONMENT,
        "SPANCTL_SPANNER_ENDPOINT",
    )
    assert value() == ("from-context", Source.CONTEXT, f"a in {known.path}")
    known = contexts(tmp_path)
    assert value() == ("spanner.googleapis.com", Source.DEFAULT, "default")


def test_empty_flags_and_variables_count_as_absent(tmp_path: Path) -> None:
    """An empty variable, as shells make them, never hides the context's value."""
    known = contexts(tmp_path, "a", a=PLACE)
    found = resolve(
        contexts=known, environ={"SPANCTL_DATABASE": ""}, flags={"project": None, "instance": ""}
    )
    assert found.database == DatabaseName("proj-1", "inst-1", "data-1")


def test_google_s_own_project_variable_does_not_move_a_context() -> None:
    """GOOGLE_CLOUD_PROJECT, set in many shells for other tools, is not taken for spanctl's."""
    empty = Contexts(Path("none"))
    assert resolve(environ={"SPANCTL_PROJECT": "ours"}, contexts=empty).get("project") == "ours"
    assert resolve(environ={"GOOGLE_CLOUD_PROJECT": "other"}, contexts=empty).get("project") is None


def test_the_context_is_chosen_by_flag_then_environment_then_file_then_local(
    tmp_path: Path,
) -> None:
    """Each way of choosing a context hides those after it."""
    every = contexts(tmp_path, "c", a={}, b={}, c={}, local={})
    environ = {"SPANCTL_CONTEXT": "b"}
    chosen = resolve(context="a", environ=environ, contexts=every)
    assert (chosen.context, chosen.context_source) == ("a", Source.FLAG)
    chosen = resolve(environ=environ, contexts=every)
    assert (chosen.context, chosen.context_source) == ("b", Source.ENVIRONMENT)
    chosen = resolve(environ={}, contexts=every)
    assert (chosen.context, chosen.context_source) == ("c", Source.CONTEXT)
    chosen = resolve(environ={}, contexts=contexts(tmp_path, None, a={}, local={}))
    assert (chosen.context, chosen.is_local) == ("local", True)
    assert resolve(environ={}, contexts=contexts(tmp_path, None, a={})).context is None


@pytest.mark.parametrize("where", [{"context": "nope"}, {"environ": {"SPANCTL_CONTEXT": "nope"}}])
def test_a_context_that_does_not_exist_is_refused(tmp_path: Path, where: dict[str, object]) -> None:
    """No other context is ever taken in place of the one that was named."""
    with pytest.raises(NotFoundError, match="no context 'nope'") as caught:
        resolve(contexts=contexts(tmp_path, "a", a={}), **{"environ": {}, **where})  # type: ignore[arg-type]
    assert caught.value.hint == "known are: a"


def test_a_misspelt_context_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    """A near miss names its neighbour."""
    with pytest.raises(NotFoundError, match="did you mean 'production'"):
        contexts(tmp_path, production={}, local={}).get("prodution")


def test_a_missing_part_of_the_database_is_named_with_the_command_that_sets_it(
    tmp_path: Path,
) -> None:
    """The hint fits the state: with a context, set it; without one, make one."""
    known = contexts(tmp_path, "a", a={"project": "proj-1"})
    with pytest.raises(ConfigurationError, match="no instance is set") as caught:
        _ = resolve(environ={}, contexts=known).database
    assert caught.value.hint == "run: spanctl context set instance=VALUE"
    with pytest.raises(ConfigurationError) as caught:
        _ = resolve(environ={}, contexts=contexts(tmp_path)).database
    assert "spanctl local up" in caught.value.hint


def test_a_flag_for_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    """Programs that pass wrong names hear of it."""
    with pytest.raises(UsageError, match="unknown settings: nope"):
        resolve(flags={"nope": "x"}, environ={}, contexts=contexts(tmp_path))


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """A file written by save() reads back equal, whatever characters it holds."""
    odd = {**PLACE, "work_pool": 'a "quoted" \\ pool\n= é 日本'}
    saved = contexts(tmp_path / "new" / "folder", "a", a=odd, b={})
    saved.save()
    assert Contexts.load(saved.path) == saved


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Neither the file nor the folder made for it can be read by others, whatever the umask."""
    saved = contexts(tmp_path / "new", "a", a=PLACE)
    before = os.umask(0)
    try:
        saved.save()
    finally:
        os.umask(before)
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(saved.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in saved.path.parent.iterdir()] == ["contexts.toml"]


def test_a_failing_save_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contexts survive a write that dies half-way."""
    contexts(tmp_path, "a", a=PLACE).save()

    def full(_handle: int, *_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", full)
    with pytest.raises(OSError, match="No space"):
        contexts(tmp_path, "b", b={}).save()
    assert Contexts.load(tmp_path / "contexts.toml").current == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["contexts.toml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[contexts", "can't read the contexts"),
        ("[contexts]\na = 3", "no table of settings"),
        ("contexts = 3", "no context file"),
        ("current = 3", "no context file"),
        ("[contexts.a]\nproject = 5", "no text: project"),
        ("\x80\x81", "can't read the contexts"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    """A damaged file is an error that names the file, never ignored."""
    path = tmp_path / "contexts.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=message) as caught:
        Contexts.load(path)
    assert str(path) in caught.value.message


def test_what_no_setting_is_called_stops_nothing_and_stays(tmp_path: Path) -> None:
    """A newer spanctl may know it: it is told, has no effect, and outlives a change."""
    path = tmp_path / "contexts.toml"
    path.write_text("[contexts.a]\nproject = 'p'\ndatbase = 5\n[contexts.b]\nother = 'x'\n")
    found = resolve(context="a", environ={}, contexts=Contexts.load(path))
    assert (found.unknown, found.get("project")) == (("datbase",), "p")
    Contexts.load(path).using("b").save()
    assert Contexts.load(path).contexts["a"] == {"project": "p", "datbase": 5}


def test_a_missing_file_is_one_without_contexts(tmp_path: Path) -> None:
    """The first run of all needs no file."""
    assert Contexts.load(tmp_path / "none.toml").contexts == {}


def test_forgetting_the_context_in_use_leaves_none_in_use(tmp_path: Path) -> None:
    """No file ever names a current context that it lacks, by way of this module."""
    both = contexts(tmp_path, "a", a={}, b={})
    assert both.without_context("a").current is None
    assert both.without_context("b").current == "a"
    with pytest.raises(NotFoundError):
        both.using("c")


def test_folders_follow_the_environment() -> None:
    """SPANCTL_*_HOME first, then XDG, then HOME."""
    assert config_home({"SPANCTL_CONFIG_HOME": "/x", "XDG_CONFIG_HOME": "/y"}) == Path("/x")
    assert config_home({"XDG_CONFIG_HOME": "/y"}) == Path("/y/spanctl")
    assert config_home({"HOME": "/h"}) == Path("/h/.config/spanctl")
    assert state_home({"SPANCTL_STATE_HOME": "/x"}) == Path("/x")
    assert state_home({"HOME": "/h"}) == Path("/h/.local/state/spanctl")


def test_every_setting_says_what_it_is() -> None:
    """Settings have unique names, unique variables, and help."""
    names = [variable.name for variable in VARIABLES]
    keys = [key for variable in VARIABLES for key in variable.environment]
    assert len(set(names)) == len(names)
    assert len(set(keys)) == len(keys)
    assert all(variable.help for variable in VARIABLES)


PASTED = "pnu_a-key-pasted-in-place-of-its-reference"


@pytest.mark.parametrize(
    "name", ["credentials", "secret_reader", "prefect_api_key", "prefect_auth_string"]
)
def test_a_secret_in_place_of_a_reference_is_refused(tmp_path: Path, name: str) -> None:
    """Wherever it stands, the message says where, what to write instead, and not what it was."""
    known = contexts(tmp_path, "a", a={name: PASTED})
    for given, origin in (
        ({"contexts": known, "environ": {}}, "contexts.toml"),
        (
            {"contexts": contexts(tmp_path), "environ": {f"SPANCTL_{name.upper()}": PASTED}},
            f"SPANCTL_{name.upper()}",
        ),
    ):
        with pytest.raises(ConfigurationError, match="no credential reference") as refused:
            resolve(**given)  # type: ignore[arg-type]
        assert refused.value.message.startswith(f"{name} (")
        assert origin in refused.value.message
        assert PASTED not in f"{refused.value!r} {refused.value} {refused.value.hint}"
        assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prefect_api_key", "adc"),
        ("prefect_auth_string", "impersonate:a@b.example"),
        ("secret_reader", "secret:projects/p1/secrets/s"),
        ("secret_reader", "impersonate:a@b.example@from:secret:projects/p1/secrets/s"),
        ("secret_reader", "chain:adc,impersonate:a@b.example"),
    ],
)
def test_a_reference_of_the_wrong_kind_is_refused(tmp_path: Path, name: str, value: str) -> None:
    """A key is in a secret; and secrets can't be read with what is in a secret."""
    with pytest.raises(ConfigurationError, match=name):
        resolve(contexts=contexts(tmp_path, "a", a={name: value}), environ={})


def test_a_context_s_credentials_go_before_the_ambient_ones(tmp_path: Path) -> None:
    """A variable that Google's tools share does not take a context's place; our own does."""
    known = contexts(tmp_path, "a", a={"adc_file": "from-context"})
    ambient = {"GOOGLE_APPLICATION_CREDENTIALS": "ambient"}
    assert resolve(contexts=known, environ=ambient).get("adc_file") == "from-context"
    ours = {**ambient, "SPANCTL_ADC_FILE": "ours"}
    assert resolve(contexts=known, environ=ours).get("adc_file") == "ours"
