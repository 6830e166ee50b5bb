"""Where Prefect's API is, by Prefect's own rules."""

from pathlib import Path

import pytest

from spanctl.errors import ConfigurationError
from spanctl.orchestration.settings import ApiSettings, api_settings

PROFILES = """
active = "work"

[profiles.work]
PREFECT_API_URL = "http://work/api"
PREFECT_API_KEY = "work-key"

[profiles.other]
PREFECT_API_URL = "http://other/api"
PREFECT_API_AUTH_STRING = "user:word"
"""


@pytest.fixture
def home(tmp_path: Path) -> str:
    (tmp_path / "profiles.toml").write_text(PROFILES)
    return str(tmp_path)


def test_nothing_is_known(tmp_path: Path) -> None:
    """Without a variable and without a profile there is no API, and that is no error."""
    assert api_settings(environ={"PREFECT_HOME": str(tmp_path)}) is None


def test_active_profile(home: str) -> None:
    """The active profile counts, URL and key alike."""
    found = api_settings(environ={"PREFECT_HOME": home})
    assert found == ApiSettings("http://work/api", "work-key")


def test_another_profile(home: str) -> None:
    """PREFECT_PROFILE chooses another profile."""
    found = api_settings(environ={"PREFECT_HOME": home, "PREFECT_PROFILE": "other"})
    assert found == ApiSettings("http://other/api", None, "user:word")


def test_profiles_elsewhere(home: str, tmp_path: Path) -> None:
    """PREFECT_PROFILES_PATH names the file itself."""
    moved = tmp_path / "elsewhere.toml"
    (Path(home) / "profiles.toml").rename(moved)
    found = api_settings(environ={"PREFECT_PROFILES_PATH": str(moved)})
    assert found is not None
    assert found.url == "http://work/api"


def test_environment_before_profile(home: str) -> None:
    """A variable wins over the profile; an empty one doesn't."""
    environ = {"PREFECT_HOME": home, "PREFECT_API_URL": "http://env/api/", "PREFECT_API_KEY": ""}
    assert api_settings(environ=environ) == ApiSettings("http://env/api", "work-key")


def test_given_url_first(home: str) -> None:
    """A URL that the caller knows wins over all."""
    environ = {"PREFECT_HOME": home, "PREFECT_API_URL": "http://env/api"}
    found = api_settings("http://given/api", environ=environ)
    assert found is not None
    assert found.url == "http://given/api"


def test_broken_profiles(tmp_path: Path) -> None:
    """A profiles file that is no TOML is an error that names the file, not its content."""
    (tmp_path / "profiles.toml").write_text("PREFECT_API_KEY = secret-word")
    with pytest.raises(ConfigurationError, match=r"profiles\.toml") as caught:
        api_settings(environ={"PREFECT_HOME": str(tmp_path)})
    assert "secret-word" not in f"{caught.value} {caught.value.hint}"


def test_secrets_do_not_show() -> None:
    """What opens the API is not in the settings' repr."""
    shown = repr(ApiSettings("http://a/api", "secret-key", "user:secret-word"))
    assert "secret" not in shown
