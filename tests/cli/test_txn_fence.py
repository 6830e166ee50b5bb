"""``spanctl txn fence`` of what nothing has used: mistyped keys are refused, others are told."""

import json
import uuid
from collections.abc import Iterator

import pytest

from spanctl.audit.unused import under_key
from spanctl.errors import KeyClosedError, UsageError
from spanctl.ledger.keys import KEYED, OperationKey, step_of
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import fence, schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT
from tests.fixtures.cli import Spanctl

pytestmark = pytest.mark.emulator


@pytest.fixture(scope="module")
def made(emulator: str) -> Iterator[str]:
    name = raw.create_database(emulator, ())
    with Database(raw.target(emulator, name)) as database:
        schema.install(database)
    yield name
    raw.drop_database(emulator, name)


@pytest.fixture
def database(emulator: str, made: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("SPANCTL_PROJECT", PROJECT)
    monkeypatch.setenv("SPANCTL_INSTANCE", INSTANCE)
    monkeypatch.setenv("SPANCTL_DATABASE", made)
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", emulator)
    with Database(raw.target(emulator, made)) as database:
        yield database


@pytest.fixture
def key(database: Database) -> str:
    """An idempotency key under which a run has called step ``move`` twice."""
    made = f"payday-{uuid.uuid4()}"
    flow_run = str(uuid.uuid4())
    provenance = Provenance(root_run=flow_run)
    with Run(database, f"{KEYED}{made}", provenance=provenance, asked="it") as run:
        run.step("move", lambda _: None)
        run.step("move", lambda _: None)
    return made


def is_fenced(database: Database, key: str, step: str, call: int | str = 0) -> bool:
    entry = fence.standing(database, OperationKey(f"{KEYED}{key}", (), step, call)).entry
    return entry is not None and entry.kind.value == "FENCED"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Key:{key}/move#5", "key:{key}/move#5"),
        ("KEY: {key}/move#5", "key:{key}/move#5"),
        ("key: {key}/move#5", "key:{key}/move#5"),
        ("{key}/move#5", "key:{key}/move#5"),
    ],
)
def test_a_root_that_is_almost_right(
    spanctl: Spanctl, database: Database, key: str, typed: str, meant: str
) -> None:
    """It is refused, and the one that is meant is named."""
    done = spanctl("txn", "fence", typed.format(key=key), "--reason", "no", "-o", "json")
    assert (done.exit_code, done.stdout) == (2, "")
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["hint"] == f"did you mean {meant.format(key=key)!r}?"
    assert not is_fenced(database, key, "move", 5)


def test_a_flow_run_that_wrote_under_a_key(spanctl: Spanctl, database: Database, key: str) -> None:
    """Its own id begins none of its operations."""
    stands = fence.standing(database, OperationKey(f"{KEYED}{key}", (), "move", 0))
    assert stands.entry is not None
    run = stands.entry.provenance.root_run
    done = spanctl("txn", "fence", f"{run}/move#5", "--reason", "no")
    assert done.exit_code == 2
    assert f"did you mean 'key:{key}/move#5'?" in done.stderr


@pytest.mark.parametrize("typed", ["key:{key} /move#5", "key:{key}/move #5", "key:{key}/ move"])
def test_blanks(spanctl: Spanctl, database: Database, key: str, typed: str) -> None:
    """A key with blanks at an end of a part that nothing has used is refused."""
    done = spanctl("txn", "fence", typed.format(key=key), "--reason", "no")
    assert done.exit_code in {2, 5}
    assert done.stderr.startswith("error: ")
    assert not is_fenced(database, key, "move", 5)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            "key:{key}/mvoe#0",
            "no step mvoe is known to have run under 'key:{key}'; known are: move",
        ),
        ("key:{key}/move#7", "step move#7 is not known to have run under 'key:{key}' yet"),
        ("key:{key}x/move#0", "nobody has used that idempotency key yet"),
        ("job-{key}/move#0", "it is neither key:K"),
        ("{run}/move#0", "nothing is known to have run under"),
    ],
)
@pytest.mark.parametrize("verb", ["fence", "resolve"])
@pytest.mark.usefixtures("database")
def test_what_nothing_has_used_is_told(
    spanctl: Spanctl, key: str, verb: str, typed: str, told: str
) -> None:
    """It is fenced ahead, with a warning that says what is known."""
    names = {"key": key, "run": key.removeprefix("payday-")}
    done = spanctl("txn", verb, typed.format(**names), "--reason", "no")
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: ")
    assert told.format(**names) in done.stderr


