"""What opens Prefect's API and lies in a file: who may read it, and where it is sent."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spanctl.errors import ConfigurationError
from spanctl.orchestration import keys
from spanctl.orchestration.settings import ApiSettings
from spanctl.settings import Contexts, Settings, resolve

URL = "http://127.0.0.1:4200/api"
WORD = "spanctl:a-word"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "a file"
    made.write_text(f"{WORD}\n")
    made.chmod(0o600)
    return made


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"SPANCTL_CONFIG_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path)}


@pytest.fixture
def settings(file: Path, environ: dict[str, str]) -> Callable[..., Settings]:
    """Return a function that resolves a context whose API a file opens."""
    values = {"prefect_api_url": URL, "prefect_auth_string": f"file:{file}"}
    contexts = Contexts(Path(environ["SPANCTL_CONFIG_HOME"]) / "contexts.toml")
    contexts.with_context("here", values).using("here").save()

    def make(**more: str) -> Settings:
        return resolve(environ={**environ, **more})

    return make


def reached(settings: Settings, environ: dict[str, str]) -> ApiSettings:
    found = keys.reach(settings, environ=environ)
    assert found is not None
    return found


def test_a_file_opens_the_api_of_its_context(
    settings: Callable[..., Settings], environ: dict[str, str]
) -> None:
    """Its line is the auth string; nothing shows it."""
    found = reached(settings(), environ)
    assert (found.url, found.auth_string, found.key) == (URL, WORD, None)
    assert WORD not in repr(found)


@pytest.mark.parametrize(
    "other", [{"PREFECT_API_KEY": "of-another"}, {"PREFECT_API_AUTH_STRING": "of:another"}]
)
def test_a_file_goes_before_what_the_environment_holds(
    settings: Callable[..., Settings], environ: dict[str, str], other: dict[str, str]
) -> None:
    """The shell's own may be for any server; the file is for this one."""
    found = reached(settings(**other), {**environ, **other})
    assert (found.auth_string, found.key) == (WORD, None)


@pytest.mark.parametrize(
    ("url", "is_sent"), [(URL, True), (f"{URL}/", True), ("http://other:4200/api", False)]
)
def test_what_a_context_names_stays_with_its_api(
    settings: Callable[..., Settings], environ: dict[str, str], url: str, is_sent: bool
) -> None:
    """A variable that names another API gets nothing of it."""
    found = reached(settings(PREFECT_API_URL=url), {**environ, "PREFECT_API_URL": url})
    assert found.auth_string == (WORD if is_sent else None)


def test_an_explicit_reference_goes_anywhere(
    settings: Callable[..., Settings], environ: dict[str, str], tmp_path: Path
) -> None:
    """Who names both, the API and what opens it, is taken at their word."""
    other = tmp_path / "other"
    other.write_text("me:mine")
    other.chmod(0o600)
    told = {"PREFECT_API_URL": "http://other/api", "SPANCTL_PREFECT_AUTH_STRING": f"file:{other}"}
    found = reached(settings(**told), {**environ, **told})
    assert (found.url, found.auth_string) == ("http://other/api", "me:mine")


def absent(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_text("\n")


def lines(path: Path) -> None:
    path.write_text("one\ntwo\n")


def huge(path: Path) -> None:
    path.write_text("x" * 5000)


def for_group(path: Path) -> None:
    path.chmod(0o640)


def for_all(path: Path) -> None:
    path.chmod(0o604)


def writable(path: Path) -> None:
    path.chmod(0o620)


def foreign(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (absent, "can't read"),
        (folder, "can't read"),
        (empty, "doesn't hold one line"),
        (lines, "doesn't hold one line"),
        (huge, "doesn't hold one line"),
        (for_group, "is open to others"),
        (for_all, "is open to others"),
        (writable, "is open to others"),
        (foreign, "is open to others"),
    ],
)
def test_a_file_that_can_t_be_used(
    settings: Callable[..., Settings],
    environ: dict[str, str],
    file: Path,
    harm: Callable[[Path], None],
    told: str,
) -> None:
    """It is named with the next command; what it holds is not."""
    harm(file)
    with pytest.raises(ConfigurationError, match=told) as caught:
        keys.reach(settings(), environ=environ)
    assert str(file) in caught.value.message
    mend = "chmod 600 '" if "open" in told else "spanctl local up"
    assert mend in caught.value.hint
    assert WORD not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["file:", "file:relative/path", "file:~/x", "file", "a-word-pasted-by-mistake", "adc"]
)
def test_what_is_no_reference_is_not_quoted(settings: Callable[..., Settings], text: str) -> None:
    """A secret pasted in place of its reference goes no further."""
    with pytest.raises(ConfigurationError, match="prefect_auth_string") as caught:
        settings(SPANCTL_PREFECT_AUTH_STRING=text)
    assert "a-word" not in f"{caught.value} {caught.value.hint}"


def test_assignments_name_the_file(settings: Callable[..., Settings], file: Path) -> None:
    """The shell reads it, and leaves out what it has."""
    url = f"PREFECT_API_URL={URL}"
    word = f"PREFECT_API_AUTH_STRING=\"$(cat '{file}')\""
    assert keys.assignments(settings(), URL, {}) == [url, word]
    assert keys.assignments(settings(), URL, {"PREFECT_API_URL": URL}) == [word]
    assert keys.assignments(settings(), URL, {"PREFECT_API_AUTH_STRING": "x"}) == [url]
    password = "http://user:word@host/api"  # noqa: S105 - what must not show
    assert keys.assignments(settings(), password, {})[0] == "PREFECT_API_URL=http://host/api"
