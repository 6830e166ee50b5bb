"""References, documents and endpoints: read exactly, refused clearly, never quoted."""

import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.credentials.crc32c import crc32c
from spanctl.credentials.document import (
    CredentialDocument,
    DocumentKind,
    access_token_document,
    parse_document,
)
from spanctl.credentials.endpoints import Endpoints, impersonation_url
from spanctl.credentials.redact import redact
from spanctl.credentials.reference import (
    ChainReference,
    DefaultReference,
    ImpersonationReference,
    SecretName,
    SecretReference,
    parse_reference,
)
from spanctl.credentials.secret import Secret
from spanctl.errors import ConfigurationError, SpanctlError, UsageError
from spanctl.settings import Contexts, resolve

SA = "runner@p1.iam.gserviceaccount.com"
OTHER = "other@p1.iam.gserviceaccount.com"
CANARY = "canary-material-0123456789"
TOKEN = {
    "type": "spanctl_access_token",
    "token": f"ya29.{CANARY}",
    "principal": SA,
    "expiry": "2026-01-01T00:00:00Z",
    "scopes": ["s"],
    "minted_by": OTHER,
}
KEY = {
    "type": "service_account",
    "client_email": SA,
    "private_key_id": "k1",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n",
    "token_uri": "https://oauth2.googleapis.com/token",
}
USER = {"type": "authorized_user", "refresh_token": CANARY, "client_secret": "secret-of-client"}
IMPERSONATED = {
    "type": "impersonated_service_account",
    "service_account_impersonation_url": impersonation_url(Endpoints(), SA),
    "delegates": [OTHER],
    "source_credentials": USER,
}
EXTERNAL = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/b",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/var/run/token"},
    "service_account_impersonation_url": impersonation_url(Endpoints(), SA),
}
EVERY = [TOKEN, KEY, IMPERSONATED, EXTERNAL]


def parse(info: object) -> CredentialDocument:
    return parse_document(Secret(json.dumps(info)))


# -- documents


@pytest.mark.parametrize("info", EVERY)
def test_each_kind_tells_what_may_be_told(info: dict[str, Any]) -> None:
    """Kind and principal are known, the material is kept whole and never shown."""
    document = parse(info)
    assert document.kind == info["type"]
    assert document.principal == SA
    assert document.reveal_info() == info
    assert CANARY not in repr(document)
    assert CANARY not in str(document)


def test_what_each_kind_adds() -> None:
    """Tokens have an expiry, scopes and a minter, keys an id, keyless documents delegates."""
    token = parse(TOKEN)
    assert token.expiry == datetime(2026, 1, 1, tzinfo=UTC)
    assert (token.scopes, token.minted_by) == (("s",), OTHER)
    assert token.token == Secret(f"ya29.{CANARY}")
    assert parse(KEY).key_id == "k1"
    assert parse(KEY).expiry is None
    assert parse(IMPERSONATED).delegates == (OTHER,)
    assert [kind.is_keyless for kind in DocumentKind] == [False, False, True, True]


def test_a_document_without_a_token_has_none() -> None:
    """Asking a key for its access token is an error, not an empty one."""
    with pytest.raises(UsageError, match="service_account"):
        _ = parse(KEY).token


def test_a_minted_token_becomes_a_document_that_reads_back() -> None:
    """What is stored says whose it is, until when, and through whom."""
    made = access_token_document(
        Secret("ya29.x-1234567"),
        principal=SA,
        expiry=datetime(2026, 2, 1, tzinfo=UTC),
        delegates=[OTHER],
        minted_by="me",
    )
    again = parse_document(made.material)
    assert (again.principal, again.delegates, again.minted_by) == (SA, (OTHER,), "me")
    assert again.expiry == made.expiry
    assert again.token == Secret("ya29.x-1234567")


