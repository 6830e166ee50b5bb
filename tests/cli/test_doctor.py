"""``spanctl doctor`` where nothing is set, where all is well, and where each part is broken."""

import json
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spanctl.health.parts import PARTS
from spanctl.ledger.keys import OperationKey
from spanctl.settings import Contexts
from spanctl.spanner import limbo, schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, free_port
from tests.fixtures.cli import Ended, Spanctl, run_on_terminal
from tests.fixtures.creds import User
from tests.fixtures.dead import bury
from tests.unit.orchestration.test_transport import Server

Looked = tuple[int, dict[str, dict[str, Any]]]
DDL = ("CREATE TABLE T (k INT64 NOT NULL) PRIMARY KEY (k)",)


@pytest.fixture
def look(spanctl: Spanctl) -> Callable[..., Looked]:
    """Return a function that returns the exit code, and by part what was found."""

    def run(*args: str) -> Looked:
        result = spanctl("doctor", "-o", "json", *args)
        return result.exit_code, _parts(result.stdout)

    return run


def _parts(stdout: str) -> dict[str, dict[str, Any]]:
    document = json.loads(stdout)
    assert document["schema"] == "spanctl.doctor/v1"
    assert [item["part"] for item in document["items"]] == list(PARTS)
    assert sum(document["counts"].values()) == len(PARTS)
    assert document["worst"] == max(item["exit_code"] for item in document["items"])
    assert document["ok"] is (document["worst"] == 0)
    return {item["part"]: item for item in document["items"]}


@pytest.fixture(scope="module")
def ledger(emulator: str) -> Iterator[str]:
    name = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, name)) as database:
        schema.install(database, ["T"])
    yield name
    raw.drop_database(emulator, name)


def use(monkeypatch: pytest.MonkeyPatch, host: str, database: str) -> None:
    for name, value in (
        ("SPANCTL_PROJECT", PROJECT),
        ("SPANCTL_INSTANCE", INSTANCE),
        ("SPANCTL_DATABASE", database),
        ("SPANNER_EMULATOR_HOST", host),
    ):
        monkeypatch.setenv(name, value)


# -- nothing, or what can't be read


def test_nothing_configured(look: Callable[..., Looked]) -> None:
    """It says what to type first, looks at nothing that can't be there, and exits 2."""
    code, found = look()
    assert code == 2
    assert found["context"]["mend"] == "spanctl local up"
    assert "spanctl context create" in found["context"]["evidence"]
    assert (found["context"]["status"], found["context"]["code"]) == ("fail", "configuration")
    assert found["database"]["evidence"] == "not looked at: see context"
    assert found["limbo"]["evidence"] == "not looked at: see context"
    assert found["prefect"]["status"] == "warn"
    assert found["workers"]["status"] == "skipped"
    assert found["dependencies"]["status"] == "ok"


def test_a_context_file_that_is_none(look: Callable[..., Looked], config_home: Path) -> None:
    """What can't be read is one failure; all that needs it is skipped, the rest is looked at."""
    config_home.mkdir()
    (config_home / "contexts.toml").write_text("not = [toml")
    code, found = look()
    assert (code, found["settings"]["status"]) == (2, "fail")
    assert [part for part in PARTS if found[part]["status"] == "fail"] == ["settings"]
    assert found["dependencies"]["status"] == "ok"


def test_a_context_that_does_not_exist(spanctl: Spanctl) -> None:
    """It is not found: exit 5, and the document is whole."""
    result = spanctl("--context", "nowhere", "doctor", "-o", "json")
    assert result.exit_code == 5
    assert _parts(result.stdout)["settings"]["code"] == "not_found"


def test_a_context_that_a_flag_names(spanctl: Spanctl) -> None:
    """What mends it names it, too: typed as it stands it would else change the one in use."""
    place = ("project=proj-1", "instance=main", f"emulator_host=127.0.0.1:{free_port()}")
    assert spanctl("context", "create", "used").exit_code == 0
    assert spanctl("context", "create", "a.b", *place, "ca_file=/nowhere").exit_code == 0
    flag = ("--context", "a.b")
    found = _parts(spanctl(*flag, "doctor", "-o", "json").stdout)
    assert found["files"]["mend"] == "spanctl --context a.b context set ca_file="
    assert found["prefect"]["status"] == "skipped"
    assert spanctl(*flag, "context", "set", "ca_file=").exit_code == 0
    for given in (flag, ()):
        found = _parts(spanctl(*given, "doctor", "-o", "json").stdout)
        mend = (*given, "context", "set", "prefect_api_url=http://127.0.0.1:4200/api")
        assert found["prefect"]["mend"] == f"spanctl {' '.join(mend)}"


