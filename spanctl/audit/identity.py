"""Who asked and who wrote: what a receipt says of it, held against the statement that it keeps."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from spanctl.audit.model import Coverage, Identity, Link, Source, SourceName
from spanctl.errors import NotPermittedError, SpanctlError, UnreachableError, VerificationError
from spanctl.invocation import IDEMPOTENCY_KEY_LABEL, INITIATOR_LABEL, REASON_LABEL
from spanctl.ledger.attestation import MOST_AFTER, Attestation, parse
from spanctl.ledger.keys import keyed_root
from spanctl.ledger.receipt import Receipt, Standing

if TYPE_CHECKING:
    from spanctl.references import Signer
    from spanctl.spanner.rpc import Target


def identity_of(receipt: Receipt, target: "Target") -> Identity:
    """Verify who asked once more, from the receipt and the signer's certificates.

    Args:
        receipt: The receipt.
        target: The database as the auditor's context names it: it says whose word is taken.
    """
    try:
        if (found := _statement(receipt)) is not None:
            return _verified(receipt, found, target)
    except VerificationError as error:
        note = f"the receipt does not hold: {error.message}"
        return _claimed(receipt, Coverage.PRESENT, note, contradicted=True)
    return _as_noted(receipt)


def identities(entries: Iterable[Receipt], target: "Target") -> dict[str, Identity]:
    """Return the same for many receipts, by txn ID: what is alike is verified once.

    Args:
        entries: The receipts.
        target: The database as the auditor's context names it.
    """
    known: dict[tuple[object, ...], Identity] = {}
    found = {}
    silent: Identity | None = None
    # The oldest first: a statement that was signed before that commit was so before the others.
    for one in sorted(entries, key=lambda entry: entry.commit_timestamp):
        origin = one.provenance
        alike = (
            *(origin.initiator, origin.initiator_standing, origin.initiator_chain),
            *(origin.executor_standing, origin.attestation, origin.deployment),
            *((origin.initiator_claim, origin.reason, _root(one)) if origin.attestation else ()),
        )
        if alike not in known:
            again = silent if origin.attestation else None  # who was silent isn't asked once more
            known[alike] = again or identity_of(one, target)
        if known[alike].source.coverage is Coverage.UNREACHABLE:
            silent = known[alike]
        found[one.txn_id] = replace(known[alike], executor=origin.executor_standing)
    return found


def _statement(receipt: Receipt) -> Attestation | None:
    """Return the statement in a receipt, which says what the receipt says; unverified."""
    origin = receipt.provenance
    if origin.attestation is None:
        if origin.deployment and origin.initiator_standing is not Standing.CLAIMED:
            msg = (
                "without a statement it says more than claimed of who asked for a deployment's run"
            )
            raise VerificationError(msg)
        return None
    found = parse(origin.attestation)
    claims = found.claims
    if (origin.initiator, origin.initiator_chain) != (claims.initiator, (claims.signer,)):
        msg = f"its statement says that {claims.initiator} asked, signed by {claims.signer}"
        raise VerificationError(msg)
    if origin.deployment != claims.deployment:
        msg = "its statement is about another deployment"
        raise VerificationError(msg)
    if claims.issued > receipt.commit_timestamp + MOST_AFTER:
        msg = "its statement was signed after the commit"
        raise VerificationError(msg)
    key = claims.label(IDEMPOTENCY_KEY_LABEL)
    noted = {
        "reason": (claims.label(REASON_LABEL), origin.reason),
        "asking user": (claims.label(INITIATOR_LABEL), origin.initiator_claim),
        "idempotency key": (key and keyed_root(key), _root(receipt)),
    }
    for what, (signed, said) in noted.items():
        if signed is not None and signed != said:
            msg = f"its statement is about another {what}"
            raise VerificationError(msg)
    return found


def _root(receipt: Receipt) -> str:
    return receipt.operation_key.partition("/")[0]


def _verified(receipt: Receipt, found: Attestation, target: "Target") -> Identity:
    from spanctl.credentials.attesting import KeyWithdrawnError, certificates_at
    from spanctl.spanner.actors import signers

    signer = found.claims.signer
    accepted = signers(target)
    if signer not in {one.account for one in accepted}:
        note = f"signed by {signer}; to take its word: spanctl context set sign_as={signer}"
        return _claimed(receipt, Coverage.DISABLED, note)
    try:
        taken = certificates_at(target.identity).verify(found, accepted)
    except KeyWithdrawnError:
        note = f"the key of {signer} that signed is no longer published: it can't be verified again"
        return _claimed(receipt, Coverage.EXPIRED, note)
    except UnreachableError as error:
        return _claimed(receipt, Coverage.UNREACHABLE, error.message)
    except NotPermittedError as error:
        return _claimed(receipt, Coverage.DENIED, error.message)
    except VerificationError:
        raise
    except SpanctlError as error:
        return _claimed(receipt, Coverage.UNREACHABLE, error.message)
    executor = receipt.provenance.executor_standing
    asked = Standing.PROVEN if taken.person else Standing.VOUCHED
    link = Link(asked.value) if executor is Standing.PROVEN else Link.CLAIMED
    return Identity(
        initiator=asked,
        executor=executor,
        contradicted=False,
        source=Source(SourceName.IDENTITY, Coverage.PRESENT, link, _note(receipt, found, taken)),
    )


def _note(receipt: Receipt, found: Attestation, taken: "Signer") -> str:
    """Return what the statement proves, and what it says nothing of."""
    origin = receipt.provenance
    told = [f"the statement of who asked, signed by {taken.account}, holds"]
    if taken.person is None:
        told.append("others may sign as that account too")
    if found.claims.labels is None:
        told.append("it is of a version that said nothing of reason and key")
    elif origin.reason is not None and found.claims.label(REASON_LABEL) is None:
        told.append("the reason is the flow's own")
    is_proven = origin.executor_standing is Standing.PROVEN
    told.append("the issuer told who wrote" if is_proven else "who wrote is claimed")
    return "; ".join(told)


def _claimed(
    receipt: Receipt, coverage: Coverage, note: str, *, contradicted: bool = False
) -> Identity:
    return Identity(
        initiator=Standing.CLAIMED,
        executor=receipt.provenance.executor_standing,
        contradicted=contradicted,
        source=Source(SourceName.IDENTITY, coverage, Link.CLAIMED, note),
    )


def _as_noted(receipt: Receipt) -> Identity:
    origin = receipt.provenance
    asked, wrote = origin.initiator_standing, origin.executor_standing
    coverage, link = Coverage.PRESENT, Link.CLAIMED
    if wrote is not Standing.PROVEN:
        coverage = Coverage.DISABLED
        note = "no issuer said whose token wrote it: an emulator wants none"
    elif asked is Standing.PROVEN:
        link = Link.PROVEN
        note = "the issuer of the writer's token said so when it was written"
    else:
        note = "who wrote is proven by the token's issuer; who asked came without a statement"
    return Identity(
        initiator=asked,
        executor=wrote,
        contradicted=False,
        source=Source(SourceName.IDENTITY, coverage, link, note),
    )