@pytest.mark.parametrize(
    "info",
    [
        [],
        "text",
        {},
        {"type": CANARY},
        {"type": ["service_account"]},
        {**TOKEN, "token": ""},
        {**TOKEN, "token": 7},
        {**TOKEN, "expiry": CANARY},
        {**TOKEN, "expiry": "2026-01-01T00:00:00"},
        {**TOKEN, "principal": None},
        {**TOKEN, "scopes": CANARY},
        {**TOKEN, "scopes": [1]},
        {**KEY, "private_key": CANARY},
        {name: value for name, value in KEY.items() if name != "client_email"},
        {name: value for name, value in KEY.items() if name != "token_uri"},
        {**IMPERSONATED, "service_account_impersonation_url": f"https://x/{CANARY}"},
        {**IMPERSONATED, "source_credentials": {"type": CANARY}},
        {**IMPERSONATED, "source_credentials": CANARY},
        {**EXTERNAL, "credential_source": CANARY},
        {**EXTERNAL, "credential_source": {"executable": {"command": "rm"}}},
        {name: value for name, value in EXTERNAL.items() if name != "token_url"},
    ],
)
def test_what_is_no_document_is_refused_without_a_quote(info: object) -> None:
    """The error names the field, and neither it nor what led to it holds the material."""
    with pytest.raises(ConfigurationError) as caught:
        parse(info)
    error: BaseException | None = caught.value
    while error is not None:
        assert CANARY not in str(error)
        error = error.__cause__ or error.__context__
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"' + b"x" * 70_000])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    """Damaged, huge or deep payloads are a clear error."""
    with pytest.raises(ConfigurationError):
        parse_document(Secret(data))


def test_the_parts_of_a_document_are_masked_alone() -> None:
    """The redactor knows the token, the key and the refresh token, not only the whole."""
    for info in (TOKEN, KEY, {**IMPERSONATED, "source_credentials": {**USER}}):
        parse(info)
    assert CANARY not in redact(f"refresh_token={CANARY}")
    assert "ya29" not in redact(f"ya29.{CANARY}")


# -- references

GOOD = [
    ("adc", DefaultReference()),
    ("secret:projects/p1/secrets/db", SecretReference(SecretName("p1", "db"))),
    ("secret:projects/p1/secrets/db@pending", SecretReference(SecretName("p1", "db"), "pending")),
    ("secret:projects/p1/secrets/db@7", SecretReference(SecretName("p1", "db"), "7")),
    (f"impersonate:{SA}", ImpersonationReference(SA)),
    (f"impersonate:{SA}@via:{OTHER}+a@b.c", ImpersonationReference(SA, (OTHER, "a@b.c"))),
    (
        f"impersonate:{SA}@via:{OTHER}@from:secret:projects/p1/secrets/db@9",
        ImpersonationReference(SA, (OTHER,), SecretReference(SecretName("p1", "db"), "9")),
    ),
    (
        f"chain:secret:projects/p1/secrets/db,impersonate:{SA},adc",
        ChainReference(
            (
                SecretReference(SecretName("p1", "db")),
                ImpersonationReference(SA),
                DefaultReference(),
            )
        ),
    ),
]


@pytest.mark.parametrize(("text", "reference"), GOOD)
def test_a_reference_reads_and_writes_the_same_text(text: str, reference: object) -> None:
    """Text and value are two forms of one thing; both pickle."""
    assert parse_reference(text) == reference
    assert str(reference) == text
    assert pickle.loads(pickle.dumps(reference)) == reference  # noqa: S301 - our own


def test_a_number_is_told_from_an_alias() -> None:
    """Only digits are a version's number."""
    assert parse_reference("secret:projects/p1/secrets/db@7") == SecretReference(
        SecretName("p1", "db"), "7"
    )
    assert SecretReference(SecretName("p1", "db"), "7").number == 7
    assert SecretReference(SecretName("p1", "db")).number is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "adc:",
        "ADC",
        "secret:",
        "secret:db",
        "secret:projects/p1/secrets/db@",
        "secret:projects/p1/secrets/db@latest",
        "secret:projects/p1/secrets/db@0",
        "secret:projects/p1/secrets/db@7a",
        "secret:projects/p1/secrets/db/versions/",
        "secret:projects/p1/secrets/db/versions/latest",
        "secret:projects/p1/locations//secrets/db",
        "secret:projects/p1/locations/Europe/secrets/db",
        "impersonate:",
        "impersonate:somebody",
        f"impersonate:{SA}@via:",
        f"impersonate:{SA}@via:{SA}",
        f"impersonate:{SA}@from:",
        f"impersonate:{SA}@from:chain:adc,adc",
        f"impersonate:{SA}:generateAccessToken",
        f"impersonate:{SA}/../x",
        "chain:",
        "chain:adc",
        "chain:adc,",
        "chain:adc,chain:adc,adc",
        "file:/etc/passwd",
        f"ya29.{CANARY}",
        " adc",
        "adc\n",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    """The error shows the grammar; what may be a pasted token is not quoted."""
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert CANARY not in caught.value.message
    assert caught.value.hint


