"""What somebody has signed is all that counts: no label, key or reason joins it later.

Whoever has Prefect's API may change the labels and parameters of a flow run, and have it run again.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterId
from prefect.flow_engine import run_flow
from prefect.states import Pending

from spanctl.audit.identity import identities, identity_of
from spanctl.audit.model import Coverage, Link
from spanctl.credentials.reference import SecretName
from spanctl.credentials.resolve import resolve as resolve_credentials
from spanctl.credentials.resolve import resolve_store
from spanctl.credentials.secret import Secret
from spanctl.credentials.signing import chosen
from spanctl.errors import NotPermittedError, UsageError
from spanctl.flows import asking
from spanctl.invocation import (
    ATTESTATION_LABEL,
    FLOW_KEY_LABEL,
    IDEMPOTENCY_KEY_LABEL,
    INITIATOR_LABEL,
    REASON_LABEL,
    using,
)
from spanctl.ledger.keys import keyed_root
from spanctl.ledger.receipt import Receipt, Standing
from spanctl.references import Signer
from spanctl.settings import resolve
from spanctl.spanner.client import Target
from tests.fixtures.cli import Spanctl
from tests.flows.bank import Bank, deposit
from tests.flows.test_identity import (
    USER,
    Deployed,
    _resign,
    bank,
    context,
    deploy,
    only,
    pay,
    runner,
    standins,
)
from tests.local.identity import PARENT, PROJECT, StandIns
from tests.security.stranger import until

__all__ = ["bank", "context", "deploy", "runner", "standins"]
pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

ASKED = {INITIATOR_LABEL: "ada@laptop", REASON_LABEL: "INC-1"}
KEYED = {**ASKED, IDEMPOTENCY_KEY_LABEL: "payday"}
ALTERED: dict[str, dict[str, Any]] = {
    "key": {IDEMPOTENCY_KEY_LABEL: "another"},
    "empty key": {IDEMPOTENCY_KEY_LABEL: ""},
    "reason": {REASON_LABEL: "the boss asked"},
    "empty reason": {REASON_LABEL: ""},
    "who asks": {INITIATOR_LABEL: "boss@example.com"},
    "number": {REASON_LABEL: 1},
    "flag": {IDEMPOTENCY_KEY_LABEL: True},
    "another label of ours": {"spanctl.initiator_standing": "proven"},
    "no statement": {ATTESTATION_LABEL: ""},
    "no salt": {"spanctl.attestation_salt": "x"},
}


def patch(run_id: str, labels: Mapping[str, Any]) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(run_id), dict(labels))


def labels_of(run_id: str) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        return dict(client.read_flow_run(UUID(run_id)).labels)


def ask(deployed: Deployed, labels: Mapping[str, str], **parameters: Any) -> str:
    """Have a run made as ``spanctl run`` does, its labels signed."""
    nonce = str(uuid.uuid4())
    signed = deployed.signed(nonce, labels=dict(labels), **parameters)
    return deployed.ask(nonce, {**labels, **signed.labels}, **parameters)


def work(deployed: Deployed, run_id: str) -> Any:
    asking._verified.cache_clear()  # noqa: SLF001 - as in another process
    return deployed.work(run_id)


# -- labels


@pytest.mark.parametrize(
    ("asked", "altered"),
    [*((KEYED, one) for one in ALTERED.values()), *(({}, one) for one in [*ALTERED.values()][:5])],
)
def test_a_finished_run_is_not_applied_again(
    bank: Bank,
    deploy: Callable[..., Deployed],
    asked: dict[str, str],
    altered: dict[str, Any],
) -> None:
    """Under altered labels it is refused by name; as it was, it replays."""
    deployed = deploy()
    run_id = ask(deployed, asked, cents=7)
    assert work(deployed, run_id) is None
    receipt = only(bank)
    assert work(deployed, run_id) is None
    before = labels_of(run_id)
    patch(run_id, altered)
    error = work(deployed, run_id)
    assert isinstance(error, NotPermittedError), error
    assert "boss" not in error.message
    assert (bank.balance(), only(bank)) == (7, receipt)
    patch(run_id, {name: before[name] for name in altered if name in before})
    if altered.keys() <= before.keys():
        assert work(deployed, run_id) is None
    assert (bank.balance(), only(bank)) == (7, receipt)


@pytest.mark.parametrize("altered", [*ALTERED.values()][::4])
def test_a_run_that_waits_is_not_applied(
    bank: Bank, deploy: Callable[..., Deployed], altered: dict[str, Any]
) -> None:
    """Nor is one whose labels are altered before it begins."""
    deployed = deploy()
    run_id = ask(deployed, ASKED, cents=7)
    patch(run_id, altered)
    assert isinstance(work(deployed, run_id), NotPermittedError)
    assert (bank.balance(), bank.receipts(), bank.leases()) == (0, [], 0)


def test_labels_that_come_while_it_runs_have_no_effect(
    bank: Bank, deploy: Callable[..., Deployed]
) -> None:
    """Also not for what subflows write, which look at the root flow run themselves."""
    deployed = deploy()
    run_id = ask(deployed, ASKED, cents=7)

    @flow
    def inner() -> None:
        deposit("a", 1)

    @flow
    def outer(cents: int, note: str = "") -> None:  # noqa: ARG001 - as the deployment has them
        deposit("a", cents)
        patch(run_id, {IDEMPOTENCY_KEY_LABEL: "another", REASON_LABEL: "the boss asked"})
        inner()
        deposit("a", 1)

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run_id), Pending(), force=True)
        run = client.read_flow_run(UUID(run_id))
    assert run_flow(outer, run, parameters=run.parameters, return_type="state").is_completed()
    assert bank.balance() == 9
    assert {one.provenance.reason for one in bank.receipts()} == {"INC-1"}
    assert {one.operation_key.split("/")[0] for one in bank.receipts()} == {run_id}


def test_a_part_of_a_signed_run_has_its_keys_only_as_signed(
    bank: Bank, deploy: Callable[..., Deployed]
) -> None:
    """A run in another process writes under its root's key: not under one that came later."""
    deployed = deploy()
    root = ask(deployed, ASKED, cents=7)
    assert work(deployed, root) is None
    parent = UUID(only(bank).provenance.task_run)
    with get_client(sync_client=True) as client:
        known = TaskRunFilter(id=TaskRunFilterId(any_=[parent]))
        until(lambda: bool(client.read_task_runs(task_run_filter=known)))
        child = client.create_flow_run_from_deployment(
            UUID(deployed.id), parameters={"cents": 1, "note": "child"}, parent_task_run_id=parent
        )
    patch(root, {IDEMPOTENCY_KEY_LABEL: "another"})
    assert isinstance(work(deployed, str(child.id)), NotPermittedError)
    assert bank.balance() == 7


