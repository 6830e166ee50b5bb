"""Asking for a deployment's run under one's own name: the statement that goes with it, signed."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spanctl.clock import now
from spanctl.credentials.attesting import hand_for, sign
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.issuer import Issuer, asker
from spanctl.credentials.live import LiveCredentials
from spanctl.errors import NotPermittedError, UsageError
from spanctl.invocation import ATTESTATION_LABEL, SALT_LABEL
from spanctl.ledger.attestation import LONGEST, Claims, parameters_digest, sorted_labels
from spanctl.ledger.receipt import Standing
from spanctl.references import Signer

_SALT_BYTES: Final = 16
_TEMPLATE: Final = "__prefect_kind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A statement of who asks for a run.

    Attributes:
        claims: What it says.
        text: The JSON web token.
        salt: What the digest of the parameters was made with.
    """

    claims: Claims
    text: str
    salt: str

    @property
    def labels(self) -> dict[str, str]:
        """The labels with which the flow run must be made."""
        return {ATTESTATION_LABEL: self.text, SALT_LABEL: self.salt}


def attest(  # noqa: PLR0913 - a request, told in full
    credentials: LiveCredentials,
    endpoints: Endpoints,
    signers: Sequence[Signer],
    *,
    deployment: str,
    nonce: str,
    parameters: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
) -> Signed:
    """Have IAM sign who asks for a run of a deployment.

    Args:
        credentials: The person's.
        endpoints: Where Google's identity services are.
        signers: The accounts whose word is taken; the person's own signs, else the first that is
            nobody's.
        deployment: Id of the deployment.
        nonce: Idempotency key that the flow run will have.
        parameters: All parameters that the flow run will have, as JSON values.
        labels: All labels of spanctl's that it will have, but for those of the statement.

    Raises:
        NotPermittedError: There is no live token, its issuer doesn't say whose it is, or the person
            may not sign as that account.
        NotFoundError: There is no such account.
        UnreachableError: IAM did not answer.
        ConfigurationError: IAM refused the request.
        UsageError: The parameters are no JSON values, or Prefect would write others for them.
    """
    if _is_template(parameters):
        msg = "Prefect fills in a parameter when it makes the run, so it can't be signed before"
        raise UsageError(msg, hint="pass the value itself")
    issuer = Issuer(credentials, endpoints)
    name, standing = asker(issuer.principal())
    if name is None or standing is not Standing.PROVEN:
        msg = "the issuer of the credentials doesn't say whose they are"
        raise NotPermittedError(msg, hint="run: spanctl creds whoami")
    signer = chosen(signers, name)
    salt = secrets.token_urlsafe(_SALT_BYTES)
    claims = Claims(
        signer=signer,
        initiator=name,
        deployment=deployment,
        nonce=nonce,
        parameters=parameters_digest(salt, parameters),
        issued=now(),
        labels=sorted_labels(labels or {}),
    )
    hand = hand_for(issuer.token(), claims.signer)
    text = sign(Http(endpoints), endpoints, hand, claims)
    if len(text) > LONGEST:
        msg = "the reason is too long to be signed"
        raise UsageError(msg, hint="write a shorter one")
    return Signed(claims=claims, text=text, salt=salt)


def chosen(signers: Sequence[Signer], person: str) -> str:
    """Return the account that signs for a person: their own, else the first that is nobody's.

    Raises:
        NotPermittedError: All are others' own.
    """
    own = [one.account for one in signers if one.person == person]
    shared = [one.account for one in signers if one.person is None]
    if not own and not shared:
        msg = f"no account of sign_as signs for {person}"
        raise NotPermittedError(msg, hint="run: spanctl context set sign_as=ACCOUNT=PERSON,...")
    return (own or shared)[0]


def _is_template(value: object) -> bool:
    """Whether Prefect's server puts another value in place of this one, or of a part of it."""
    if isinstance(value, Mapping):
        return _TEMPLATE in value or any(_is_template(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_is_template(item) for item in value)
