"""Who asked and who wrote: proven by the issuer of tokens and by signed statements, or claimed."""

import base64
import contextvars
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId
from prefect.flow_engine import run_flow
from prefect.states import Pending

from spanctl import settings
from spanctl.audit.identity import identity_of
from spanctl.audit.model import Coverage, Link
from spanctl.audit.trail import trail
from spanctl.clock import now
from spanctl.credentials import issuer, signing
from spanctl.credentials.attesting import hand_for, sign
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.signing import Signed, attest
from spanctl.errors import NotPermittedError
from spanctl.flows import asking
from spanctl.invocation import ATTESTATION_LABEL, INITIATOR_LABEL, using
from spanctl.ledger.attestation import Claims, parse
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Provenance, Receipt, Standing
from spanctl.local.standins import jwt
from spanctl.local.standins.bootstrap import user_address
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.settings import api_settings
from spanctl.resources import DatabaseName
from spanctl.settings import Contexts
from spanctl.spanner import fence, schema
from spanctl.spanner.actors import signers
from spanctl.spanner.client import Target, shared
from spanctl_cli.views.trail_actors import actors
from tests.faults import raw
from tests.fixtures.cli import Spanctl
from tests.flows.bank import DDL, Bank, deposit
from tests.local.identity import StandIns

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

USER = user_address()


@flow
def pay(cents: int = 5, note: str = "") -> None:
    deposit("a", cents, key=note or None)