# -- what the flow says itself


def test_what_a_flow_says_itself_stays_its_own(
    bank: Bank, deploy: Callable[..., Deployed], spanctl: Spanctl
) -> None:
    """Key and reason that nobody signed are the code's: they hold, are found, and join no label."""
    deployed = deploy()
    run_id = ask(deployed, {INITIATOR_LABEL: "ada@laptop"}, cents=7)
    for _ in range(2):
        with using(reason="of the flow", idempotency_key="its-own", initiator="the flow"):
            assert work(deployed, run_id) is None
    receipt = only(bank)
    assert receipt.operation_key.startswith(f"{keyed_root('its-own')}/")
    assert (receipt.provenance.reason, receipt.provenance.initiator_claim) == (
        "of the flow",
        "ada@laptop",
    )
    labels = labels_of(run_id)
    assert labels[FLOW_KEY_LABEL] == "its-own"
    assert labels.keys().isdisjoint({REASON_LABEL, IDEMPOTENCY_KEY_LABEL})
    shown = json.loads(spanctl("audit", run_id, "-o", "json").stdout)
    assert shown["committed"] == 1
    found = identity_of(receipt, bank.target)
    assert (found.initiator, found.contradicted) == (Standing.VOUCHED, False)
    assert "the reason is the flow's own" in found.source.note


def test_what_is_signed_goes_before_what_the_flow_says(
    bank: Bank, deploy: Callable[..., Deployed]
) -> None:
    """The person's reason stays; a second key is refused by name."""
    deployed = deploy()
    run_id = ask(deployed, KEYED, cents=7)
    with using(idempotency_key="its-own"):
        error = work(deployed, run_id)
    assert isinstance(error, UsageError)
    assert "another idempotency key" in error.message
    with using(reason="of the flow", initiator="the flow"):
        assert work(deployed, run_id) is None
    found = only(bank).provenance
    assert (found.reason, found.initiator_claim) == ("INC-1", "ada@laptop")


