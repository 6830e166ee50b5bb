"""What single checks make of what they find; servers are asked in tests/cli/test_doctor.py."""

from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

from spanctl.errors import ConfigurationError
from spanctl.health import access, configuration, network, orchestrator
from spanctl.health.model import Status
from spanctl.health.surroundings import Surroundings
from spanctl.orchestration.fleet import Worker, WorkPool
from spanctl.settings import Contexts, resolve


@pytest.mark.parametrize(
    ("version", "bounds", "fitting"),
    [
        ("0.150.0", ">=0.139,<0.151", True),
        ("0.151", ">=0.139,<0.151", False),
        ("0.9", ">=0.139,<0.151", False),
        ("3.8.8", ">=3.8.8,<3.9", True),
        ("3.8.10", ">=3.8.8,<3.9", True),
        ("3.9.0rc1", ">=3.8.8,<3.9", False),
        ("2026.1.4", ">=2025.1,<2030", True),
        ("1.0", "==1", True),
        ("1.0.1", "!=1.0.1", False),
        ("4", "", True),
        ("v4-nonsense", ">=1", False),
    ],
)
def test_versions_are_compared_by_number(version: str, bounds: str, fitting: bool) -> None:
    """3.10 is newer than 3.9, zeros at the end say nothing, and no text breaks it."""
    assert configuration.fits(version, bounds) is fitting


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name not in versions:
            return real(name)
        if (told := versions[name]) is None:
            raise metadata.PackageNotFoundError
        return told

    monkeypatch.setattr(metadata, "version", version)


def test_what_is_installed_here_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock's own versions are fine; one that is known to break fails, with the command."""
    assert configuration.dependencies().status is Status.OK
    installed(monkeypatch, fastapi="0.165.0")
    broken = configuration.dependencies()
    assert isinstance(broken.error, ConfigurationError)
    assert "fastapi 0.165.0" in broken.evidence
    assert broken.mend.startswith("pip install 'fastapi")


def test_untested_and_missing_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version outside of the tested ones is a warning, a missing package a failure."""
    installed(monkeypatch, rich="99.1")
    odd = configuration.dependencies()
    assert (odd.status, odd.error) == (Status.WARN, None)
    assert "rich 99.1" in odd.evidence
    assert "'rich" in odd.mend
    installed(monkeypatch, typer=None)
    assert configuration.dependencies().status is Status.FAIL


def around(tmp_path: Path, **environ: str) -> Surroundings:
    known = {
        "HOME": str(tmp_path),
        "SPANCTL_CONFIG_HOME": str(tmp_path / "config"),
        "SPANCTL_STATE_HOME": str(tmp_path / "state"),
        **environ,
    }
    return Surroundings(lambda: resolve(environ=known), known)


def test_files_that_others_can_reach(tmp_path: Path) -> None:
    """A key that others can read, and contexts that others can change, are named with chmod."""
    contexts = tmp_path / "config" / "contexts.toml"
    Contexts(contexts).with_context("a", {"project": "p"}).using("a").save()
    adc = tmp_path / "adc.json"
    adc.write_text("{}")
    adc.chmod(0o600)
    here = around(tmp_path, GOOGLE_APPLICATION_CREDENTIALS=str(adc))
    assert configuration.files(here).status is Status.OK
    adc.chmod(0o644)
    contexts.chmod(0o666)
    found = configuration.files(here)
    assert found.status is Status.WARN
    assert found.mend == f"chmod go-w {contexts} && chmod go-rwx {adc}"
    assert f"{adc} (644) can be read by others" in found.evidence
    assert f"{contexts} (666) can be changed by others" in found.evidence


def test_prefects_profiles_count_where_they_hold_a_key(tmp_path: Path) -> None:
    """Profiles without a key may be read by all; with one they may not, and it isn't shown."""
    profiles = tmp_path / ".prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('active = "a"\n')
    profiles.chmod(0o644)
    assert configuration.files(around(tmp_path)).status is Status.OK
    profiles.write_text('[profiles.a]\nPREFECT_API_KEY = "pnu_hidden"\n')
    found = configuration.files(around(tmp_path))
    assert found.mend == f"chmod go-rwx {profiles}"
    assert "pnu_hidden" not in repr(found)


