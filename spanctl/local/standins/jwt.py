"""Signed JSON web tokens as Google makes them: RS256, with the key's id in the header."""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

_BITS: Final = 2048
_PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was taken apart, not verified.

    Attributes:
        key_id: The id of the key that is said to have signed it.
        claims: What it says.
        signed: The bytes that were signed.
        signature: The signature over them.
    """

    key_id: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def new_key() -> rsa.RSAPrivateKey:
    """Make a key such as a service account's."""
    return rsa.generate_private_key(public_exponent=65537, key_size=_BITS)


def private_pem(key: rsa.RSAPrivateKey) -> str:
    """Write a private key as PEM (PKCS 8), as in a service account's key file."""
    kind = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, plain).decode()


def certificate(key: rsa.RSAPrivateKey, subject: str, since: datetime, until: datetime) -> str:
    """Return the self-signed certificate, in PEM, by which Google publishes a public key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def sign(payload: str, pem: str, key_id: str) -> str:
    """Sign a JSON text with a private key in PEM."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        msg = "not an RSA key"
        raise TypeError(msg)
    header = json.dumps({"alg": "RS256", "kid": key_id, "typ": "JWT"}, separators=(",", ":"))
    signed = b".".join((_encode(header.encode()), _encode(payload.encode())))
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return b".".join((signed, _encode(signature))).decode()


def parse(text: str) -> Token | None:
    """Take a token apart; None if it is none, or not of the kind that Google takes."""
    parts = text.encode().split(b".")
    if len(parts) != _PARTS:
        return None
    try:
        header, claims = (json.loads(_decode(part)) for part in parts[:2])
        signature = _decode(parts[2])
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    if header.get("alg") != "RS256" or not isinstance(header.get("kid"), str):
        return None
    return Token(header["kid"], claims, b".".join(parts[:2]), signature)


def is_signed_by(token: Token, pem: str) -> bool:
    """Whether the key in this certificate signed the token."""
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        key.verify(token.signature, token.signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def jwk(pem: str, key_id: str) -> dict[str, str]:
    """Return a certificate's public key as a JSON web key."""
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        msg = "not an RSA key"
        raise TypeError(msg)
    numbers = key.public_numbers()
    return {
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "kid": key_id,
        "n": _number(numbers.n),
        "e": _number(numbers.e),
    }


def _number(value: int) -> str:
    return _encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).decode()


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(data: bytes) -> bytes:
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