# -- statements of before


def test_a_statement_of_the_first_version_is_not_taken(
    bank: Bank, deploy: Callable[..., Deployed]
) -> None:
    """It said nothing of labels, so that they could be altered."""
    deployed, nonce = deploy(), str(uuid.uuid4())
    signed = deployed.signed(nonce, cents=7)
    labels = {**signed.labels, ATTESTATION_LABEL: _resign(signed, bank.target, labels=None)}
    error = work(deployed, deployed.ask(nonce, labels, cents=7))
    assert isinstance(error, NotPermittedError)
    assert "earlier version" in error.message
    assert bank.receipts() == []


# -- audits


@pytest.fixture
def receipt(bank: Bank, deploy: Callable[..., Deployed]) -> Receipt:
    """A receipt of a signed run with a key and a reason."""
    deployed = deploy()
    assert work(deployed, ask(deployed, KEYED, cents=7)) is None
    return only(bank)


def test_audits_compare(bank: Bank, receipt: Receipt) -> None:
    """Reason, key and what was said of who asks, each with the statement."""
    assert identity_of(receipt, bank.target).source.link is Link.VOUCHED
    other = receipt.operation_key.replace(keyed_root("payday"), keyed_root("another"))
    origin = receipt.provenance
    for what, altered in {
        "reason": replace(receipt, provenance=replace(origin, reason="the boss asked")),
        "no reason": replace(receipt, provenance=replace(origin, reason=None)),
        "key": replace(receipt, operation_key=other),
        "root": replace(receipt, operation_key=f"{origin.root_run}/deposit"),
        "user": replace(receipt, provenance=replace(origin, initiator_claim="boss@laptop")),
    }.items():
        found = identity_of(altered, bank.target)
        assert (found.initiator, found.contradicted) == (Standing.CLAIMED, True), what
        both = identities([receipt, replace(altered, txn_id="another")], bank.target)
        assert [one.contradicted for one in both.values()] == [False, True], what


def test_a_receipt_of_the_first_version_says_what_it_lacks(
    bank: Bank, deploy: Callable[..., Deployed], receipt: Receipt
) -> None:
    """Who asked holds still; of reason and key it says nothing, whatever they are."""
    deployed, nonce = deploy(), str(uuid.uuid4())
    signed = deployed.signed(nonce, cents=7)
    text = _resign(signed, bank.target, labels=None, deployment=receipt.provenance.deployment)
    origin = replace(receipt.provenance, attestation=text, reason="any")
    found = identity_of(replace(receipt, provenance=origin), bank.target)
    assert (found.initiator, found.contradicted) == (Standing.VOUCHED, False)
    assert "said nothing of reason and key" in found.source.note


def test_lists_pages_and_json_say_it_in_the_same_words(
    bank: Bank,
    receipt: Receipt,
    deploy: Callable[..., Deployed],
    spanctl: Spanctl,
    context: Callable[..., None],
) -> None:
    """Proven, vouched for by an account, or claimed: wherever somebody is named."""
    (signer,) = receipt.provenance.initiator_chain
    deployed = deploy()
    plain = deployed.ask(str(uuid.uuid4()), {INITIATOR_LABEL: "boss@example.com"}, cents=1)
    assert work(deployed, plain) is None
    (other,) = [one for one in bank.receipts() if one.txn_id != receipt.txn_id]
    vouched = f"vouched for by {signer}"

    def words(txn_id: str) -> set[str]:
        listed = json.loads(spanctl("audit", "list", "-o", "json").stdout)["items"]
        (row,) = [one for one in listed if one["txn_id"] == txn_id]
        one = json.loads(spanctl("audit", txn_id, "-o", "json").stdout)
        run = json.loads(spanctl("audit", row["root_run"], "-o", "json").stdout)
        (part,) = run["transactions"]
        return {found["initiator_standing"] for found in (row, one, run, part)}

    assert words(receipt.txn_id) == {vouched}
    assert words(other.txn_id) == {"claimed"}
    assert vouched in spanctl("audit", "list").stdout
    assert vouched in spanctl("audit", receipt.txn_id, "-o", "html").stdout
    context(sign_as=f"{signer}={USER}")
    assert words(receipt.txn_id) == {"proven"}
    assert words(other.txn_id) == {"claimed"}


