"""The local certificate authority: one CA, one server certificate, one bundle of roots.

The CA may only name ``localhost`` (a critical name constraint), so that its key, if it were stolen,
could not speak for Google or anyone else whom the bundle's owner trusts by name.
"""

import ipaddress
import os
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spanctl import clock
from spanctl.local.standins.files import Places, write_private

BUNDLE_VARIABLES: Final = ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "REQUESTS_CA_BUNDLE")
"""Environment variables through which gRPC's and google-auth's clients find their roots."""

_HOST: Final = "localhost"
_ADDRESS: Final = "127.0.0.1"
_CA_LIFE: Final = timedelta(days=1825)
_CA_MARGIN: Final = timedelta(days=180)
_SERVER_LIFE: Final = timedelta(days=90)
_SERVER_MARGIN: Final = timedelta(days=30)
_SKEW: Final = timedelta(hours=1)

_Key = ec.EllipticCurvePrivateKey


class Authority:
    """Makes and renews the certificates in one folder; safe from several processes at once."""

    def __init__(self, places: Places, now: Callable[[], datetime] = clock.now) -> None:
        """Nothing is read or made yet."""
        self._places = places
        self._now = now

    def ensure(self, environ: Mapping[str, str] = os.environ) -> None:
        """Make what is missing or damaged, and renew what expires soon; else change nothing.

        The bundle holds the roots that the environment names, else the system's, and the CA.

        Raises:
            OSError: The files can't be read or written.
        """
        with self._places.locked():
            certificate, key = self._ca()
            self._server(certificate, key)
            self._bundle(certificate, environ)

    def _ca(self) -> tuple[x509.Certificate, _Key]:
        pair = _load(self._places.ca_certificate, self._places.ca_key)
        if pair and pair[0].not_valid_after_utc - self._now() > _CA_MARGIN:
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "spanctl local CA")])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            self._builder(name, name, key, _CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.NameConstraints(
                    permitted_subtrees=[x509.DNSName(_HOST)], excluded_subtrees=None
                ),
                critical=True,
            )
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        _save(self._places.ca_certificate, self._places.ca_key, certificate, key)
        return certificate, key

    def _server(self, ca: x509.Certificate, ca_key: _Key) -> None:
        pair = _load(self._places.certificate, self._places.key)
        if pair and self._serves(pair[0], ca):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
        names = [x509.DNSName(_HOST), x509.IPAddress(ipaddress.ip_address(_ADDRESS))]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            self._builder(subject, ca.subject, key, _SERVER_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(identifier, critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        _save(self._places.certificate, self._places.key, certificate, key)

    def _serves(self, certificate: x509.Certificate, ca: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(ca)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return certificate.not_valid_after_utc - self._now() > _SERVER_MARGIN

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: _Key, life: timedelta
    ) -> x509.CertificateBuilder:
        now = self._now()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + life)
        )

    def _bundle(self, ca: x509.Certificate, environ: Mapping[str, str]) -> None:
        own = self._places.bundle
        roots = next((path for path in _roots(environ, own) if path.is_file()), None)
        system = roots.read_bytes() if roots else b""
        wanted = system.rstrip() + b"\n" + ca.public_bytes(serialization.Encoding.PEM)
        if not own.exists() or own.read_bytes() != wanted:
            write_private(own, wanted)


def _roots(environ: Mapping[str, str], own: Path) -> list[Path]:
    """Return where roots may be, the environment's first: a company's proxy has its own."""
    named = [environ[name] for name in (*BUNDLE_VARIABLES, "SSL_CERT_FILE") if environ.get(name)]
    places = [Path(name) for name in named if Path(name).absolute() != own.absolute()]
    defaults = ssl.get_default_verify_paths()
    known = [defaults.cafile, defaults.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt"]
    places += [Path(name) for name in known if name]
    if not any(path.is_file() for path in places):
        import certifi

        places.append(Path(certifi.where()))
    return places


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load(certificate_path: Path, key_path: Path) -> tuple[x509.Certificate, _Key] | None:
    """Return a certificate and its key; None where one is missing, damaged or not the other's."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(key, _Key) or key.public_key() != certificate.public_key():
        return None
    return certificate, key


def _save(certificate_path: Path, key_path: Path, certificate: x509.Certificate, key: _Key) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(key_path, pem)
    write_private(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
