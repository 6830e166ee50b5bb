"""A ledger belongs to one database: copies, restores and a server made anew are recognised."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import grpc
import pytest

from spanctl.errors import (
    ConflictError,
    NotFoundError,
    OtherDatabaseError,
    SchemaVersionError,
    SpanctlError,
    StatementError,
)
from spanctl.ledger.receipt import Provenance
from spanctl.resources import DatabaseName
from spanctl.spanner import fence, schema
from spanctl.spanner.client import Database, Target
from spanctl.spanner.identity import SETTINGS, read_settings
from spanctl.spanner.partitioned import execute_partitioned
from spanctl.spanner.receipts import COMMIT_TIMESTAMP
from spanctl.spanner.run import Run
from spanctl.spanner.transaction import Transaction
from tests.faults import raw
from tests.faults.admin import FIRST, LATER, ScriptedAdmin
from tests.faults.emulator import INSTANCE, PROJECT, Emulator
from tests.fixtures.cli import Spanctl

pytestmark = pytest.mark.emulator

DDL = "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)"
OTHER = f"projects/{PROJECT}/instances/{INSTANCE}/databases/origin"
NANOS = f"{FIRST:%Y-%m-%dT%H:%M:%S.%f}Z"


@pytest.fixture
def admin(emulator: str) -> Iterator[ScriptedAdmin]:
    with ScriptedAdmin(emulator) as made:
        yield made


@pytest.fixture
def target(
    admin: ScriptedAdmin,
    database: Callable[..., DatabaseName],
    monkeypatch: pytest.MonkeyPatch,
) -> Target:
    """A database with a ledger behind the scripted admin API; in the environment."""
    name = database(DDL)
    made = Target(database=name, emulator_host=admin.address)
    with Database(made) as found:
        schema.install(found)
    for variable, value in (
        ("SPANCTL_PROJECT", name.project),
        ("SPANCTL_INSTANCE", name.instance),
        ("SPANCTL_DATABASE", name.database),
        ("SPANNER_EMULATOR_HOST", admin.address),
    ):
        monkeypatch.setenv(variable, value)
    admin.script.asked.clear()
    return made


def settings(target: Target, **values: str | None) -> None:
    """Change what the ledger says, as a copy of the database carries it along."""
    with raw.database(target.host, target.database.database) as google, google.batch() as batch:
        for name, value in values.items():
            if value is None:
                from google.cloud.spanner_v1 import KeySet

                batch.delete(SETTINGS, KeySet(keys=[[name]]))
            else:
                columns = ("name", "value", "updated_at")
                batch.insert_or_update(SETTINGS, columns, [(name, value, COMMIT_TIMESTAMP)])


def told(target: Target) -> dict[str, str]:
    with Database(target) as database:
        return read_settings(database)


def write(database: Database, key: str = "k") -> None:
    with Run(database, "r") as run:
        run.step("s", lambda txn: txn.insert_or_update("t", ("k", "v"), [(1, 1)]), key=key)


def truth(target: Target, table: str = "t") -> int:
    ((count,),) = raw.rows(target.host, target.database.database, f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - a test's own table
    return int(count)


# -- bound


def test_init_binds_a_ledger_to_what_get_database_says(target: Target) -> None:
    """Name and creation time are kept with the ledger."""
    rows = told(target)
    assert (rows["database"], rows["create_time"]) == (str(target.database), NANOS)


def test_init_binds_an_older_ledger_once(
    target: Target, admin: ScriptedAdmin, spanctl: Spanctl
) -> None:
    """An unbound ledger is worked with; ``init`` binds it and keeps its id."""
    settings(target, database=None, create_time=None)
    admin.script.created = LATER
    before = told(target)["ledger_id"]
    with Database(target) as database:
        write(database)
    assert admin.script.asked == []
    done = json.loads(spanctl("init", "-o", "json").stdout)
    assert (done["ledger_id"], done["ancestor"]) == (before, None)
    assert done["bound"].startswith(f"{target.database} (created 2026-01-03")
    assert truth(target) == 1
    receipts = truth(target, "spanctl_receipts")
    spanctl("init")
    assert truth(target, "spanctl_receipts") == receipts


def test_init_adds_the_creation_time_once_it_may_read_it(
    target: Target, admin: ScriptedAdmin, spanctl: Spanctl
) -> None:
    settings(target, create_time=None)
    with Database(target) as database:
        write(database)
    assert spanctl("init").exit_code == 0
    assert told(target)["create_time"] == NANOS
    admin.script.code = grpc.StatusCode.PERMISSION_DENIED
    assert spanctl("init").exit_code == 0
    assert told(target)["create_time"] == NANOS


# -- a copy


DENIED = {"code": grpc.StatusCode.PERMISSION_DENIED}
COPIES = [
    pytest.param({"database": OTHER}, {}, id="another name"),
    pytest.param({}, {"created": LATER}, id="restored under its name"),
    pytest.param({"database": OTHER, "create_time": None}, {}, id="name only"),
    pytest.param({"database": OTHER}, DENIED, id="denied"),
    pytest.param({"database": OTHER.replace(INSTANCE, "elsewhere")}, {}, id="another instance"),
    pytest.param({"database": OTHER.replace(PROJECT, "elsewhere")}, DENIED, id="another project"),
]


def script(admin: ScriptedAdmin, values: dict[str, object]) -> None:
    for name, value in values.items():
        setattr(admin.script, name, value)


@pytest.mark.parametrize(("rows", "answers"), COPIES)
def test_nothing_is_written_in_a_copy(
    target: Target, admin: ScriptedAdmin, rows: dict[str, str | None], answers: dict[str, object]
) -> None:
    """Leases, fences, transactions and partitioned DML are refused by name; reading goes on."""
    with Database(target) as database:
        write(database)
    counts = [truth(target, table) for table in ("spanctl_intents", "spanctl_receipts")]
    settings(target, **rows)
    script(admin, answers)
    with Database(target) as database, Run(database, "r") as run:
        key = run.root
        refused = pytest.raises(OtherDatabaseError, match=r"belongs to .*, and this is")
        with refused as error:
            write(database, "other")
        assert "spanctl init --adopt" in error.value.hint
        with refused:
            write(database)
        with refused:
            fence.place(
                database,
                fence.Call(fence.OperationKey(key, (), "s", "k")),
                author=fence.Author.OPERATOR,
                provenance=Provenance(),
            )
        with refused:
            execute_partitioned(database, "UPDATE t SET v = 2 WHERE true")
        assert list(database.query("SELECT v FROM t")) == [(1,)]
    assert [truth(target, table) for table in ("spanctl_intents", "spanctl_receipts")] == counts


NUMBER = f"projects/123456789/instances/{INSTANCE}/databases/"
SAME = [
    pytest.param({}, DENIED, id="denied"),
    pytest.param({}, {"code": grpc.StatusCode.UNIMPLEMENTED}, id="not there"),
    pytest.param({}, {"created": None}, id="no creation time told"),
    pytest.param({"create_time": None}, {}, id="none kept"),
    pytest.param({}, {"name": NUMBER}, id="a project's number"),
]


@pytest.mark.parametrize(("rows", "answers"), SAME)
def test_what_only_one_side_knows_is_no_difference(
    target: Target, admin: ScriptedAdmin, rows: dict[str, str | None], answers: dict[str, object]
) -> None:
    settings(target, **rows)
    script(admin, answers)
    if admin.script.name:
        admin.script.name += target.database.database
    with Database(target) as database:
        write(database)
    assert truth(target) == 1


def test_an_admin_api_that_is_silent_stops_nobody(target: Target, admin: ScriptedAdmin) -> None:
    admin.script.code = grpc.StatusCode.UNAVAILABLE
    with Database(target) as database:
        write(database)
    assert truth(target) == 1


def test_adopted_it_is_a_ledger_of_its_own(target: Target, spanctl: Spanctl) -> None:
    """``init`` alone refuses; ``--adopt`` gives a new id, keeps the old, and writing goes on."""
    with Database(target) as database:
        write(database)
    settings(target, database=OTHER)
    before = told(target)
    refused = spanctl("init", "--table", "t", "-o", "json")
    assert refused.exit_code == 6
    assert json.loads(refused.stderr.splitlines()[-1])["error"]["code"] == "other_database"
    assert told(target) == before
    done = json.loads(spanctl("init", "--adopt", "-o", "json").stdout)
    assert done["ancestor"] == before["ledger_id"] != done["ledger_id"]
    after = told(target)
    assert (after["ancestor"], after["database"]) == (before["ledger_id"], str(target.database))
    assert (after["create_time"], after["ledger_key"]) == (NANOS, before["ledger_key"])
    with Database(target) as database:
        with Run(database, "r") as run:
            replayed = run.step("s", lambda txn: txn.insert("t", ("k",), [(9,)]), key="k")
        assert replayed.replayed
        write(database, "new")
    again = json.loads(spanctl("init", "--adopt", "-o", "json").stdout)
    assert again["ledger_id"] == done["ledger_id"]
    settings(target, database=OTHER)
    third = json.loads(spanctl("init", "--adopt", "-o", "json").stdout)
    assert told(target)["ancestor"].split() == [done["ledger_id"], before["ledger_id"]]
    assert third["ancestor"] == done["ledger_id"]


def test_a_copy_of_an_older_ledger_is_adopted_too(target: Target, spanctl: Spanctl) -> None:
    """Nothing tells it from its origin but the person who says so."""
    settings(target, database=None, create_time=None)
    before = told(target)["ledger_id"]
    done = json.loads(spanctl("init", "--adopt", "-o", "json").stdout)
    assert done["ancestor"] == before != done["ledger_id"]


def test_what_a_copy_keeps_of_its_origin_is_forgotten(
    target: Target, admin: ScriptedAdmin, spanctl: Spanctl
) -> None:
    """Adopted where no creation time is told, the origin's is no longer held against it."""
    settings(target, database=OTHER)
    admin.script.created = None
    assert spanctl("init", "--adopt").exit_code == 0
    admin.script.created = LATER
    with Database(target) as database:
        write(database)
    assert truth(target) == 1