# -- signers and persons


def test_an_account_of_one_person_proves(
    bank: Bank,
    deploy: Callable[..., Deployed],
    context: Callable[..., None],
    standins: StandIns,
    spanctl: Spanctl,
) -> None:
    """Their own account signs, though others come first; it speaks for nobody else."""
    reader, rotator = standins.email("reader"), standins.email("rotator")
    context(sign_as=f"{rotator}=boss@example.com,{reader}={USER}")
    deployed = deploy()
    done = spanctl("run", deployed.name, "--detach", "-o", "json")
    assert "claim" not in done.stderr
    run_id = json.loads(done.stdout)["flow_run"]
    assert work(deployed, run_id) is None
    found = only(bank).provenance
    assert (found.initiator, found.initiator_chain) == (USER, (reader,))
    assert found.initiator_standing is Standing.PROVEN
    context(sign_as=f"{reader}=boss@example.com")
    assert isinstance(work(deployed, run_id), NotPermittedError)
    nobody = spanctl("run", deployed.name, "--detach", "-o", "json")
    assert f"no account of sign_as signs for {USER}" in nobody.stderr


def test_another_s_account_is_not_believed(
    bank: Bank,
    deploy: Callable[..., Deployed],
    context: Callable[..., None],
    standins: StandIns,
) -> None:
    """Whoever may sign as an account of one person names no other one in its name."""
    reader = standins.email("reader")
    context(sign_as=f"{reader}={USER}")
    deployed, nonce = deploy(), str(uuid.uuid4())
    there = replace(deployed, target=Target.from_settings(resolve()))
    signed = there.signed(nonce, cents=7)
    forged = _resign(signed, there.target, initiator="boss@example.com")
    labels = {**signed.labels, ATTESTATION_LABEL: forged}
    error = work(there, there.ask(nonce, labels, cents=7))
    assert isinstance(error, NotPermittedError)
    assert f"speaks for {USER} alone" in error.message
    assert bank.receipts() == []


@pytest.mark.parametrize(
    ("signers", "found"),
    [
        ((Signer("a@x.y"), Signer("b@x.y")), "a@x.y"),
        ((Signer("a@x.y"), Signer("b@x.y", "me@x.y")), "b@x.y"),
        ((Signer("a@x.y", "you@x.y"), Signer("b@x.y")), "b@x.y"),
    ],
)
def test_who_signs(signers: tuple[Signer, ...], found: str) -> None:
    """One's own account, else the first that is nobody's."""
    assert chosen(signers, "me@x.y") == found


def test_a_shared_key_is_nobody(
    bank: Bank,
    context: Callable[..., None],
    standins: StandIns,
    deploy: Callable[..., Deployed],
    spanctl: Spanctl,
) -> None:
    """With credentials in a secret the person is claimed, unless they sign; never the account."""
    from spanctl.flows.runs import registry

    email = standins.email("runner")
    endpoints = bank.target.identity
    client = standins.secret_manager(resolve_credentials("adc", endpoints))
    name = f"shared-{uuid.uuid4().hex[:8]}"
    client.create_secret(parent=PARENT, secret_id=name, secret={"replication": {"automatic": {}}})
    store = resolve_store("adc", endpoints)
    store.add(SecretName(PROJECT, name), Secret(json.dumps(standins.new_key("runner"))))
    store.close()
    client.transport.close()
    registry.close_all()
    context(credentials=f"secret:{PARENT}/secrets/{name}@1", sign_as="")
    with using(initiator="ada@laptop"):
        pay(cents=3)
    found = only(bank).provenance
    assert (found.initiator, found.initiator_standing) == ("ada@laptop", Standing.CLAIMED)
    assert (found.executor, found.executor_standing) == (email, Standing.PROVEN)
    bank.before.append(only(bank).txn_id)
    context(sign_as=standins.email("reader"))
    deployed = deploy()
    done = spanctl("run", deployed.name, "--detach", "-o", "json")
    assert "claim" not in done.stderr, done.stderr
    assert work(deployed, json.loads(done.stdout)["flow_run"]) is None
    found = only(bank).provenance
    assert (found.initiator, found.initiator_standing) == (USER, Standing.VOUCHED)
    judged = identity_of(only(bank), Target.from_settings(resolve()))
    assert (judged.initiator, judged.source.coverage) == (Standing.VOUCHED, Coverage.PRESENT)
