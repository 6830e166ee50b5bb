"""The emulator is found where people have it, and its absence is explained."""

from pathlib import Path

import pytest

from spanctl.errors import ConfigurationError
from spanctl.local import emulator
from spanctl.local.emulator import Emulator, find


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "_SDK_ROOTS", ("~/google-cloud-sdk",))


def test_the_environment_comes_first(tmp_path: Path) -> None:
    """A program that is named is the one that is used."""
    named = program(tmp_path / "x" / "mine")
    program(tmp_path / "bin" / "emulator_main")
    environ = {"SPANCTL_SPANNER_EMULATOR": str(named), "PATH": str(tmp_path / "bin")}
    assert find(environ) == Emulator(str(named))


@pytest.mark.parametrize("exists", [True, False])
def test_a_named_program_that_is_none_is_refused(tmp_path: Path, exists: bool) -> None:
    """Not silently replaced by another one, be it missing or not executable."""
    named = tmp_path / "emulator_main"
    if exists:
        named.write_text("")
    program(tmp_path / "bin" / "emulator_main")
    environ = {"SPANCTL_SPANNER_EMULATOR": str(named), "PATH": str(tmp_path / "bin")}
    with pytest.raises(ConfigurationError, match="which is no program"):
        find(environ)


def test_path_then_cloud_sdk_then_container(tmp_path: Path) -> None:
    """In that order; the SDK is found through gcloud's link, or in the home folder."""
    in_sdk = "bin/cloud_spanner_emulator/emulator_main"
    environ = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}
    podman = program(tmp_path / "bin" / "podman")
    assert find(environ) == Emulator(str(podman), emulator.IMAGE)
    at_home = program(tmp_path / "home" / "google-cloud-sdk" / in_sdk)
    assert find(environ) == Emulator(str(at_home))
    program(tmp_path / "sdk" / "bin" / "gcloud")
    (tmp_path / "bin" / "gcloud").symlink_to(tmp_path / "sdk" / "bin" / "gcloud")
    beside_gcloud = program(tmp_path / "sdk" / in_sdk)
    assert find(environ) == Emulator(str(beside_gcloud))
    on_path = program(tmp_path / "bin" / "emulator_main")
    assert find(environ) == Emulator(str(on_path))


def test_gateway_main_is_never_started(tmp_path: Path) -> None:
    """An SDK with the gateway alone has no emulator for us."""
    program(tmp_path / "google-cloud-sdk/bin/cloud_spanner_emulator/gateway_main")
    with pytest.raises(ConfigurationError, match="is not installed"):
        find({"PATH": "", "HOME": str(tmp_path)})


def test_none_at_all_names_the_commands_that_install_it(tmp_path: Path) -> None:
    """The error is one line, the hint says what to type."""
    with pytest.raises(ConfigurationError, match="emulator is not installed") as caught:
        find({"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert "apt-get install google-cloud-cli-spanner-emulator" in caught.value.hint
    assert "gcloud components install cloud-spanner-emulator" in caught.value.hint


def test_only_loopback_is_served() -> None:
    """The binary binds to loopback, the container publishes there."""
    binary = Emulator("/x/emulator_main").command(9, "name")
    assert binary == ("/x/emulator_main", "--host_port", "127.0.0.1:9")
    container = Emulator("docker", emulator.IMAGE)
    command = container.command(9, "name")
    assert command[command.index("--publish") + 1] == "127.0.0.1:9:9010"
    assert "./emulator_main" in command
    assert container.cleanup("name") == ("docker", "rm", "--force", "name")