def doctor(spanctl: Spanctl) -> dict[str, str]:
    found = json.loads(spanctl("doctor", "-o", "json").stdout)["items"]
    (ledger,) = [one for one in found if one["part"] == "ledger"]
    return dict(ledger)


def test_doctor_says_what_is_not_told_apart(
    target: Target, admin: ScriptedAdmin, spanctl: Spanctl
) -> None:
    """An unbound ledger, a creation time that nobody tells, and one that ``init`` may yet keep."""
    told = doctor(spanctl)
    assert (told["status"], "isn't told apart" in told["evidence"]) == ("ok", False)
    admin.script.created = None
    told = doctor(spanctl)
    assert told["status"] == "ok"
    assert "a restore under the same name isn't told apart" in told["evidence"]
    admin.script.created = FIRST
    settings(target, create_time=None)
    told = doctor(spanctl)
    assert (told["status"], told["mend"]) == ("warn", "spanctl init")
    settings(target, database=None)
    told = doctor(spanctl)
    assert (told["status"], told["mend"]) == ("warn", "spanctl init")
    assert "no copy of it is told apart" in told["evidence"]


def test_commands_of_a_copy(target: Target, spanctl: Spanctl) -> None:
    """``audit`` and ``txn list`` read, ``txn fence`` is refused, and ``doctor`` names the copy."""
    with Database(target) as database:
        write(database)
    settings(target, database=OTHER)
    assert spanctl("audit", "list").exit_code == 0
    assert spanctl("txn", "list").exit_code == 0
    assert spanctl("txn", "fence", "key:k/s#0", "--reason", "no").exit_code == 6
    ledger = doctor(spanctl)
    assert ledger["status"] == "fail"
    assert "belongs to" in ledger["evidence"]
    assert "init --adopt" in ledger["mend"]