@given(st.text(max_size=60))
def test_no_text_breaks_the_grammar(text: str) -> None:
    """Any text is a reference that writes itself back, or a usage error."""
    try:
        reference = parse_reference(text)
    except UsageError:
        return
    assert parse_reference(str(reference)) == reference


def test_names_of_secrets_are_checked() -> None:
    """A name that is a value is valid."""
    assert str(SecretName.parse("projects/p1/secrets/a-b_C")) == "projects/p1/secrets/a-b_C"
    for bad in ("projects/p1/secrets/a/b", "p1/a", "projects/P!/secrets/a"):
        with pytest.raises(UsageError):
            SecretName.parse(bad)
    with pytest.raises(UsageError):
        SecretName("p1", "a/../b")


# -- endpoints


@pytest.mark.parametrize("url", ["http://iam.example", "iam.example", "ftp://x", "https://"])
def test_tokens_are_sent_over_tls_only(url: str) -> None:
    """An endpoint that is no https:// address is refused at once."""
    with pytest.raises(ConfigurationError):
        Endpoints(iam=url)


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://oauth2.googleapis.com/token", True),
        ("https://sts.googleapis.com/v1/token", True),
        ("https://127.0.0.1:9000/token", True),
        ("https://127.0.0.1:9001/token", False),
        ("http://oauth2.googleapis.com/token", False),
        ("https://oauth2.googleapis.com.evil.example/token", False),
        ("https://evilgoogleapis.com/token", False),
        ("https://oauth2.googleapis.com:444/token", False),
        ("https://oauth2.googleapis.com@evil.example/token", False),
        ("file:///etc/passwd", False),
    ],
)
def test_a_document_can_not_send_credentials_elsewhere(url: str, good: bool) -> None:
    """Only Google's hosts and the context's own endpoints are given anything."""
    endpoints = replace(Endpoints(), oauth2="https://127.0.0.1:9000")
    if good:
        assert endpoints.check(url, "token_uri") == url
    else:
        with pytest.raises(ConfigurationError, match="token_uri"):
            endpoints.check(url, "token_uri")


def test_endpoints_come_from_settings_that_may_not_exist() -> None:
    """Without settings they are Google's."""
    settings = resolve(environ={}, contexts=Contexts.load())
    assert Endpoints.from_settings(settings).iam == "https://iamcredentials.googleapis.com"


# -- checksums


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc32c_is_the_standards(data: bytes, crc: int) -> None:
    """The vectors of RFC 3720."""
    assert crc32c(data) == crc


def test_every_error_of_this_package_has_a_code() -> None:
    """Errors are ours, so that scripts can tell them apart."""
    from spanctl.credentials.rotation.ports import EtagConflictError, VersionStateError

    for kind in (EtagConflictError, VersionStateError):
        assert issubclass(kind, SpanctlError)
        assert kind.code not in {"failed", "conflict"}
