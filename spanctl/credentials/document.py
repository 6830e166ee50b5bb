"""Credential documents: what a secret holds, parsed, checked, and never shown."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NoReturn

from spanctl.clock import parse_rfc3339, rfc3339
from spanctl.credentials.hardening import without_locals
from spanctl.credentials.redact import REDACTOR
from spanctl.credentials.secret import Secret
from spanctl.errors import ConfigurationError, UsageError

MOST_BYTES: Final = 65_536
CLOUD_PLATFORM: Final = "https://www.googleapis.com/auth/cloud-platform"
_IMPERSONATED = re.compile(r"/serviceAccounts/(?P<email>[^/:@]+@[^/:@]+):generateAccessToken$")
USERS: Final = frozenset({"authorized_user", "external_account_authorized_user"})
"""Types of documents that a log-in leaves, of a Google account or of a workforce pool."""
_SOURCES: Final = USERS | {"service_account", "external_account"}
_PRIVATE: Final = ("private_key", "refresh_token", "client_secret", "token")
_HINT: Final = "store a new document with: spanctl creds rotate"


class DocumentKind(StrEnum):
    """What kind of credential a document is; the values are its ``type`` in JSON."""

    ACCESS_TOKEN = "spanctl_access_token"  # noqa: S105 - the name of a type
    SERVICE_ACCOUNT_KEY = "service_account"
    IMPERSONATED = "impersonated_service_account"
    EXTERNAL = "external_account"

    @property
    def is_keyless(self) -> bool:
        """Whether the document itself lets nobody in."""
        return self in (DocumentKind.IMPERSONATED, DocumentKind.EXTERNAL)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CredentialDocument:
    """A credential document: what may be shown of it, and the material, which may not.

    Attributes:
        kind: Its kind.
        principal: Whose credential it says it is; None when it doesn't say.
        expiry: When it stops working; None when it doesn't expire by itself.
        scopes: OAuth scopes of an access token.
        delegates: Service accounts between the caller and the principal, nearest first.
        minted_by: The principal that minted an access token, as the minter knew it.
        key_id: Id of a service-account key.
        material: The whole document, as it is stored.
    """

    kind: DocumentKind
    principal: str | None
    material: Secret
    expiry: datetime | None = None
    scopes: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    minted_by: str | None = None
    key_id: str | None = None
    _token: Secret | None = field(default=None, repr=False)

    @property
    def token(self) -> Secret:
        """The access token.

        Raises:
            UsageError: The document is of another kind.
        """
        if self._token is None:
            msg = f"a document of type {self.kind.value} holds no access token"
            raise UsageError(msg)
        return self._token

    def reveal_info(self) -> dict[str, Any]:
        """Return the parsed JSON, material included: hand it on at once."""
        info: dict[str, Any] = json.loads(self.material.reveal())
        return info


@without_locals()
def parse_document(material: Secret, *, may_run: bool = False) -> CredentialDocument:
    """Read a credential document.

    Args:
        material: Its text.
        may_run: Whether it may name a program to be run, which gets the token.

    Raises:
        ConfigurationError: It is none, of an unknown type or incomplete; the message quotes nothing
            of it but the names of fields.
    """
    info = _object(material)
    named = info.get("type")
    if named not in [kind.value for kind in DocumentKind]:
        _refuse("has no known type")
    _learn(info)
    match DocumentKind(named):
        case DocumentKind.ACCESS_TOKEN:
            return _access_token(info, material)
        case DocumentKind.SERVICE_ACCOUNT_KEY:
            return _service_account(info, material)
        case DocumentKind.IMPERSONATED:
            return _impersonated(info, material)
        case DocumentKind.EXTERNAL:
            return _external(info, material, may_run=may_run)


@without_locals()
def access_token_document(  # noqa: PLR0913 - the document's fields
    token: Secret,
    *,
    principal: str,
    expiry: datetime,
    scopes: Sequence[str] = (CLOUD_PLATFORM,),
    delegates: Sequence[str] = (),
    minted_by: str | None = None,
) -> CredentialDocument:
    """Make the document of a minted access token."""
    info = {
        "type": DocumentKind.ACCESS_TOKEN.value,
        "principal": principal,
        "expiry": rfc3339(expiry),
        "scopes": list(scopes),
        "delegates": list(delegates),
        "minted_by": minted_by,
        "token": token.reveal_text(),
    }
    return parse_document(Secret(json.dumps(info)))


def _object(material: Secret) -> dict[str, Any]:
    if len(material.reveal()) > MOST_BYTES:
        _refuse(f"has more than {MOST_BYTES} bytes")
    try:
        info = json.loads(material.reveal())
    except (ValueError, RecursionError):
        info = None
    # Raised outside of the handler: its context would hold the document's text.
    if not isinstance(info, dict):
        _refuse("is no JSON object")
    return info


def _access_token(info: Mapping[str, Any], material: Secret) -> CredentialDocument:
    try:
        expiry = parse_rfc3339(_text(info, "expiry"))
    except UsageError:
        expiry = None
    if expiry is None:
        _refuse("has an expiry that is no time")
    return CredentialDocument(
        kind=DocumentKind.ACCESS_TOKEN,
        principal=_text(info, "principal"),
        material=material,
        expiry=expiry,
        scopes=_texts(info, "scopes"),
        delegates=_texts(info, "delegates"),
        minted_by=_optional(info, "minted_by"),
        _token=Secret(_text(info, "token")),
    )


def _service_account(info: Mapping[str, Any], material: Secret) -> CredentialDocument:
    if "PRIVATE KEY-----" not in _text(info, "private_key"):
        _refuse("has a private_key that is no PEM key")
    _text(info, "token_uri")
    return CredentialDocument(
        kind=DocumentKind.SERVICE_ACCOUNT_KEY,
        principal=_text(info, "client_email"),
        material=material,
        key_id=_text(info, "private_key_id"),
    )


def _impersonated(info: Mapping[str, Any], material: Secret) -> CredentialDocument:
    principal = _target(_text(info, "service_account_impersonation_url"))
    if principal is None:
        _refuse("has a service_account_impersonation_url that names no service account")
    source = info.get("source_credentials")
    if not isinstance(source, dict) or source.get("type") not in _SOURCES:
        _refuse("has no known source_credentials")
    return CredentialDocument(
        kind=DocumentKind.IMPERSONATED,
        principal=principal,
        material=material,
        delegates=_texts(info, "delegates"),
    )


def _external(info: Mapping[str, Any], material: Secret, *, may_run: bool) -> CredentialDocument:
    for name in ("audience", "subject_token_type", "token_url"):
        _text(info, name)
    if not isinstance(info.get("credential_source"), dict):
        _refuse("has no credential_source")
    if "executable" in info["credential_source"] and not may_run:
        hint = "only a file of your own may, which nobody else can write to: see adc_file"
        _refuse("would run a program to get its token", hint)
    url = _optional(info, "service_account_impersonation_url")
    return CredentialDocument(
        kind=DocumentKind.EXTERNAL,
        principal=_target(url) if url else None,
        material=material,
    )


def _target(url: str) -> str | None:
    found = _IMPERSONATED.search(url)
    return found["email"] if found else None


def _learn(info: Mapping[str, Any]) -> None:
    """Teach the redactor the parts that may be printed alone."""
    for name, value in info.items():
        if isinstance(value, dict):
            _learn(value)
        elif name in _PRIVATE and isinstance(value, str):
            REDACTOR.learn(value.encode(), lasting=name != "token")


def _text(info: Mapping[str, Any], name: str) -> str:
    value = info.get(name)
    if not isinstance(value, str) or not value:
        _refuse(f"has no {name}")
    return value


def _optional(info: Mapping[str, Any], name: str) -> str | None:
    return _text(info, name) if info.get(name) is not None else None


def _texts(info: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = info.get(name) or []
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        _refuse(f"has {name} that are no list of texts")
    return tuple(values)


def _refuse(what: str, hint: str = _HINT) -> NoReturn:
    msg = f"the credential document {what}"
    raise ConfigurationError(msg, hint=hint)