# -- asked when, and how often


def test_get_database_is_asked_once_a_process(target: Target, admin: ScriptedAdmin) -> None:
    """Before the first write, by whichever thread writes first; never by what only reads."""
    with Database(target) as database:
        assert database.ledger.bound
        list(database.query("SELECT 1"))
        assert admin.script.asked == []
        barrier = Barrier(4)

        def one(number: int) -> None:
            barrier.wait(10)
            write(database, f"k{number}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(4)))
        write(database, "last")
    assert admin.script.asked == [str(target.database)]


# -- a server that comes back as another one


@pytest.fixture
def mortal() -> Iterator[Emulator]:
    with Emulator("--abort_current_transaction_probability=100") as started:
        yield started


def made(mortal: Emulator) -> Target:
    """Make the database, always under the same name, with a ledger in it."""
    from google.api_core import exceptions

    with raw.client(mortal.address) as google:
        config = f"projects/{PROJECT}/instanceConfigs/emulator-config"
        instance = google.instance(INSTANCE, configuration_name=config)
        try:
            instance.create().result(30)
        except exceptions.AlreadyExists:
            instance.database("same").drop()
        instance.database("same", ddl_statements=[DDL]).create().result(30)
    target = raw.target(mortal.address, "same")
    with Database(target) as database:
        schema.install(database)
    return target


def reborn(mortal: Emulator) -> None:
    """End the emulator and start an empty one at the same address."""
    mortal.__exit__(None, None, None)
    mortal.__enter__()
    made(mortal)


def crowded(mortal: Emulator) -> None:
    """The same, and others open sessions there: it numbers them, so that ours are valid again."""
    reborn(mortal)
    with Database(raw.target(mortal.address, "same")) as others, ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(others.sessions.writer(10))
        others.sessions._free.clear()  # noqa: SLF001 - left open, as other programs do


def dropped(mortal: Emulator) -> None:
    """Drop the database and make it anew: the server lives, the sessions don't."""
    made(mortal)


def test_nothing_is_made_up_where_a_server_comes_back_empty(mortal: Emulator) -> None:
    """Without a database, and with one that has no ledger, writing ends by name."""
    target = made(mortal)
    with Database(target) as database:
        write(database)
        mortal.__exit__(None, None, None)
        mortal.__enter__()
        with pytest.raises(NotFoundError, match="there is no database"):
            write(database, "after")
        with raw.client(mortal.address) as google:
            config = f"projects/{PROJECT}/instanceConfigs/emulator-config"
            instance = google.instance(INSTANCE, configuration_name=config)
            instance.create().result(30)
            instance.database("same", ddl_statements=[DDL]).create().result(30)
        with pytest.raises(SchemaVersionError, match="no ledger yet"):
            write(database, "after")
    assert truth(target) == 0


@pytest.mark.parametrize("end", [reborn, crowded, dropped])
@pytest.mark.parametrize("threads", [1, 6])
def test_nothing_goes_on_in_a_database_made_anew(
    mortal: Emulator, end: Callable[[Emulator], None], threads: int
) -> None:
    """None of several threads that write at once goes on in the other ledger, then or later."""
    target = made(mortal)
    with Database(target) as database:
        write(database, "before")
        end(mortal)
        barrier = Barrier(threads)

        def one(number: int) -> str:
            barrier.wait(10)
            try:
                write(database, f"after-{number}")
            except SpanctlError as error:
                return error.code
            return "committed"

        with ThreadPoolExecutor(threads) as pool:
            ends = list(pool.map(one, range(threads)))
            ends += list(pool.map(one, range(threads)))
        assert ends == ["conflict"] * 2 * threads
    for table in ("t", "spanctl_intents"):
        where = " WHERE prefix NOT LIKE 'ledger/%'" if table != "t" else ""
        assert truth(target, f"{table}{where}") == 0
    with Database(target) as database:
        write(database)
    assert truth(target) == 1


def test_an_operation_in_flight_is_not_committed_elsewhere(mortal: Emulator) -> None:
    """The emulator is replaced under a body; its session and transaction are valid in the next."""
    target = made(mortal)
    attempts = []

    def body(txn: Transaction) -> None:
        attempts.append(1)
        txn.insert("t", ("k", "v"), [(1, 1)])
        if len(attempts) == 1:
            crowded(mortal)

    with Database(target) as database, pytest.raises(ConflictError, match="now, and held"):
        Run(database, "r").step("s", body, key="k")
    assert truth(target) == 0


def test_a_missing_row_of_the_users_own_is_told_as_that(target: Target) -> None:
    """The commit of an update that finds no row fails by itself, and the next one goes on."""
    with Database(target) as database, Run(database, "r") as run:
        with pytest.raises(StatementError, match="NOT_FOUND"):
            run.step("s", lambda txn: txn.update("t", ("k", "v"), [(5, 5)]), key="k")
        run.step("s", lambda txn: txn.insert("t", ("k", "v"), [(5, 5)]), key="l")
    assert truth(target) == 1


def test_a_read_that_finds_its_session_lost_stops_later_writes(mortal: Emulator) -> None:
    """Whoever finds it: here a query, which itself is answered by the new database."""
    target = made(mortal)
    with Database(target) as database:
        write(database)
        reborn(mortal)
        assert list(database.query("SELECT * FROM t")) == []
        with pytest.raises(ConflictError, match="now, and held"):
            write(database, "after")
    assert truth(target) == 0


def test_a_restore_under_the_same_name_in_a_process_that_goes_on(
    mortal: Emulator,
) -> None:
    """The ledger's rows are the same ones: the creation time is read again, and tells it."""
    with ScriptedAdmin(mortal.address) as admin:
        direct = made(mortal)
        target = Target(database=direct.database, emulator_host=admin.address)
        with Database(target) as database:
            schema.install(database)  # binds the creation time
            write(database)
            rows = read_settings(database)
            made(mortal)
            settings(direct, **rows)
            admin.script.created = LATER
            with pytest.raises(OtherDatabaseError):
                write(database, "after")
        assert truth(direct) == 0