@pytest.mark.usefixtures("database")
def test_a_fence_names_no_known_step(spanctl: Spanctl, key: str) -> None:
    """The next mistyped step is not explained by the last one."""
    words = ("txn", "fence", "--idempotency-key", key, "--reason", "no", "--step")
    assert spanctl(*words, "mvoe").exit_code == 0
    told = spanctl(*words, "moove").stderr
    assert "known are: move\n" in told


def test_what_is_used_is_fenced_without_a_word(
    spanctl: Spanctl, database: Database, key: str
) -> None:
    """What is leased, what was fenced before, and what was reopened."""
    root = f"{KEYED}{key}"
    operation = OperationKey(root, (), "open", 0)
    Run(database, root).lease([operation])
    for _ in range(2):
        done = spanctl("txn", "fence", str(operation), "--reason", "no")
        assert (done.exit_code, "warning" in done.stderr) == (0, False)
    assert spanctl("txn", "reopen", str(operation), "--reason", "yes").exit_code == 0
    done = spanctl("txn", "fence", str(operation), "--reason", "no")
    assert (done.exit_code, "warning" in done.stderr) == (0, False)
    with pytest.raises(KeyClosedError):
        Run(database, root).step("open", lambda _: None)


@pytest.mark.parametrize("step", ["settle", "settle#0", "settle#3", "settle=alice/7#1"])
def test_by_idempotency_key_and_step(
    spanctl: Spanctl, database: Database, key: str, step: str
) -> None:
    """Before anything has run: the step is closed to whoever runs under the key."""
    words = ("txn", "fence", "--idempotency-key", key, "--step", step, "--reason", "no")
    done = spanctl(*words, "-o", "json")
    assert done.exit_code == 0
    (row,) = json.loads(done.stdout)["items"]
    assert row["operation_key"].startswith(f"key:{key}/settle")
    assert "warning: no step settle is known to have run" in done.stderr
    operation = OperationKey.parse(row["operation_key"])
    run = Run(database, operation.root)
    run.lease([operation])
    with pytest.raises(KeyClosedError):
        run.execute(run.lease([operation])[0], lambda _: None, expect_replay=True)


def test_by_idempotency_key_alone(spanctl: Spanctl, database: Database, key: str) -> None:
    """All that is open under it; of nothing it says to name a step."""
    words = ("txn", "fence", "--idempotency-key", key, "--reason", "no")
    refused = spanctl(*words)
    assert refused.exit_code == 5
    assert "--step STEP" in refused.stderr
    root = f"{KEYED}{key}"
    run = Run(database, root)
    run.lease([OperationKey(root, (), "pay", name) for name in ("a", "b")])
    done = spanctl(*words, "-o", "json")
    assert (done.exit_code, len(json.loads(done.stdout)["items"])) == (0, 2)
    assert is_fenced(database, key, "pay", "a")
    assert not is_fenced(database, key, "move")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("deadbeef", "--idempotency-key", "k"),
        ("deadbeef", "--step", "pay"),
        ("--idempotency-key", "k", "--step", " "),
        ("--idempotency-key", "k", "--step", "/pay"),
        ("--idempotency-key", "k", "--step", "=x"),
    ],
)
@pytest.mark.usefixtures("database")
def test_mistakes(spanctl: Spanctl, words: tuple[str, ...]) -> None:
    done = spanctl("txn", "fence", *words, "--reason", "no")
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize(
    "key",
    [
        OperationKey("key:k", (), "pay", 0),
        OperationKey("key:k", (), "pay", 12),
        OperationKey("key:k", ("part#0", "inner#2"), "pay", 1),
        OperationKey("key:k", ("part#0",), "pay it", "a/b=c#1"),
    ],
)
def test_a_step_is_named_as_lists_show_it(key: OperationKey) -> None:
    assert under_key("k", step_of(key)) == key


def test_what_names_no_step() -> None:
    with pytest.raises(UsageError):
        under_key("k", "")