@pytest.fixture(scope="module")
def standins(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    folder = tmp_path_factory.mktemp("identity") / "identity"
    served = StandIns(folder, spanner=emulator).start()
    yield served
    assert served.stop() == 0


@pytest.fixture
def runner(standins: StandIns) -> str:
    return standins.email("runner")


@pytest.fixture
def context(config_home: Path) -> Callable[..., None]:
    """A function that sets settings of the context in use."""

    def change(**values: str) -> None:
        contexts = Contexts.load(config_home / "contexts.toml")
        known = dict(contexts.contexts.get("local", {}))
        contexts.with_context("local", {**known, **values}).using("local").save()

    return change


@pytest.fixture
def bank(
    emulator: str,
    database: Callable[..., DatabaseName],
    standins: StandIns,
    runner: str,
    context: Callable[..., None],
) -> Iterator[Bank]:
    """The bank behind the gateway; the local user writes to it as the runner."""
    from spanctl.flows.runs import registry

    name = database(*DDL)
    context(
        project=name.project,
        instance=name.instance,
        database=name.database,
        spanner_endpoint=f"127.0.0.1:{standins.ports['gateway']}",
        secretmanager_endpoint=f"127.0.0.1:{standins.ports['secretmanager']}",
        iam_endpoint=standins.base,
        ca_file=str(standins.places.bundle),
        adc_file=str(standins.places.user),
        credentials=f"impersonate:{runner}",
    )
    with raw.database(emulator, name.database) as google, google.batch() as batch:
        batch.insert("accounts", ["id", "balance"], [["a", 0], ["b", 0]])
    target = Target.from_settings(settings.resolve())
    found = shared(target)
    schema.install(found)
    made = Bank(target, found)
    made.before.extend(one.txn_id for one in made.receipts())
    yield made
    registry.close_all()
    found.close()


@dataclass(frozen=True)
class Deployed:
    """A deployment of ``pay``, runs of it, and their execution as a worker would do it."""

    name: str
    api: PrefectApi
    target: Target

    @property
    def id(self) -> str:
        return self.api.deployment(self.name).id

    def signed(self, nonce: str, labels: dict[str, str] | None = None, **parameters: Any) -> Signed:
        credentials = self.target.live_credentials()
        assert credentials is not None
        given = {"deployment": self.id, "nonce": nonce, "parameters": parameters}
        accounts = signers(self.target)
        return attest(credentials, self.target.identity, accounts, labels=labels, **given)

    def ask(self, nonce: str, labels: dict[str, str], **parameters: Any) -> str:
        deployment = self.api.deployment(self.name)
        return self.api.create_flow_run(
            deployment, parameters=parameters, nonce=nonce, labels=labels
        ).run.id

    def work(self, run_id: str) -> Any:
        """Run it in this process; return what it failed with, None when it completed."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(run_id), Pending(), force=True)
            run = client.read_flow_run(UUID(run_id))
        ended = run_flow(pay, run, parameters=run.parameters, return_type="state")
        return None if ended.is_completed() else ended.result(raise_on_failure=False)


@pytest.fixture
def deploy(bank: Bank) -> Iterator[Callable[..., Deployed]]:
    """A function that makes a deployment; again under the same name it is deployed anew."""
    reached = api_settings(None)
    assert reached is not None
    with PrefectApi(reached) as api:

        def make(name: str | None = None, **parameters: Any) -> Deployed:
            name = name or f"d-{uuid.uuid4().hex[:8]}"
            with get_client(sync_client=True) as client:
                client.create_deployment(
                    client.create_flow(pay),
                    name=name,
                    parameters=parameters,
                    parameter_openapi_schema=pay.parameters.model_dump(),
                )
            return Deployed(f"pay/{name}", api, bank.target)

        yield make


@pytest.fixture
def worker() -> Iterator[Callable[[Deployed], None]]:
    """A function that has a deployment's runs executed by a thread."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def work(deployed: Deployed) -> None:
        wanted = {"deployment_id": {"any_": [deployed.id]}}
        while not stop.is_set():
            for run in deployed.api._flow_runs(wanted, limit=10):  # noqa: SLF001
                if run.state is not None and run.state.type == "SCHEDULED":
                    deployed.work(run.id)
            time.sleep(0.1)

    def start(deployed: Deployed) -> None:
        target = partial(contextvars.copy_context().run, work, deployed)
        threads.append(threading.Thread(target=target))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join(30)


def only(bank: Bank) -> Receipt:
    (found,) = bank.receipts()
    return found


def test_a_run_in_this_process_is_proven(
    bank: Bank, runner: str, monkeypatch: pytest.MonkeyPatch, spanctl: Spanctl
) -> None:
    """The issuer says who asked and who wrote, whatever is said of it; it is asked once."""
    monkeypatch.setenv("SPANCTL_INITIATOR", "boss@example.com")
    monkeypatch.setenv("USER", "boss")
    with (
        mock.patch.object(issuer, "identify", wraps=issuer.identify) as asked,
        using(initiator="boss@example.com"),
    ):
        bank.database.actors.issuer = issuer.Issuer(
            bank.database.rpc.credentials,  # type: ignore[arg-type]
            bank.target.identity,
        )
        pay(cents=3)
        pay(cents=4)
        assert asked.call_count == 1
    assert bank.balance() == 7
    for one in bank.receipts():
        found = one.provenance
        assert (found.initiator, found.initiator_standing) == (USER, Standing.PROVEN)
        assert found.initiator_claim == "boss@example.com"
        assert (found.executor, found.executor_standing) == (runner, Standing.PROVEN)
        assert (found.executor_chain, found.executor_chain_standing) == ((USER,), Standing.PROVEN)
        assert " pid " in (found.executor_claim or "")
        assert found.attestation is None
    shown = spanctl("audit", bank.receipts()[0].txn_id, "-o", "json")
    data = json.loads(shown.stdout)
    assert (data["initiator_standing"], data["executor_standing"]) == ("proven", "proven")
    assert (data["executor_chain"], data["identity"]) == ([USER], "proven")


def test_a_fence_names_who_placed_it(bank: Bank, runner: str) -> None:
    """An operator's fence, and what opens it again, are proven like any other entry."""
    key = OperationKey("r", (), "s", 0)
    claimed = Provenance(initiator="boss@example.com", reason="stuck")
    closed = fence.close(bank.database, key, provenance=claimed).entry
    assert closed is not None
    for one in (closed, fence.reopen(bank.database, key, provenance=claimed)[1]):
        found = one.provenance
        assert (found.initiator, found.initiator_standing) == (USER, Standing.PROVEN)
        assert (found.executor, found.executor_standing) == (runner, Standing.PROVEN)
        assert found.initiator_claim == "boss@example.com"


def test_an_issuer_that_does_not_answer_proves_nothing(bank: Bank, runner: str) -> None:
    """Writing goes on; the receipt claims what the token's source says."""
    silent = replace(bank.target.identity, oauth2="https://127.0.0.1:1")
    credentials = bank.database.rpc.credentials
    assert credentials is not None
    bank.database.actors.issuer = issuer.Issuer(credentials, silent)
    pay(cents=3)
    found = only(bank).provenance
    assert (found.initiator, found.initiator_standing) == (runner, Standing.CLAIMED)
    assert (found.executor, found.executor_standing) == (runner, Standing.CLAIMED)


def test_a_deployments_run_is_vouched_for(
    bank: Bank,
    runner: str,
    deploy: Callable[..., Deployed],
    worker: Callable[[Deployed], None],
    spanctl: Spanctl,
) -> None:
    """The person's signed statement reaches the worker's receipt, and audits verify it again."""
    deployed = deploy(note="nightly")
    worker(deployed)
    done = spanctl("run", deployed.name, "-p", "cents=7", "--timeout", "60s", "-o", "json")
    assert done.exit_code == 0, done.stderr
    receipt = only(bank)
    found = receipt.provenance
    assert (found.initiator, found.initiator_standing) == (USER, Standing.VOUCHED)
    assert found.initiator_chain == (runner,)
    assert (found.executor, found.executor_standing) == (runner, Standing.PROVEN)
    data = json.loads(spanctl("audit", receipt.txn_id, "-o", "json").stdout)
    words = f"vouched for by {runner}"
    assert (data["initiator"], data["initiator_standing"]) == (USER, words)
    assert (data["signed_by"], data["identity"]) == ([runner], "vouched")
    page = {name: text.plain for name, text in actors(trail(bank.database, None, receipt.txn_id))}
    assert page["asked by"] == f"{USER}  {words}"
    assert page["signed by"] == page["written by"] == f"{runner}  proven"
    assert page["acting for"] == f"{USER}  proven"
    assert page["process"].endswith("  claimed")
    # Deployed anew and run again much later, it is the same run.
    deploy(deployed.name.partition("/")[2], note="changed", cents=9)
    run_id = json.loads(done.stdout)["flow_run"]
    asking._verified.cache_clear()  # noqa: SLF001 - as in another process
    assert deployed.work(run_id) is None
    assert (bank.balance(), only(bank)) == (7, receipt)


def _resign(signed: Signed, target: Target, **changes: Any) -> str:
    credentials = target.live_credentials()
    assert credentials is not None
    token = issuer.Issuer(credentials, target.identity).token()
    claims = replace(signed.claims, **changes)
    return sign(Http(target.identity), target.identity, hand_for(token, claims.signer), claims)


def _own_key(signed: Signed) -> str:
    return jwt.sign(
        signed.claims.to_payload(), jwt.private_pem(jwt.new_key()), parse(signed.text).key_id
    )


def _unsigned(signed: Signed) -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k"}').rstrip(b"=").decode()
    return f"{header}.{signed.text.split('.')[1]}."


def _other_claims(signed: Signed) -> str:
    header, _, signature = signed.text.split(".")
    payload = replace(signed.claims, initiator="boss@example.com").to_payload().encode()
    return f"{header}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{signature}"


def _elsewhere(signed: Signed, standins: StandIns, target: Target) -> str:
    return _resign(signed, target, signer=standins.email("reader"))


FORGED: dict[str, tuple[Callable[[Signed, StandIns, Target], str], str]] = {
    "other claims": (lambda s, _i, _t: _other_claims(s), "its signature is not"),
    "own key": (lambda s, _i, _t: _own_key(s), "its signature is not"),
    "unsigned": (lambda s, _i, _t: _unsigned(s), "not signed as IAM signs"),
    "not one": (lambda _s, _i, _t: "boss@example.com", "no signed statement"),
    "other account": (_elsewhere, "whose word is not taken here"),
    "other deployment": (
        lambda s, _i, t: _resign(s, t, deployment=str(uuid.uuid4())),
        "another deployment",
    ),
    "other key": (lambda s, _i, t: _resign(s, t, nonce="other"), "another idempotency key"),
    "stale": (
        lambda s, _i, t: _resign(s, t, issued=now() - timedelta(minutes=6)),
        "not signed when the run was made",
    ),
    "early": (
        lambda s, _i, t: _resign(s, t, issued=now() + timedelta(minutes=3)),
        "not signed when the run was made",
    ),
}


def test_a_forged_statement_is_refused(
    bank: Bank,
    deploy: Callable[..., Deployed],
    standins: StandIns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By name, before anything is written; no environment makes another account's word count."""
    monkeypatch.setenv("SPANCTL_SIGN_AS", standins.email("reader"))
    deployed = deploy()
    for how, (forge, told) in FORGED.items():
        nonce = str(uuid.uuid4())
        signed = deployed.signed(nonce, cents=7)
        labels = {**signed.labels, ATTESTATION_LABEL: forge(signed, standins, bank.target)}
        error = deployed.work(deployed.ask(nonce, labels, cents=7))
        assert isinstance(error, NotPermittedError), how
        assert told in error.message, how
        assert "boss" not in error.message, how
    assert (bank.receipts(), bank.balance(), bank.leases()) == ([], 0, 0)


def test_altered_parameters_are_refused(bank: Bank, deploy: Callable[..., Deployed]) -> None:
    """Those of the request, and those that somebody gave the run afterwards."""
    deployed, nonce = deploy(), str(uuid.uuid4())
    signed = deployed.signed(nonce, cents=7)
    error = deployed.work(deployed.ask(nonce, signed.labels, cents=700))
    assert isinstance(error, NotPermittedError)
    assert "other parameters" in error.message
    nonce = str(uuid.uuid4())
    run_id = deployed.ask(nonce, deployed.signed(nonce, cents=7).labels, cents=7)
    with get_client(sync_client=True) as client:
        body = {"parameters": {"cents": 700}}
        client.request("PATCH", "/flow_runs/{id}", path_params={"id": run_id}, json=body)
    assert isinstance(deployed.work(run_id), NotPermittedError)
    assert (bank.receipts(), bank.balance()) == ([], 0)


def test_a_statement_is_good_for_one_run(bank: Bank, deploy: Callable[..., Deployed]) -> None:
    """Not for another one that takes the place of the first and is like it in everything."""
    deployed, nonce = deploy(), str(uuid.uuid4())
    labels = deployed.signed(nonce, cents=7).labels
    first = deployed.ask(nonce, labels, cents=7)
    assert deployed.work(first) is None
    with get_client(sync_client=True) as client:
        client.delete_flow_run(UUID(first))
    again = deployed.ask(nonce, labels, cents=7)
    error = deployed.work(again)
    assert isinstance(error, NotPermittedError)
    assert error.details["used_in"] == first
    assert bank.balance() == 7


def test_a_refusal_reaches_who_asks(  # noqa: PLR0913, PLR0917 - fixtures
    bank: Bank,
    deploy: Callable[..., Deployed],
    worker: Callable[[Deployed], None],
    spanctl: Spanctl,
    standins: StandIns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``spanctl run`` ends with 4 when the worker refuses the statement."""
    genuine = signing.attest

    def altered(*args: Any, **given: Any) -> Signed:
        signed = genuine(*args, **given)
        return replace(signed, text=_elsewhere(signed, standins, bank.target))

    monkeypatch.setattr(signing, "attest", altered)
    deployed = deploy()
    worker(deployed)
    done = spanctl("run", deployed.name, "--timeout", "60s")
    assert (done.exit_code, done.stdout) == (4, ""), done.stderr
    assert bank.receipts() == []


def test_a_label_claims(
    bank: Bank, runner: str, deploy: Callable[..., Deployed], spanctl: Spanctl
) -> None:
    """Without a statement, what a label says of who asked is a claim, and shown as one."""
    deployed = deploy()
    labels = {INITIATOR_LABEL: "boss@example.com", "spanctl.initiator_standing": "proven"}
    assert deployed.work(deployed.ask(str(uuid.uuid4()), labels, cents=7)) is None
    receipt = only(bank)
    found = receipt.provenance
    assert (found.initiator, found.initiator_standing) == ("boss@example.com", Standing.CLAIMED)
    assert (found.executor, found.executor_standing) == (runner, Standing.PROVEN)
    data = json.loads(spanctl("audit", receipt.txn_id, "-o", "json").stdout)
    assert (data["initiator_standing"], data["identity"]) == ("claimed", "claimed")


def test_a_run_that_calls_another_its_parent(bank: Bank, deploy: Callable[..., Deployed]) -> None:
    """It doesn't get its parent's statement: anyone can name any run as the parent of another."""
    deployed, nonce = deploy(), str(uuid.uuid4())
    genuine = deployed.ask(nonce, deployed.signed(nonce, cents=7).labels, cents=7)
    assert deployed.work(genuine) is None
    before = only(bank)
    parent = UUID(before.provenance.task_run)
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        known = TaskRunFilter(id=TaskRunFilterId(any_=[parent]))
        while not client.read_task_runs(task_run_filter=known):  # events tell the server of it
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child = client.create_flow_run_from_deployment(
            UUID(deployed.id),
            parameters={"cents": 700, "note": "child"},
            parent_task_run_id=parent,
        )
    assert deployed.work(str(child.id)) is None
    (receipt,) = [one for one in bank.receipts() if one.txn_id != before.txn_id]
    assert receipt.provenance.root_run == genuine
    assert receipt.provenance.initiator_standing is Standing.CLAIMED
    assert receipt.provenance.attestation is None


def test_an_account_to_sign_as(
    bank: Bank,
    deploy: Callable[..., Deployed],
    context: Callable[..., None],
    standins: StandIns,
    spanctl: Spanctl,
) -> None:
    """The first of ``sign_as`` signs, asked by the person; workers take the word of all of them."""
    reader, rotator = standins.email("reader"), standins.email("rotator")
    context(sign_as=f"{reader},{rotator}")
    deployed = deploy()
    done = spanctl("run", deployed.name, "--detach", "-o", "json")
    assert done.stderr.count("claim") == 0
    context(sign_as=f"{rotator},{reader}")
    assert deployed.work(json.loads(done.stdout)["flow_run"]) is None
    found = only(bank).provenance
    assert (found.initiator, found.initiator_chain) == (USER, (reader,))
    assert found.initiator_standing is Standing.VOUCHED


def test_who_can_not_sign_is_claimed(
    bank: Bank,
    deploy: Callable[..., Deployed],
    spanctl: Spanctl,
    context: Callable[..., None],
    standins: StandIns,
) -> None:
    """The run is asked for all the same, and the person is told."""
    context(sign_as=standins.email("nobody"))
    deployed = deploy()
    done = spanctl("run", deployed.name, "--detach", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert "only claim who asked" in done.stderr
    assert deployed.work(json.loads(done.stdout)["flow_run"]) is None
    assert only(bank).provenance.initiator_standing is Standing.CLAIMED


def test_audit_verifies_again(
    bank: Bank, deploy: Callable[..., Deployed], spanctl: Spanctl, emulator: str
) -> None:
    """Only what holds now is called proven; a receipt that says more than its statement, exit 7."""
    deployed, nonce = deploy(), str(uuid.uuid4())
    signed = deployed.signed(nonce, cents=7)
    assert deployed.work(deployed.ask(nonce, signed.labels, cents=7)) is None
    receipt = only(bank)

    def judged(target: Target = bank.target, **changes: Any) -> tuple[Any, ...]:
        origin: Provenance = replace(receipt.provenance, **changes)
        found = identity_of(replace(receipt, provenance=origin), target)
        return found.initiator, found.contradicted, found.source.coverage, found.source.link

    vouched = (Standing.VOUCHED, False, Coverage.PRESENT, Link.VOUCHED)
    proven = (Standing.PROVEN, False, Coverage.PRESENT, Link.PROVEN)
    contradicted = (Standing.CLAIMED, True, Coverage.PRESENT, Link.CLAIMED)
    assert judged() == vouched
    (signer,) = receipt.provenance.initiator_chain
    assert judged(replace(bank.target, sign_as=f"{signer}={USER}")) == proven
    assert judged(replace(bank.target, sign_as=f"{signer}=boss@example.com")) == contradicted
    dead = Endpoints(iam="https://127.0.0.1:1", ca_file=bank.target.identity.ca_file)
    unreachable = (Standing.CLAIMED, False, Coverage.UNREACHABLE, Link.CLAIMED)
    assert judged(replace(bank.target, identity=dead)) == unreachable
    disabled = (Standing.CLAIMED, False, Coverage.DISABLED, Link.CLAIMED)
    assert judged(replace(bank.target, sign_as="other@example.com")) == disabled
    pem = jwt.private_pem(jwt.new_key())
    gone = jwt.sign(signed.claims.to_payload(), pem, "no-longer-published")
    expired = (Standing.CLAIMED, False, Coverage.EXPIRED, Link.CLAIMED)
    assert judged(attestation=gone) == expired
    for changes in (
        {"initiator": "boss@example.com"},
        {"initiator_chain": ("boss@example.com",)},
        {"attestation": _other_claims(signed)},
        {"attestation": _own_key(signed)},
        {"attestation": "nothing"},
        {"attestation": None},
        {"deployment": str(uuid.uuid4())},
        {"attestation": None, "initiator_standing": Standing.PROVEN},
    ):
        assert judged(**changes) == contradicted, changes
    with raw.database(emulator, bank.target.database.database) as google, google.batch() as batch:
        row = (receipt.txn_id, "boss@example.com")
        batch.update("spanctl_receipts", ("txn_id", "initiator"), [row])
    shown = spanctl("audit", receipt.txn_id, "-o", "json")
    data = json.loads(shown.stdout)
    assert (shown.exit_code, data["initiator_standing"]) == (7, "claimed")
    assert f"says that {USER} asked" in shown.stderr


def test_a_statement_says_no_more_than_it_must(bank: Bank, deploy: Callable[..., Deployed]) -> None:
    """Neither a parameter nor its guessable digest is in a statement, and so in no receipt."""
    deployed = deploy()
    texts = {deployed.signed("n", cents=7).claims.parameters for _ in range(2)}
    assert len(texts) == 2
    assert isinstance(parse(deployed.signed("n", note="private").text).claims, Claims)
    assert "private" not in deployed.signed("n", note="private").claims.to_payload()
    assert bank.receipts() == []
