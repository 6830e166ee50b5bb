"""Who asked for a deployment's run: the signed statement in its labels, verified where it is run.

It is held against the flow run as Prefect gave it to this process when the run began, and so
against the very parameters that the flow is called with, and the very labels that its keys and
receipts are made with: what is changed later has no effect.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from spanctl.errors import NotPermittedError, SpanctlError, UsageError, VerificationError
from spanctl.flows.place import Place
from spanctl.invocation import ATTESTATION_LABEL, SALT_LABEL, asked_with
from spanctl.ledger.attestation import (
    Claims,
    RunFacts,
    check,
    parameters_digest,
    parse,
    sorted_labels,
)
from spanctl.ledger.receipt import Provenance, Standing
from spanctl.references import Signer

if TYPE_CHECKING:
    from spanctl.spanner.rpc import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A statement that came with a flow run, and what Prefect says of that run. It pickles.

    Attributes:
        flow_run: Id of the root flow run.
        text: The statement.
        facts: What it must fit.
        speaks: Whether it is about the run that a call is made in.
    """

    flow_run: str
    text: str
    facts: RunFacts
    speaks: bool = True


def asking(place: Place) -> Asking | None:
    """Return the statement that the root flow run came with; None when it has none.

    A flow run that only calls another one its parent has that one's keys, so that what is said of
    these has to hold; but the statement is not about it, and doesn't speak for it.
    """
    root = place.root
    text = root.labels.get(ATTESTATION_LABEL) if root is not None else None
    if root is None or text is None:
        return None
    try:
        digest = parameters_digest(str(root.labels.get(SALT_LABEL)), root.parameters)
    except UsageError:
        digest = ""  # no statement is about parameters that are no JSON
    facts = RunFacts(
        deployment=str(root.deployment_id) if root.deployment_id else None,
        nonce=root.idempotency_key,
        parameters=digest,
        created=root.created,
        labels=sorted_labels(asked_with(root.labels)),
    )
    return Asking(flow_run=str(root.id), text=str(text), facts=facts, speaks=place.has_begun_here)


def attested(provenance: Provenance, asked: Asking | None, target: "Target") -> Provenance:
    """Return who asked as the statement proves it; unchanged where there is none.

    Raises:
        NotPermittedError: The statement is forged, altered, or of another flow run.
        UnreachableError: The signer's certificates can't be had, or Spanner did not answer.
        SpanctlError: Spanner refused.
    """
    if asked is None:
        return provenance
    claims, signer = _verified(asked, target)
    if not asked.speaks:
        return provenance
    return replace(
        provenance,
        initiator=claims.initiator,
        initiator_standing=Standing.PROVEN if signer.person else Standing.VOUCHED,
        initiator_chain=(claims.signer,),
        initiator_claim=provenance.initiator,
        attestation=asked.text,
    )


@lru_cache(maxsize=256)
def _verified(asked: Asking, target: "Target") -> tuple[Claims, Signer]:
    from spanctl.credentials.attesting import KeyWithdrawnError, certificates_at
    from spanctl.spanner import attestations
    from spanctl.spanner.actors import signers
    from spanctl.spanner.client import shared

    try:
        found = parse(asked.text)
        check(found.claims, asked.facts)
        signer = certificates_at(target.identity).verify(found, signers(target))
    except (VerificationError, KeyWithdrawnError) as error:
        run = asked.flow_run
        msg = f"the signed statement of who asked for flow run {run} is refused: {error.message}"
        raise NotPermittedError(msg, hint=_hint(error), flow_run=run) from None
    attestations.use(shared(target), found.id, asked.flow_run)
    return found.claims, signer


def _hint(error: SpanctlError) -> str:
    if signer := error.details.get("unaccepted"):
        return f"if that account may say who asked: spanctl context set sign_as={signer}"
    return "ask for another run: spanctl run"