def test_names_and_lines(spanctl: Spanctl) -> None:
    """-o name gives every part's id; -o jsonl and the piped table have a line for each."""
    assert spanctl("doctor", "-o", "name").stdout.split() == list(PARTS)
    lines = spanctl("doctor", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["part"] for line in lines] == list(PARTS)
    table = spanctl("doctor").stdout.splitlines()
    assert table[0] == "part\tstatus\tevidence\tmend"
    assert len(table) == len(PARTS) + 1


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_on_a_terminal(columns: int) -> None:
    """Every part and every command is there whole, at any width, and the sum is at the end."""
    command = [sys.executable, "-m", "spanctl_cli.main", "doctor"]
    ended = run_on_terminal(command, columns, {"NO_COLOR": "1"})
    assert ended.exit_code == 2
    assert all(part in ended.stdout for part in PARTS)
    flat = " ".join(ended.stdout.split())
    assert "→ spanctl local up" in flat
    assert "1 failed" in flat
    assert flat.endswith("start with context")
    assert max(map(len, ended.stdout.splitlines())) <= columns


# -- the database


@pytest.mark.emulator
def test_a_ledger_on_an_emulator(
    look: Callable[..., Looked], emulator: str, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there is ok, with its evidence; what an emulator lacks is said to be unsupported."""
    use(monkeypatch, emulator, ledger)
    code, found = look()
    assert code == 0
    parts = ("database", "ledger", "change_stream", "version_retention", "limbo", "clock")
    assert {found[part]["status"] for part in parts} == {"ok"}
    for part in ("credentials", "permissions", "audit_logs"):
        assert found[part]["status"] == "unsupported"
    assert found["change_stream"]["facts"] == {
        "tables": ["T"],
        "all_tables": False,
        "retention": "7d",
        "value_capture_type": "OLD_AND_NEW_VALUES",
    }
    assert found["round_trip"]["facts"]["milliseconds"] > 0
    assert abs(found["clock"]["facts"]["ahead_seconds"]) < 60


@pytest.mark.emulator
def test_no_schema_and_no_database(
    look: Callable[..., Looked],
    emulator: str,
    database: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a ledger it exits 6 and names ``init``; without a database 5."""
    use(monkeypatch, emulator, database(*DDL).database)
    code, found = look()
    assert (code, found["ledger"]["code"]) == (6, "schema_version")
    assert found["ledger"]["mend"] == "spanctl init"
    assert found["limbo"]["evidence"] == "not looked at: see ledger"
    assert found["version_retention"]["status"] == "ok"
    monkeypatch.setenv("SPANCTL_DATABASE", "nowhere")
    code, found = look()
    assert (code, found["database"]["status"]) == (5, "fail")


@pytest.mark.emulator
def test_limbo(
    look: Callable[..., Looked],
    spanctl: Spanctl,
    emulator: str,
    ledger: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a dead run left open exits 9, with its txn IDs and the command that ends it."""
    use(monkeypatch, emulator, ledger)
    root = f"job-{uuid.uuid4()}"
    with Database(raw.target(emulator, ledger)) as database:
        run = Run(database, root)
        run.lease([OperationKey(root, (), "pay", "1")])
        bury(run)
        code, found = look()
        assert found["limbo"]["mend"] == "spanctl txn resolve --all"
        assert spanctl("txn", "resolve", "--all").exit_code == 0
        assert look()[0] == 0
        assert not limbo.open_leases(database)
    assert found["limbo"]["facts"]["limbo"] == 1
    assert len(found["limbo"]["facts"]["txn_ids"][0]) == 36
    assert "spanctl txn list --unresolved" in found["limbo"]["evidence"]
    assert code == 9


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_a_database_that_is_down(
    look: Callable[..., Looked], monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Refused or never answered, it ends in time, exits 3 and says so once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1] if silent else free_port()
        use(monkeypatch, f"127.0.0.1:{port}", "main")
        code, found = look("--timeout", "3s")
    assert (code, found["database"]["code"]) == (3, "unreachable")
    assert [part for part in PARTS if found[part]["status"] == "fail"] == ["database"]
    assert found["clock"]["evidence"] == "not looked at: see database"


# -- Prefect


def test_prefect_down(look: Callable[..., Looked], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unreachable, with a command; its version and workers are not guessed."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    _, found = look("--timeout", "4s")
    assert (found["prefect"]["code"], found["prefect"]["exit_code"]) == ("unreachable", 3)
    assert found["prefect"]["mend"]
    for part in ("prefect_version", "prefect_clock", "workers"):
        assert found[part]["evidence"] == "not looked at: see prefect"


def test_a_local_stack_that_is_down(look: Callable[..., Looked]) -> None:
    """What is down in the local context is mended by starting it."""
    url = f"http://127.0.0.1:{free_port()}/api"
    Contexts.load().with_context("local", {"prefect_api_url": url}).save()
    _, found = look("--timeout", "4s")
    assert (found["prefect"]["code"], found["prefect"]["mend"]) == (
        "unreachable",
        "spanctl local up",
    )


def test_prefect_that_lets_nobody_in(
    look: Callable[..., Looked], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused key is exit 4 for that part, and is not shown."""
    server = Server()
    server.answers = [(401, b"{}")]
    monkeypatch.setenv("PREFECT_API_URL", server.url)
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_hidden")
    try:
        _, found = look()
    finally:
        server.stop()
    assert found["prefect"]["exit_code"] == 4
    assert "pnu_hidden" not in json.dumps(found)


@pytest.mark.prefect
def test_prefect_up(
    look: Callable[..., Looked], prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real server answers, has the installed version, and a pool that isn't there is told."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    Contexts.load().with_context("a", {"work_pool": "nowhere"}).using("a").save()
    _, found = look()
    assert found["prefect"]["status"] == "ok"
    assert found["prefect_version"]["status"] == "ok"
    assert found["prefect_clock"]["status"] == "ok"
    assert (found["workers"]["code"], found["workers"]["exit_code"]) == ("not_found", 5)
    assert found["workers"]["mend"] == "prefect work-pool create nowhere --type process"


# -- credentials


@pytest.mark.emulator
def test_credentials(user: User) -> None:
    """Whose they are, for how long, what they may do; refused ones are exit 4; none are printed."""

    def doctor() -> Ended:
        return user.run([sys.executable, "-m", "spanctl_cli.main", "doctor", "-o", "json"])

    contexts = Contexts.load()
    runner = f"impersonate:{user.standins.email('runner')}"
    changed = {**contexts.get("local"), "credentials": runner}
    contexts.with_context("local", changed).save()
    found = _parts(doctor().stdout)
    assert found["credentials"]["facts"]["principal"] == user.standins.email("runner")
    assert found["credentials"]["facts"]["standing"] == "proven"
    assert (found["permissions"]["status"], found["permissions"]["facts"]["writes"]) == ("ok", True)
    assert found["database"]["status"] == "ok"

    document = json.loads(user.standins.places.user.read_text())
    login = Path(contexts.path).with_name("adc.json")
    login.write_text(json.dumps({**document, "refresh_token": "revoked-word"}))
    login.chmod(0o600)
    contexts.with_context("local", {**changed, "adc_file": str(login)}).save()
    ended = doctor()
    found = _parts(ended.stdout)
    assert (ended.exit_code, found["credentials"]["code"]) == (4, "not_permitted")
    assert found["credentials"]["mend"] == (
        "spanctl --context local context set adc_file= && gcloud auth application-default login"
    )
    assert found["database"]["evidence"] == "not looked at: see credentials"
    assert "revoked-word" not in ended.stdout + ended.stderr

    nobody = {**changed, "credentials": "impersonate:nobody@spanctl-local.iam.gserviceaccount.com"}
    contexts.with_context("local", nobody).save()
    assert "check their roles" in _parts(doctor().stdout)["credentials"]["mend"]
