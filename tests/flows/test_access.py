"""Flows and commands through the gateway: with a live token, or not at all."""

import contextlib
import pickle
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from spanctl.clock import now
from spanctl.credentials.document import CredentialDocument, access_token_document
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.reference import SecretName
from spanctl.credentials.resolve import resolve, resolve_store
from spanctl.credentials.secret import Secret
from spanctl.errors import NotPermittedError, UnreachableError
from spanctl.flows import SpannerCredentials, SpannerDatabase
from spanctl.local.standins.tokens import digest
from spanctl.settings import resolve as resolve_settings
from spanctl.spanner import admin, schema
from spanctl.spanner.client import Database, Target
from spanctl.spanner.run import Run
from tests.faults.emulator import free_port
from tests.faults.proxy import FaultProxy, fail, lose_reply
from tests.fixtures.cli import Spanctl
from tests.flows.bank import Bank
from tests.local.identity import PARENT, PROJECT, StandIns

pytestmark = pytest.mark.emulator

AUTOMATIC = {"replication": {"automatic": {}}}
FORGED = "ya29.c.forged-by-somebody-who-has-no-key"
ADD = "UPDATE accounts SET balance = balance + @n WHERE id = @id"
FLOWS = """
from prefect import flow
from spanctl.flows import transaction


@transaction
def pay(txn, account: str) -> None:
    txn.execute_update(
        "UPDATE accounts SET balance = balance + @n WHERE id = @id", {"n": 5, "id": account}
    )


@flow
def settle() -> None:
    pay("a")
    pay("b")
"""


@pytest.fixture(scope="module")
def proxy(emulator: str) -> Iterator[FaultProxy]:
    """Stands between gateway and emulator."""
    with FaultProxy(emulator) as made:
        yield made


