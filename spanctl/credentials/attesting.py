"""Attestations at IAM: signed through signJwt, verified with the account's certificates."""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from spanctl.clock import monotonic
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http, call
from spanctl.credentials.iam import AccessToken
from spanctl.errors import NotFoundError, UnreachableError, VerificationError
from spanctl.ledger.attestation import Attestation, Claims
from spanctl.references import Signer

_GOOGLE: Final = "https://www.googleapis.com"
_KEPT: Final = 3600.0
"""Seconds for which certificates are believed: a key that is withdrawn is noticed by then."""


@dataclass(frozen=True, slots=True)
class Hand:
    """The token that asks IAM to sign, and the service accounts in between."""

    token: AccessToken
    delegates: tuple[str, ...] = ()


def hand_for(token: AccessToken, signer: str) -> Hand:
    """Return who asks for a signature: whoever became the signer, or else stands at the base.

    Args:
        token: A live token.
        signer: E-mail of the service account that is to sign.
    """
    link = token
    while link.base is not None:
        if link.principal == signer:
            return Hand(link.base, link.delegates)
        link = link.base
    return Hand(link)


def sign(http: Http, endpoints: Endpoints, hand: Hand, claims: Claims) -> str:
    """Have IAM sign a statement as its signer (signJwt); return the JSON web token.

    Raises:
        NotPermittedError: The hand may not sign as that account.
        NotFoundError: There is no such account.
        UnreachableError: IAM did not answer.
        ConfigurationError: IAM refused the request.
    """
    body: dict[str, object] = {"payload": claims.to_payload()}
    if hand.delegates:
        names = [f"projects/-/serviceAccounts/{email}" for email in hand.delegates]
        body["delegates"] = names
    url = f"{endpoints.iam}/v1/projects/-/serviceAccounts/{claims.signer}:signJwt"
    doing = f"signing as {claims.signer}"
    answer = call(http, "POST", url, doing, token=hand.token.token, body=body)
    signed = answer.get("signedJwt")
    if not isinstance(signed, str) or not signed:
        msg = f"{endpoints.iam} answered with nothing signed while {doing}"
        raise UnreachableError(msg, hint="try again")
    return signed


class KeyWithdrawnError(NotFoundError):
    """The key that signed is not published, or not any more (exit 5)."""

    code = "key_withdrawn"


class Certificates:
    """The certificates that Google publishes of service accounts; kept for an hour, thread-safe."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Fetch nothing yet."""
        self._http = Http(endpoints)
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Mapping[str, str]]] = {}

    def verify(self, attestation: Attestation, accepted: Sequence[Signer]) -> Signer:
        """Return the one of these accounts whose key signed the statement.

        Nothing is fetched for another account: anybody has an account whose certificates are
        published, and can sign anything with it.

        Raises:
            VerificationError: It is signed by another account, or by one that doesn't speak for
                whom it names, or the signature is wrong.
            KeyWithdrawnError: The key is not published (any more).
            UnreachableError: The certificates can't be had.
        """
        signer = attestation.claims.signer
        taken = next((one for one in accepted if one.account == signer), None)
        if taken is None:
            msg = f"it is signed by {signer}, whose word is not taken here"
            raise VerificationError(msg, unaccepted=signer)
        if taken.person not in {None, attestation.claims.initiator}:
            msg = f"it is signed by {signer}, which speaks for {taken.person} alone"
            raise VerificationError(msg, signer=signer)
        certificate = self._certificate(signer, attestation.key_id)
        if certificate is None:
            msg = f"key {attestation.key_id[:40]!r} of {signer} is not published"
            raise KeyWithdrawnError(msg, signer=signer)
        if not _is_signed(attestation, certificate):
            msg = f"its signature is not {signer}'s"
            raise VerificationError(msg, signer=signer)
        return taken

    def _certificate(self, account: str, key_id: str) -> str | None:
        with self._lock:
            until, kept = self._kept.get(account, (0.0, {}))
            # A key may be newer than what is kept.
            if key_id not in kept or monotonic() > until:
                kept = self._fetch(account)
                self._kept[account] = (monotonic() + _KEPT, kept)
            return kept.get(key_id)

    def _fetch(self, account: str) -> Mapping[str, str]:
        # Google publishes them at a host of their own; a stand-in is one server for all.
        real = self._endpoints.iam == Endpoints().iam
        base = _GOOGLE if real else self._endpoints.iam
        url = f"{base}/service_accounts/v1/metadata/x509/{quote(account)}"
        doing = f"fetching the certificates of {account}"
        try:
            answer = call(self._http, "GET", url, doing)
        except NotFoundError:
            return {}
        return {str(key): str(pem) for key, pem in answer.items()}


@lru_cache(maxsize=16)
def certificates_at(endpoints: Endpoints) -> Certificates:
    """Return this process's one set of certificates from these endpoints."""
    return Certificates(endpoints)


# A forked child must not wait for a lock that a thread of its parent held.
os.register_at_fork(after_in_child=certificates_at.cache_clear)


def _is_signed(attestation: Attestation, pem: str) -> bool:
    try:
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except ValueError:
        return False
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(attestation.signature, attestation.signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
