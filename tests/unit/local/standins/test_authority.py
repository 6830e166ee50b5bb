"""The local CA: made once, renewed in time, good for this machine only."""

import ipaddress
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from spanctl.local.standins.authority import Authority
from spanctl.local.standins.files import Places, write_private

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """An empty folder."""
    return Places(tmp_path / "identity")


def made(places: Places, *, at: datetime = NOW) -> dict[str, bytes]:
    Authority(places, lambda: at).ensure({})
    return contents(places)


def contents(places: Places) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in places.path.iterdir()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(leaf: x509.Certificate, places: Places, name: x509.GeneralName) -> None:
    store = verification.Store([certificate(places.ca_certificate)])
    subject = (
        verification.DNSName(name.value)
        if isinstance(name, x509.DNSName)
        else verification.IPAddress(name.value)
    )
    verification.PolicyBuilder().store(store).time(NOW).build_server_verifier(subject).verify(
        leaf, []
    )


def test_the_server_is_known_by_name_and_address(places: Places) -> None:
    """The certificate stands for localhost and 127.0.0.1, under the CA."""
    made(places)
    leaf = certificate(places.certificate)
    verify(leaf, places, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    with pytest.raises(verification.VerificationError):
        verify(leaf, places, x509.DNSName("spanner.googleapis.com"))


def test_a_stolen_ca_key_can_t_speak_for_google(places: Places) -> None:
    """A certificate that it signs for another name does not verify: the CA is constrained."""
    made(places)
    key = serialization.load_pem_private_key(places.ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    ca = certificate(places.ca_certificate)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "google")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)

    def signed(name: str) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        return builder.add_extension(names, critical=False).sign(key, hashes.SHA256())

    verify(signed("localhost"), places, x509.DNSName("localhost"))
    with pytest.raises(verification.VerificationError):
        verify(signed("spanner.googleapis.com"), places, x509.DNSName("spanner.googleapis.com"))


def test_a_second_time_changes_nothing(places: Places) -> None:
    """What holds is kept, byte for byte."""
    assert made(places) == made(places)


def test_files_are_for_the_owner(places: Places) -> None:
    """Keys and certificates can be read by nobody else, whatever the umask."""
    made(places)
    assert stat.S_IMODE(places.path.stat().st_mode) == 0o700
    for path in places.path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_the_server_s_certificate_is_renewed_before_it_ends(places: Places) -> None:
    """A month before its end there is a new one, under the same CA."""
    first = made(places)
    assert made(places, at=NOW + timedelta(days=59)) == first
    later = made(places, at=NOW + timedelta(days=61))
    assert later["server.pem"] != first["server.pem"]
    assert later["ca.pem"] == first["ca.pem"]
    assert later["roots.pem"] == first["roots.pem"]
    assert certificate(places.certificate).not_valid_after_utc > NOW + timedelta(days=150)


def test_the_ca_is_renewed_before_it_ends(places: Places) -> None:
    """Half a year before its end there is a new one, and all that hangs on it is new."""
    first = made(places)
    later = made(places, at=NOW + timedelta(days=1700))
    assert {name for name in first if later[name] == first[name]} == {"lock"}
    certificate(places.certificate).verify_directly_issued_by(certificate(places.ca_certificate))
    assert first["ca.pem"] not in later["roots.pem"]


@pytest.mark.parametrize("name", ["ca.pem", "ca.key", "server.pem", "server.key", "roots.pem"])
@pytest.mark.parametrize("damage", [b"", b"\x00\xff nonsense", None])
def test_what_is_damaged_or_gone_is_made_anew(
    places: Places, name: str, damage: bytes | None
) -> None:
    """A lost or broken file is no reason to fail, and never leaves a pair that doesn't match."""
    made(places)
    path = places.path / name
    path.unlink() if damage is None else path.write_bytes(damage)
    made(places)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(places.certificate, places.key)
    certificate(places.certificate).verify_directly_issued_by(certificate(places.ca_certificate))
    assert places.ca_certificate.read_bytes() in places.bundle.read_bytes()


def test_a_key_of_another_certificate_is_not_kept(places: Places, tmp_path: Path) -> None:
    """Key and certificate that don't fit are replaced together."""
    made(places)
    other = Places(tmp_path / "other")
    made(other)
    places.key.write_bytes(other.key.read_bytes())
    made(places)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(places.certificate, places.key)


def test_the_bundle_holds_the_system_s_roots_too(places: Places) -> None:
    """A client that trusts the bundle still trusts Google."""
    made(places)
    found = places.bundle.read_bytes().count(b"BEGIN CERTIFICATE")
    context = ssl.create_default_context(cafile=str(places.bundle))
    assert found > 20
    assert len(context.get_ca_certs()) > 20


def test_roots_that_the_environment_names_are_taken(places: Places, tmp_path: Path) -> None:
    """Behind a company's proxy its own roots are what counts; our own bundle is never nested."""
    corporate = tmp_path / "corporate.pem"
    made(other := Places(tmp_path / "other"))
    corporate.write_bytes(other.ca_certificate.read_bytes())
    Authority(places, lambda: NOW).ensure({"REQUESTS_CA_BUNDLE": str(corporate)})
    bundle = places.bundle.read_bytes()
    assert bundle.count(b"BEGIN CERTIFICATE") == 2
    assert corporate.read_bytes().strip() in bundle
    own = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(places.bundle)}
    Authority(places, lambda: NOW).ensure({**own, "REQUESTS_CA_BUNDLE": str(corporate)})
    assert places.bundle.read_bytes() == bundle


def test_many_at_once_agree(places: Places) -> None:
    """Processes that start together end with one CA and a server certificate under it."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Authority(places, lambda: NOW).ensure({}), range(16)))
    certificate(places.certificate).verify_directly_issued_by(certificate(places.ca_certificate))
    assert places.ca_certificate.read_bytes() in places.bundle.read_bytes()
    assert not [path for path in places.path.iterdir() if path.name.startswith(".")]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A file is replaced whole or not at all."""
    path = tmp_path / "file"
    write_private(path, b"old")
    with pytest.raises(TypeError):
        write_private(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