@pytest.fixture(scope="module")
def standins(proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    folder = tmp_path_factory.mktemp("access") / "identity"
    served = StandIns(folder, spanner=proxy.address).start()
    yield served
    assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()


@pytest.fixture
def target(bank: Bank, standins: StandIns, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """The bank's database as a context names it whose credentials are the runner's."""
    monkeypatch.delenv("SPANNER_EMULATOR_HOST")
    values = {
        "SPANNER_ENDPOINT": f"127.0.0.1:{standins.ports['gateway']}",
        "SECRETMANAGER_ENDPOINT": f"127.0.0.1:{standins.ports['secretmanager']}",
        "IAM_ENDPOINT": standins.base,
        "CA_FILE": str(standins.places.bundle),
        "ADC_FILE": str(standins.places.user),
        "CREDENTIALS": f"impersonate:{standins.email('runner')}",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"SPANCTL_{name}", value)
    made = Target.from_settings(resolve_settings())
    assert made.database == bank.target.database
    yield made
    switch(standins, "enable")


@pytest.fixture
def through(target: Target) -> Iterator[Database]:
    with Database(target) as opened:
        yield opened


def revoke_all(standins: StandIns) -> None:
    """Let no token be live any more: the user's, the runner's, whoever's."""
    _execute(standins, "DELETE FROM tokens")


def revoke(standins: StandIns, token: str) -> None:
    """Let one token be live no more."""
    _execute(standins, "DELETE FROM tokens WHERE digest = ?", digest(token))


def _execute(standins: StandIns, sql: str, *values: bytes) -> None:
    with contextlib.closing(sqlite3.connect(standins.places.database, timeout=10)) as db, db:
        assert db.execute(sql, values).rowcount > 0


# -- who is let in


@pytest.fixture
def flow_file(tmp_path: Path) -> str:
    path = tmp_path / "access_flows.py"
    path.write_text(FLOWS, encoding="utf-8")
    return f"{path}:settle"


def put(standins: StandIns, endpoints: Endpoints, name: str, token: str) -> str:
    """Keep a token in a new secret, as if it were good for an hour; return the reference."""
    user = resolve("adc", endpoints)
    client = standins.secret_manager(user)
    client.create_secret(parent=PARENT, secret_id=name, secret=AUTOMATIC)
    client.transport.close()
    store = resolve_store("adc", endpoints)
    try:
        store.add(SecretName(PROJECT, name), document_of(standins, token).material)
        return f"secret:{PARENT}/secrets/{name}@1"
    finally:
        store.close()


def document_of(standins: StandIns, token: str) -> CredentialDocument:
    return access_token_document(
        Secret(token), principal=standins.email("runner"), expiry=now() + timedelta(hours=1)
    )


def expired(standins: StandIns, target: Target, _: pytest.MonkeyPatch) -> str:
    minted = resolve(f"impersonate:{standins.email('runner')}", target.identity).ensure()
    revoke_all(standins)
    return put(standins, target.identity, "expired", minted.reveal_text())


def foreign(standins: StandIns, target: Target, _: pytest.MonkeyPatch) -> str:
    return put(standins, target.identity, "foreign", FORGED)


def missing(_: StandIns, __: Target, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("SPANCTL_ADC_FILE")
    return "adc"


def disabled(standins: StandIns, target: Target, _: pytest.MonkeyPatch) -> str:
    switch(standins, "disable")
    return target.credentials


def switch(standins: StandIns, verb: str) -> None:
    path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}:{verb}"
    assert standins.http("POST", path, {}, standins.user_token()).status == 200


@pytest.mark.prefect
@pytest.mark.parametrize("broken", [expired, foreign, missing, disabled])
def test_a_flow_needs_a_live_token(  # noqa: PLR0913, PLR0917 - what it works on
    spanctl: Spanctl,
    prefect: str,  # noqa: ARG001 - the server of the flow runs
    bank: Bank,
    target: Target,
    standins: StandIns,
    flow_file: str,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[StandIns, Target, pytest.MonkeyPatch], str],
) -> None:
    """Without one: exit 4, one line, what to do, nothing written; the same flow with one passes."""
    with monkeypatch.context() as patch:
        patch.setenv("SPANCTL_CREDENTIALS", broken(standins, target, patch))
        ended = spanctl("run", flow_file)
        assert ended.exit_code == 4, ended.stderr
        told = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        hints = [line for line in ended.stderr.splitlines() if line.startswith("hint: ")]
        assert len(told) == len(hints) == 1
        assert FORGED not in ended.output
        assert (bank.balance("a"), bank.balance("b"), bank.receipts()) == (0, 0, [])
        switch(standins, "enable")
    assert spanctl("run", flow_file).exit_code == 0
    assert (bank.balance("a"), bank.balance("b")) == (5, 5)


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect", "target")
def test_a_reader_reads_and_does_not_write(
    spanctl: Spanctl, bank: Bank, standins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PERMISSION_DENIED is exit 4 too; a query of the same principal passes."""
    monkeypatch.setenv("SPANCTL_CREDENTIALS", f"impersonate:{standins.email('reader')}")
    asked = spanctl("run", "sql", "-e", "SELECT id FROM accounts ORDER BY id")
    assert asked.exit_code == 0, asked.stderr
    update = "UPDATE accounts SET balance = 9 WHERE id = 'a'"
    ended = spanctl("run", "sql", "-e", update)
    assert ended.exit_code == 4, ended.stderr
    assert "does not permit" in ended.stderr
    assert bank.balance("a") == 0


def test_identity_services_that_are_away_are_unreachable(through: Database) -> None:
    """Exit 3, and not what gRPC makes of a failing plug-in."""
    dead = f"https://127.0.0.1:{free_port()}"
    endpoints = replace(through.target.identity, iam=dead, oauth2=dead)
    live = resolve(through.target.credentials, endpoints)
    with Database(through.target, credentials=live) as cut, pytest.raises(UnreachableError):
        cut.query("SELECT 1")


# -- rotation


def test_a_rotation_between_two_statements_is_not_noticed(
    through: Database, bank: Bank, standins: StandIns
) -> None:
    """Every kind of RPC goes on with another token, in the same attempt of the transaction."""
    tokens = []

    def body(txn) -> int:
        assert txn.execute_update(ADD, {"n": 5, "id": "a"}) == 1
        for _ in range(2):
            live = through.rpc.credentials
            assert live is not None
            tokens.append(live.ensure().reveal_text())
            revoke_all(standins)
            ((seen,),) = txn.execute_sql("SELECT balance FROM accounts WHERE id = 'a'")
        return int(seen)

    with Run(through, "rotation") as run:
        done = run.step("pay", body)
    assert (done.result, done.attempts, done.replayed) == (5, 1, False)
    assert len(set(tokens)) == 2
    assert bank.balance() == 5


def test_a_rotated_secret_is_taken_up_in_mid_transaction(
    through: Database, bank: Bank, standins: StandIns
) -> None:
    """The old version's token ends between two statements, and the alias's new one goes on."""
    target = replace(through.target, credentials=f"secret:{PARENT}/secrets/rotated")
    name = SecretName(PROJECT, "rotated")
    store = resolve_store("adc", target.identity)

    def add(number: int) -> str:
        minted = resolve(through.target.credentials, target.identity).ensure().reveal_text()
        if number == 1:
            put(standins, target.identity, name.secret, minted)
        else:
            assert store.add(name, document_of(standins, minted).material) == number
        state = store.get(name)
        store.update(name, aliases={"current": number}, annotations={}, etag=state.etag)
        return minted

    def body(txn) -> None:
        txn.execute_update(ADD, {"n": 5, "id": "a"})
        add(2)
        revoke(standins, old)
        txn.execute_update(ADD, {"n": 5, "id": "b"})

    try:
        old = add(1)
        with Database(target) as database, Run(database, "rotated") as run:
            assert run.step("pay", body).attempts == 1
            assert _token(database) != old
    finally:
        store.close()
    assert (bank.balance("a"), bank.balance("b")) == (5, 5)


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "refused"])
def test_a_rotation_at_commit_is_not_noticed(
    through: Database, bank: Bank, standins: StandIns, proxy: FaultProxy, applied: bool
) -> None:
    """UNAUTHENTICATED from Commit is ambiguous: it is replayed with a new token, applied once."""

    def body(txn) -> None:
        txn.execute_update(ADD, {"n": 5, "id": "a"})
        if not applied:
            revoke_all(standins)

    with Run(through, "at-commit") as run:
        run.step("warm", lambda txn: txn.execute_update(ADD, {"n": 0, "id": "b"}))
        rule = proxy.add(
            "Commit",
            lose_reply("UNAUTHENTICATED"),
            when=lambda peek: applied and peek.transaction != "",
        )
        before = _token(through)
        done = run.step("pay", body)
    assert (rule.hits, done.attempts) == (int(applied), 1)
    assert _token(through) != before
    assert bank.balance() == 5
    assert [one.txn_id for one in bank.receipts()].count(done.txn_id) == 1


def _token(database: Database) -> str:
    assert database.rpc.credentials is not None
    return database.rpc.credentials.ensure().reveal_text()


def test_credentials_that_end_before_commit_leave_nothing_in_doubt(
    through: Database, bank: Bank, standins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Commit that could not be sent is told as what it is, and its locks are not left behind."""
    live = through.rpc.credentials
    assert live is not None

    def no_more() -> Secret:
        msg = "the token is over"
        raise NotPermittedError(msg, hint="log in")

    def body(txn) -> None:
        txn.execute_update(ADD, {"n": 5, "id": "a"})
        monkeypatch.setattr(live, "ensure", no_more)

    with pytest.raises(NotPermittedError, match="the token is over"), Run(through, "ends") as run:
        run.step("pay", body, expect_replay=False)
    monkeypatch.undo()
    assert bank.balance() == 0
    assert standins.process is not None


def test_reads_ddl_and_sessions_follow_a_rotation(through: Database, standins: StandIns) -> None:
    """Streams, admin calls and their long-running operations take up the new token too."""
    assert list(through.query("SELECT COUNT(*) FROM accounts")) == [(2,)]
    revoke_all(standins)
    assert list(through.query("SELECT COUNT(*) FROM accounts")) == [(2,)]
    revoke_all(standins)
    ddl = ["CREATE TABLE more (k INT64) PRIMARY KEY (k)"]
    assert "operations" in admin.execute_ddl(through.target, ddl)
    revoke_all(standins)
    through.sessions.forget_reader()
    assert list(through.query("SELECT COUNT(*) FROM more")) == [(0,)]
    assert schema.plan(through) == []


def test_it_is_sent_twice_and_not_more_often(through: Database, proxy: FaultProxy) -> None:
    """A server that accepts no token is asked once more, and then believed."""
    through.query("SELECT 1")
    rule = proxy.add("ExecuteStreamingSql", fail("UNAUTHENTICATED"), count=10)
    try:
        with pytest.raises(NotPermittedError, match="does not accept") as refused:
            through.query("SELECT 1")
    finally:
        proxy.clear()
    assert rule.hits == 2
    token = _token(through)
    shown = "".join(traceback.TracebackException.from_exception(refused.value).format())
    assert token[:20] not in shown + repr(through) + repr(through.rpc) + repr(through.target)


# -- what names the credentials


def test_a_block_s_reference_is_used(
    through: Database, bank: Bank, standins: StandIns, emulator: str
) -> None:
    """The database of a block is reached as the block's credentials say, whatever the context."""
    name = through.target.database
    made = SpannerDatabase(
        project=name.project,
        instance=name.instance,
        database=name.database,
        endpoint=through.target.endpoint,
        credentials=SpannerCredentials(impersonate=standins.email("reader")),
    )
    with Database(made.target()) as reading:
        assert list(reading.query("SELECT COUNT(*) FROM accounts")) == [(2,)]
        with pytest.raises(NotPermittedError), Run(reading, "block") as run:
            run.step("pay", lambda txn: txn.execute_update(ADD, {"n": 5, "id": "a"}))
    plain = made.model_copy(update={"credentials": None})
    assert plain.target() == through.target
    direct = made.model_copy(update={"emulator_host": emulator})
    assert direct.target().live_credentials() is None
    assert bank.balance() == 0


def test_a_target_travels_and_holds_no_token(through: Database) -> None:
    """It pickles, hashes and compares; what arrives opens the same door with a token of its own."""
    through.query("SELECT 1")
    packed = pickle.dumps(through.target)
    assert _token(through).encode()[:20] not in packed
    arrived = pickle.loads(packed)  # noqa: S301 - our own
    assert (arrived, hash(arrived)) == (through.target, hash(through.target))
    with Database(arrived) as again:
        assert list(again.query("SELECT 1")) == [(1,)]


def test_an_emulator_that_is_named_wins(
    bank: Bank, target: Target, monkeypatch: pytest.MonkeyPatch, emulator: str
) -> None:
    """SPANNER_EMULATOR_HOST goes before the gateway, and asks for no credentials."""
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", emulator)
    monkeypatch.setenv("SPANCTL_ADC_FILE", "/nowhere")
    found = Target.from_settings(resolve_settings())
    assert found.live_credentials() is None
    assert target.live_credentials() is not None
    with Database(found) as direct:
        assert list(direct.query("SELECT 1")) == [(1,)]
    assert bank.balance() == 0
