"""Attestations: the signed statement that says who asked for a deployment's run.

A deployment's run is written by a worker, under the worker's credentials. Who asked for it travels
as a JSON web token that IAM's signJwt signs (RS256) as a service account which the person may act
as. It goes into the flow run's labels when the run is made. Whoever has Prefect's API can change
labels and parameters, and make runs: so the worker holds the statement against what the API says.

It binds the deployment's id, the flow run's idempotency key (a nonce), a digest of the parameters,
and spanctl's labels, as they are and no others: the key that operations have their root from, the
reason, and what was said of who asks. What it can't bind is the run's id, which nobody can choose.
Its issue time must be near the *creation* of the run, not near its start: a run may wait in a
queue, and be retried for days.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from spanctl.errors import UsageError, VerificationError
from spanctl.ledger.canonical import canonical_bytes

AUDIENCE: Final = "spanctl/attestation/2"
"""What such a statement is for; nothing else takes it, and nothing else is taken for one."""

_FIRST: Final = "spanctl/attestation/1"
"""What statements were for that said nothing of labels: in receipts of then, and nowhere else."""

MOST_BEFORE: Final = timedelta(minutes=5)
"""So long may a statement be signed before its flow run is made: two requests follow each other."""

MOST_AFTER: Final = timedelta(minutes=2)
"""So much later than the flow run may it seem to be signed: two machines, two clocks."""

LONGEST: Final = 8192
"""Characters; what is longer is none of ours."""

_TEXTS: Final = ("initiator", "deployment", "nonce", "parameters")
_LATEST: Final = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())
_EXACT: Final = 2**53
_EMAIL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a statement says.

    Attributes:
        signer: E-mail of the service account that signs.
        initiator: The principal that asks.
        deployment: Id of the deployment.
        nonce: Idempotency key of the flow run.
        parameters: Digest of the flow run's parameters, as :func:`parameters_digest` makes it.
        issued: When it is signed; to the second.
        labels: The labels that the flow run is asked for with, name and value, sorted; None in a
            statement of the first version.
    """

    signer: str
    initiator: str
    deployment: str
    nonce: str
    parameters: str
    issued: datetime
    labels: tuple[tuple[str, str], ...] | None = ()

    def label(self, name: str) -> str | None:
        """Return the value of a label that it names; None for none."""
        return dict(self.labels or ()).get(name)

    def to_payload(self) -> str:
        """Return the JSON text that is signed."""
        data: dict[str, Any] = {
            "aud": _FIRST if self.labels is None else AUDIENCE,
            "iss": self.signer,
            "iat": int(self.issued.timestamp()),
            "initiator": self.initiator,
            "deployment": self.deployment,
            "nonce": self.nonce,
            "parameters": self.parameters,
        }
        if self.labels is not None:
            data["labels"] = dict(self.labels)
        return json.dumps(data, separators=(",", ":"), sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """A statement taken apart; nothing of it is believed before its signature is verified.

    Attributes:
        claims: What it says.
        key_id: Id of the key that is said to have signed it.
        signed: The bytes that were signed.
        signature: The signature over them.
    """

    claims: Claims
    key_id: str
    signed: bytes
    signature: bytes

    @property
    def id(self) -> str:
        """Digest of what was signed: the same however often the statement is used."""
        return hashlib.sha256(self.signed).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What Prefect's API says of the flow run that a statement came with.

    Attributes:
        deployment: Id of its deployment.
        nonce: Its idempotency key.
        parameters: Digest of its parameters.
        created: When it was made.
        labels: The labels that it was asked for with, name and value, sorted.
    """

    deployment: str | None
    nonce: str | None
    parameters: str
    created: datetime | None
    labels: tuple[tuple[str, str], ...] = ()


def parameters_digest(salt: str, parameters: Mapping[str, Any]) -> str:
    """Return the digest of a flow run's parameters: SHA-256, hexadecimal.

    Args:
        salt: Random text that travels beside the statement and is in no receipt: without it, a
            short value could be guessed from the digest.
        parameters: The parameters, as JSON values.

    Raises:
        UsageError: They are no JSON values.
    """
    try:
        data = f"{salt}\n".encode() + canonical_bytes(_same(parameters))
    except UnicodeEncodeError:  # JSON can write half of a character
        msg = "a parameter is no text that UTF-8 can write"
        raise UsageError(msg, hint="mend that parameter") from None
    return hashlib.sha256(data).hexdigest()


def _same(value: Any) -> Any:  # noqa: ANN401 - JSON values
    """Return a JSON value without what databases change of it: 1.0 may come back as 1."""
    if isinstance(value, Mapping):
        return {str(key): _same(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_same(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


def parse(text: str) -> Attestation:
    """Take a statement apart.

    Raises:
        VerificationError: It is none; the message doesn't quote it.
    """
    parts = text.split(".") if len(text) <= LONGEST and text.isascii() else []
    try:
        header, claims, signature = (_decoded(part) for part in parts)
        told, said = json.loads(header), json.loads(claims)
    except (ValueError, binascii.Error, RecursionError):
        told, said, signature = None, None, b""
    if not isinstance(told, dict) or not isinstance(said, dict):
        msg = "it is no signed statement"
        raise VerificationError(msg)
    # The algorithm is fixed: a header that could choose another one could choose none.
    if told.get("alg") != "RS256" or not isinstance(told.get("kid"), str):
        msg = "it is not signed as IAM signs"
        raise VerificationError(msg)
    return Attestation(
        claims=_claims(said),
        key_id=told["kid"],
        signed=text.rpartition(".")[0].encode(),
        signature=signature,
    )


def _decoded(part: str) -> bytes:
    padded = part + "=" * (-len(part) % 4)
    return base64.b64decode(padded, altchars=b"-_", validate=True)


def _claims(said: Mapping[str, Any]) -> Claims:
    audience = said.get("aud")
    if audience not in (AUDIENCE, _FIRST):  # which may be anything, and so not hashable
        msg = "it is a statement for something else"
        raise VerificationError(msg)
    labels = said.get("labels") if audience == AUDIENCE else {}
    names = {"signer": "iss", **{name: name for name in _TEXTS}}
    found = {name: said.get(claim) for name, claim in names.items()}
    issued = said.get("iat")
    whole = isinstance(issued, int) and not isinstance(issued, bool) and 0 < issued < _LATEST
    plain = isinstance(labels, dict) and all(isinstance(one, str) for one in labels.values())
    if not whole or not plain or not all(isinstance(v, str) and v for v in found.values()):
        msg = "it is incomplete"
        raise VerificationError(msg)
    if not _EMAIL.fullmatch(str(found["signer"])):
        msg = "its signer is no service account"
        raise VerificationError(msg)
    texts = {name: str(value) for name, value in found.items()}
    return Claims(
        **texts,
        issued=datetime.fromtimestamp(int(issued or 0), UTC),
        labels=sorted_labels(labels or {}) if audience == AUDIENCE else None,
    )


def sorted_labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return labels as a statement holds them."""
    return tuple(sorted(labels.items()))


def check(claims: Claims, facts: RunFacts) -> None:
    """Return when a statement is about this flow run; its signature is verified elsewhere.

    Raises:
        VerificationError: It isn't; the message says in what they differ, and quotes neither.
    """
    if claims.deployment != facts.deployment:
        msg = "it is about another deployment"
        raise VerificationError(msg)
    if claims.nonce != facts.nonce:
        msg = "it is about a run with another idempotency key"
        raise VerificationError(msg)
    if claims.parameters != facts.parameters:
        msg = "it is about other parameters"
        raise VerificationError(msg)
    if claims.labels is None:
        msg = "it is of an earlier version, which said nothing of key and reason"
        raise VerificationError(msg)
    if claims.labels != facts.labels:
        names = sorted({name for name, _ in {*claims.labels} ^ {*facts.labels}})
        msg = f"it is about a run with other labels: {', '.join(names)}"
        raise VerificationError(msg)
    check_time(claims, facts.created)


def check_time(claims: Claims, created: datetime | None) -> None:
    """Return when a statement was signed near the creation of its flow run.

    Raises:
        VerificationError: It wasn't, or nobody knows when the run was made.
    """
    if created is None or not -MOST_AFTER <= created - claims.issued <= MOST_BEFORE:
        msg = "it was not signed when the run was made"
        raise VerificationError(msg)
