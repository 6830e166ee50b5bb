"""Every part of a real stack broken in turn: ``doctor`` names that one, and its mend mends it."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from spanctl.local import parts
from spanctl.local.stack import Stack
from spanctl.settings import Contexts
from spanctl.spanner.watching import STREAM
from tests.fixtures.cli import Spanctl
from tests.local.breakage import (
    Lab,
    another_bundle,
    break_profiles,
    corrupt_bundle,
    disable_secret,
    fill_disk,
    guard_prefect,
    lock_prefect,
    pause_pool,
    reuse_pid,
)

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]

UP = "spanctl local up"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The module's stack, not started yet: the first test's mend does that."""
    home = tmp_path_factory.mktemp("mends")
    places = {
        "SPANCTL_CONFIG_HOME": str(home / "config"),
        "SPANCTL_STATE_HOME": str(home / "state"),
    }
    stack = Stack(environ={**os.environ, **places})
    yield stack
    stack.down()


@pytest.fixture(scope="module")
def well() -> list[Lab]:
    """The lab of the last test, if that left everything well; a failed one need not have."""
    return []


@pytest.fixture
def fresh(own: Stack, spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The lab, whatever runs in it."""
    state = own.folder.path.parent
    config = state.with_name("config")
    monkeypatch.setenv("SPANCTL_CONFIG_HOME", str(config))
    monkeypatch.setenv("SPANCTL_STATE_HOME", str(state))
    monkeypatch.setenv("SPANCTL_RECOVER_EVERY", "0s")  # each run of a worker is a second's work
    made = Lab(own, spanctl, monkeypatch, config / "contexts.toml")
    with made.others:
        yield made


@pytest.fixture
def lab(fresh: Lab, well: list[Lab]) -> Lab:
    """The lab, with everything up."""
    if not well:
        fresh.contexts.unlink(missing_ok=True)
        fresh.stack.down()
        assert fresh.stack.up().is_up
    well.clear()
    return fresh


def troubled(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {
        part: item["status"]
        for part, item in found.items()
        if item["status"] in {"fail", "warn", "unknown"}
    }


@dataclass(frozen=True)
class Case:
    """One way to break a part.

    Attributes:
        name: What is done.
        breaks: Does it.
        part: What doctor names; the only part that it does.
        told: What its evidence holds.
        mend: What it says to type; what is in braces is the stack's own.
        status: How the part is then.
    """

    name: str
    breaks: Callable[[Lab], object]
    part: str
    told: str
    mend: str = UP
    status: str = "fail"


CASES = (
    Case("bundle missing", lambda lab: lab.places.bundle.unlink(), "files", "No such file"),
    Case("bundle corrupt", corrupt_bundle, "files", "holds no certificates"),
    Case("bundle of another CA", another_bundle, "stack", "roots.pem doesn't vouch for"),
    Case("login missing", lambda lab: lab.places.user.unlink(), "files", "adc_file"),
    Case(
        "login stale", lambda lab: lab.login("refresh_token", "gone"), "stack", "refuses the login"
    ),
    Case(
        "emulator stopped",
        lambda lab: lab.signal("emulator", signal.SIGSTOP),
        "stack",
        "emulator is stopped by a signal",
    ),
    Case(
        "emulator killed, its port taken",
        lambda lab: lab.take_ports("emulator", "emulator"),
        "stack",
        "emulator does not run",
    ),
    Case(
        "identity killed, its ports taken",
        lambda lab: lab.take_ports("identity", *parts.DOORS),
        "stack",
        "identity does not run",
    ),
    Case(
        "identity stopped",
        lambda lab: lab.signal("identity", signal.SIGSTOP),
        "stack",
        "identity is stopped by a signal",
    ),
    Case(
        "worker stopped",
        lambda lab: lab.signal("worker", signal.SIGSTOP),
        "stack",
        "worker is stopped by a signal",
    ),
    Case("identity's pid reused", reuse_pid, "stack", "identity does not run"),
    Case("server can't write", fill_disk, "stack", "server can't write"),
    Case("server's database locked", lock_prefect, "stack", "keeps it locked", "kill {held}"),
    Case(
        "work pool paused",
        pause_pool,
        "workers",
        "pool local is paused",
        'PREFECT_API_URL={api} PREFECT_API_AUTH_STRING="$(cat {folder}/prefect-auth)"'
        " prefect work-pool resume local",
        "warn",
    ),
    Case(
        "wrong project",
        lambda lab: lab.setting("project", "elsewhere-42"),
        "database",
        "the stack's own project is another",
    ),
    Case(
        "wrong account",
        lambda lab: lab.setting(
            "credentials", "impersonate:nobody@spanctl-local.iam.gserviceaccount.com"
        ),
        "credentials",
        "the stack's own credentials is another",
    ),
    Case(
        "secret disabled",
        disable_secret,
        "credentials",
        "disabled",
        "spanctl creds rotate doc",
    ),
    Case(
        "wrong Prefect",
        lambda lab: lab.setting("prefect_api_url", "http://127.0.0.1:9/api"),
        "prefect",
        "the stack's own prefect_api_url is another",
    ),
    Case(
        "wrong password of Prefect in the environment",
        guard_prefect,
        "prefect",
        "refused the credentials",
        "unset PREFECT_API_AUTH_STRING",
    ),
    Case(
        "Prefect's profiles no TOML",
        break_profiles,
        "prefect",
        "can't read Prefect's profiles",
        "mv {folder}/profiles.toml {folder}/profiles.toml.broken",
    ),
    Case(
        "wrong work pool",
        lambda lab: lab.setting("work_pool", "nowhere"),
        "workers",
        "no work pool nowhere",
    ),
    Case(
        "no credential reference",
        lambda lab: lab.setting("credentials", "impersonat:runner@x.com"),
        "settings",
        "credentials (local in ",
        f"spanctl --context local context set credentials= && {UP}",
    ),
    Case(
        "another database in the environment",
        lambda lab: lab.patch.setenv("SPANCTL_DATABASE", "nowhere"),
        "database",
        "SPANCTL_DATABASE in the environment leads elsewhere",
        "unset SPANCTL_DATABASE",
    ),
    Case(
        "another Prefect in the environment",
        lambda lab: lab.patch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api"),
        "prefect",
        "PREFECT_API_URL in the environment leads elsewhere",
        "unset PREFECT_API_URL",
    ),
    Case(
        "another emulator in the environment",
        lambda lab: lab.patch.setenv("SPANNER_EMULATOR_HOST", "127.0.0.1:9"),
        "database",
        "SPANNER_EMULATOR_HOST in the environment leads elsewhere",
        "unset SPANNER_EMULATOR_HOST",
    ),
    Case(
        "no such context in the environment",
        lambda lab: lab.patch.setenv("SPANCTL_CONTEXT", "nowhere"),
        "settings",
        "there is no context 'nowhere'",
        "unset SPANCTL_CONTEXT",
    ),
    Case(
        "no such context in use",
        lambda lab: lab.contexts.write_text(f'current = "nowhere"\n{lab.contexts.read_text()}'),
        "settings",
        "there is no context 'nowhere'",
        "spanctl context use local",
    ),
    Case(
        "contexts no TOML",
        lambda lab: lab.contexts.write_text(f"{lab.contexts.read_text()}\nproject = \n"),
        "settings",
        "Invalid value (at line",
        f"mv {{contexts}} {{contexts}}.broken && {UP}",
    ),
    Case(
        "an unknown setting",
        lambda lab: lab.contexts.write_text(f"{lab.contexts.read_text()}databse = 5\n"),
        "settings",
        "databse",
        "spanctl --context local context set databse=",
        "warn",
    ),
    Case(
        "contexts open to all",
        lambda lab: lab.contexts.chmod(0o666),
        "files",
        "can be changed by others",
        "chmod go-w {contexts}",
        "warn",
    ),
    Case(
        "folder open to all",
        lambda lab: lab.stack.folder.path.chmod(0o755),
        "files",
        "can be read by others",
        "chmod go-rwx {folder}",
        "warn",
    ),
    Case(
        "receipts dropped",
        lambda lab: lab.alter(
            f"DROP CHANGE STREAM {STREAM}",
            *(f"DROP INDEX spanctl_receipts_by_{one}" for one in ("key", "run", "time")),
            "DROP TABLE spanctl_receipts",
        ),
        "ledger",
        "lacks table spanctl_receipts",
        "spanctl init",
    ),
    Case(
        "watches dropped",
        lambda lab: lab.alter("DROP TABLE spanctl_watches"),
        "ledger",
        "lacks table spanctl_watches",
        "spanctl init",
    ),
    Case(
        "settings dropped",
        lambda lab: lab.alter("DROP TABLE spanctl_settings"),
        "ledger",
        "has no ledger",
        "spanctl init",
    ),
    Case(
        "an index dropped",
        lambda lab: lab.alter("DROP INDEX spanctl_intents_open"),
        "ledger",
        "lacks index spanctl_intents_open",
        "spanctl init",
    ),
    Case(
        "change stream dropped",
        lambda lab: lab.alter(f"DROP CHANGE STREAM {STREAM}"),
        "change_stream",
        "no change stream",
        "spanctl init",
    ),
    Case(
        "no table watched",
        lambda lab: lab.alter("CREATE TABLE `Order` (k INT64 NOT NULL) PRIMARY KEY (k)"),
        "change_stream",
        "watches no table of yours",
        "spanctl init --table Order",
        "warn",
    ),
    Case(
        "change stream of tables dropped",
        lambda lab: lab.alter(f"DROP CHANGE STREAM {STREAM}"),
        "change_stream",
        "no change stream",
        "spanctl init --table Order",
    ),
)


def test_a_state_of_a_newer_version(fresh: Lab, well: list[Lab]) -> None:
    """What another version, or nobody, has written is named; all is well after down and up."""
    Contexts(fresh.contexts).with_context("local", {"project": "spanctl-local"}).save()
    state = fresh.stack.folder.state_file
    fresh.stack.folder.create()
    assert fresh.look()["stack"]["status"] == "unsupported"
    stray = fresh.program("import time; time.sleep(600)", mark=parts.mark(fresh.stack.folder))
    told = {None: f"{state} is gone", "{": "damaged", '{"version": 99}': "another version"}
    for text, words in told.items():
        if text:
            state.write_text(text)
        found = fresh.look()["stack"]
        assert found["status"] == "fail"
        assert words in found["evidence"]
        assert found["mend"] == (f"spanctl local down && {UP}" if text else UP)
    fresh.type(found["mend"])
    assert troubled(fresh.look()) == {}
    assert stray.wait(10) != 0
    well.append(fresh)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_part_is_named_and_its_mend_mends(lab: Lab, well: list[Lab], case: Case) -> None:
    """One part fails, or warns; what rests on it says so; what is printed, typed, ends it."""
    case.breaks(lab)
    found = lab.look()
    assert troubled(found) == {case.part: case.status}
    for part, item in found.items():
        if item["status"] == "skipped":
            assert item["evidence"] == f"not looked at: see {case.part}", part
    broken = found[case.part]
    assert case.told in broken["evidence"]
    assert broken["mend"] == case.mend.format(
        api=lab.stack.context()["prefect_api_url"] if "{api}" in case.mend else "",
        contexts=lab.contexts,
        folder=lab.stack.folder.path,
        held=getattr(lab, "held", ""),
    )
    lab.type(broken["mend"])
    assert troubled(lab.look()) == {}
    well.append(lab)