@pytest.mark.parametrize("name", ["SPANCTL_CA_FILE", "SPANCTL_ADC_FILE"])
def test_files_that_cant_be_read(tmp_path: Path, name: str) -> None:
    """A file that the settings name and that isn't there is a failure of the configuration."""
    with pytest.raises(ConfigurationError, match="can't be read") as caught:
        configuration.files(around(tmp_path, **{name: str(tmp_path / "nowhere")}))
    assert caught.value.hint == f"run: unset {name}"
    setting, contexts = name.removeprefix("SPANCTL_").lower(), tmp_path / "config/contexts.toml"
    for context, hint in (
        ("a b", f"run: spanctl --context 'a b' context set {setting}="),
        ("local", "run: spanctl local up"),
    ):
        Contexts(contexts).with_context(context, {setting: "/nowhere"}).using(context).save()
        with pytest.raises(ConfigurationError) as caught:
            configuration.files(around(tmp_path))
        assert caught.value.hint == hint


def test_a_file_that_holds_no_roots(tmp_path: Path) -> None:
    """What is readable and no bundle is named before a handshake fails by it."""
    bundle = tmp_path / "roots.pem"
    bundle.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="holds no certificates"):
        configuration.files(around(tmp_path, SPANCTL_CA_FILE=str(bundle)))


@pytest.mark.parametrize(
    ("ahead", "uncertain", "status"),
    [
        (0.0, 0.0, Status.OK),
        (0.004, 0.005, Status.OK),
        (-1.9, 0.001, Status.OK),
        (2.4, 0.5, Status.OK),
        (2.6, 0.5, Status.WARN),
        (-30.0, 0.1, Status.WARN),
        (-90.0, 0.1, Status.FAIL),
        (3600.0, 0.1, Status.FAIL),
        (90.0, 40.0, Status.WARN),
    ],
)
def test_clocks_are_judged_by_what_is_sure(ahead: float, uncertain: float, status: Status) -> None:
    """Two seconds are a warning and a minute a failure, beyond what the measurement can't tell."""
    found = network.judged(ahead, uncertain, "Spanner's")
    assert found.status is status
    assert ("behind" in found.evidence) is (ahead < -uncertain)
    assert bool(found.mend) is (status is not Status.OK)


def test_a_clock_that_tells_whole_seconds_is_in_the_middle_of_one() -> None:
    """A Date of 12:00:00 means 12:00:00.5, half a second more or less."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert network.ahead_of(noon, noon + timedelta(seconds=0.5), 0.0) == 0.0
    assert network.ahead_of(noon, noon + timedelta(seconds=10), 1.0) == 10.0


def logged(
    *kinds: str, service: str = "spanner.googleapis.com", but: str = ""
) -> dict[str, object]:
    configs = [{"logType": kind, "exemptedMembers": [but] if but else []} for kind in kinds]
    return {"auditConfigs": [{"service": service, "auditLogConfigs": configs}]}


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ({}, Status.WARN),
        (logged("DATA_READ", "ADMIN_READ"), Status.WARN),
        (logged("DATA_WRITE", service="storage.googleapis.com"), Status.WARN),
        (logged("DATA_WRITE"), Status.OK),
        (logged("DATA_WRITE", service="allServices"), Status.OK),
        (logged("DATA_WRITE", but="user:eve@example.com"), Status.WARN),
    ],
)
def test_data_access_logs_are_on_for_writes_of_spanner(
    policy: dict[str, object], status: Status
) -> None:
    """Only DATA_WRITE of Spanner, or of all services, logs commits; exemptions are named."""
    found = access.logged(policy, "p")
    assert found.status is status
    assert ("eve@example.com" in found.evidence) is ("eve" in str(policy))
    assert bool(found.mend) is (status is Status.WARN)


def test_pools_are_told_by_what_runs_wait_for() -> None:
    """Paused pools and pools without a worker are warnings, pools that Prefect runs aren't."""
    seen = datetime.now(UTC)
    alive = WorkPool("a", "process", False, (Worker("w", True, seen), Worker("x", False, None)))
    assert orchestrator.told_of([alive], {}).status is Status.OK
    assert orchestrator.told_of([WorkPool("m", "prefect:managed", False)], {}).status is Status.OK
    idle = orchestrator.told_of([alive, WorkPool("b", "docker", False)], {})
    assert (idle.status, idle.mend) == (Status.WARN, "prefect worker start --pool b")
    paused = orchestrator.told_of([WorkPool("c", "process", True)], {})
    assert (paused.status, paused.mend) == (Status.WARN, "prefect work-pool resume c")
    assert orchestrator.told_of([], {}).status is Status.WARN
