"""Where tokens come from: documents, impersonation, Google's defaults, and chains."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import SubprocessError
from typing import Any, Final
from urllib.parse import urlsplit

import google.auth
from google.auth import exceptions
from google.auth.credentials import Credentials
from google.oauth2 import service_account

from spanctl.clock import now
from spanctl.credentials.document import USERS, CredentialDocument, DocumentKind, parse_document
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.hardening import without_locals
from spanctl.credentials.http import Http
from spanctl.credentials.iam import LONGEST, SCOPES, AccessToken, impersonate
from spanctl.credentials.lent import is_lent, is_own
from spanctl.credentials.live import TokenSource
from spanctl.credentials.redact import REDACTOR
from spanctl.credentials.rotation.ports import VersionStateError
from spanctl.credentials.secret import Kept, Secret
from spanctl.errors import (
    ConfigurationError,
    NotFoundError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
)
from spanctl.variables import UNIVERSE

_RUN: Final = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"
_QUOTA: Final = "GOOGLE_CLOUD_QUOTA_PROJECT"
_USER_FILE: Final = ".config/gcloud/application_default_credentials.json"


class GoogleSource(Kept):
    """Tokens of google-auth's own credentials, used for their tokens alone.

    They never reach a channel: before each request they would look up a regional boundary at a
    Google host, with the token, whatever the endpoints say.
    """

    def __init__(self, credentials: Credentials, principal: str | None) -> None:
        """Take credentials, and whose they are said to be."""
        self._credentials = credentials
        self._principal = principal

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Return the token that they have, or another one."""
        credentials = self._credentials
        failed: SpanctlError | None = None
        token = credentials.token
        if rejected is not None or not credentials.valid or not token:
            try:
                credentials.refresh(http)
            except exceptions.RefreshError as error:
                failed = _refused(credentials, retryable=error.retryable)
            except exceptions.TransportError:
                failed = _refused(credentials, retryable=True)
            except (OSError, SubprocessError):
                failed = _failed_program()
            except (exceptions.GoogleAuthError, ValueError):
                failed = _refused(credentials, retryable=False)
        # Raised outside of the handler: Google's error holds what was sent.
        if failed is not None:
            raise failed
        expiry = credentials.expiry or (now() + timedelta(minutes=5)).replace(tzinfo=None)
        return AccessToken(
            token=Secret(str(credentials.token)),
            expiry=expiry.replace(tzinfo=UTC),
            principal=self._principal or _named(credentials),
            quota_project=credentials.quota_project_id,
            universe=credentials.universe_domain,
        )


def _failed_program() -> SpanctlError:
    msg = "the program that the credential document names can't be run, or takes too long"
    return NotPermittedError(msg, hint="run it by hand: its command is in the document")


def _refused(credentials: Credentials, *, retryable: bool) -> SpanctlError:
    if retryable:
        msg = f"the token endpoint{_at(credentials)} did not answer"
        return UnreachableError(msg, hint="check the network, or: spanctl local status")
    msg = "Google's token endpoint refused the credential"
    return NotPermittedError(msg, hint="log in again, or run: spanctl creds rotate")


def _at(credentials: Credentials) -> str:
    """Return where credentials get their tokens; empty where they don't say."""
    uri = getattr(credentials, "token_uri", None) or getattr(credentials, "_token_uri", None)
    host = urlsplit(uri).netloc.rpartition("@")[2] if isinstance(uri, str) else ""
    return f" at {host}" if host else ""


def _named(credentials: Credentials) -> str | None:
    name = getattr(credentials, "service_account_email", None) or getattr(
        credentials, "account", None
    )
    return str(name) if name and name != "default" else None


class ImpersonationSource:
    """Tokens of a service account, minted through another source's."""

    def __init__(  # noqa: PLR0913 - as IAM wants to know it
        self,
        endpoints: Endpoints,
        base: TokenSource,
        target: str,
        delegates: Sequence[str] = (),
        *,
        lifetime: timedelta = LONGEST,
        quota_project: str | None = None,
    ) -> None:
        """Take who asks, whom for, and how.

        Args:
            endpoints: Where IAM is.
            base: Who asks.
            target: E-mail of the service account.
            delegates: E-mails in between, nearest to the asker first.
            lifetime: How long tokens live.
            quota_project: The project whose quota requests with them use; None for their own.
        """
        self._endpoints = endpoints
        self._base = base
        self._target = target
        self._delegates = tuple(delegates)
        self._lifetime = lifetime
        self._quota_project = quota_project

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Mint a token; the base's own is renewed once if it is refused."""
        del rejected  # each token that is minted is a new one
        base = self._base.fetch(http, None)
        try:
            return self._mint(http, base)
        except NotPermittedError as error:
            if error.details.get("status") != 401:  # noqa: PLR2004 - not authenticated
                raise
        return self._mint(http, self._base.fetch(http, base.token))

    def _mint(self, http: Http, base: AccessToken) -> AccessToken:
        minted = impersonate(
            http,
            self._endpoints,
            base,
            self._target,
            delegates=self._delegates,
            lifetime=self._lifetime,
        )
        return replace(minted, quota_project=self._quota_project)


class TokenDocumentSource:
    """The token in a document."""

    def __init__(self, document: CredentialDocument) -> None:
        """Take the document."""
        self._document = document

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Return the token, unless it is over.

        Raises:
            NotPermittedError: It expired, or was refused.
        """
        del http
        document = self._document
        expiry = document.expiry or datetime.max.replace(tzinfo=UTC)
        if expiry <= now():
            msg = f"the access token expired at {expiry:%Y-%m-%dT%H:%M:%SZ}"
            raise NotPermittedError(msg, hint="run: spanctl creds rotate")
        if document.token == rejected:
            msg = "the access token was refused before it expired"
            raise NotPermittedError(msg, hint="run: spanctl creds rotate")
        return AccessToken(
            token=document.token,
            expiry=expiry,
            principal=document.principal,
            delegates=document.delegates,
            minted_by=document.minted_by,
        )


@without_locals()
def document_source(document: CredentialDocument, endpoints: Endpoints) -> TokenSource:
    """Return the source that a document describes; its URLs are checked before anything is sent.

    Raises:
        ConfigurationError: The document names hosts that a credential must not be sent to, or its
            key can't be read.
    """
    match document.kind:
        case DocumentKind.ACCESS_TOKEN:
            return TokenDocumentSource(document)
        case DocumentKind.SERVICE_ACCOUNT_KEY:
            return _service_account(document, endpoints)
        case DocumentKind.IMPERSONATED:
            # Google's own loader drops the URL's host and would ask the real IAM.
            info = document.reveal_info()
            base = _source_of(info["source_credentials"], endpoints)
            return ImpersonationSource(
                endpoints,
                base,
                document.principal or "",
                document.delegates,
                quota_project=info.get("quota_project_id"),
            )
        case DocumentKind.EXTERNAL:
            return _external(document, endpoints)


def _service_account(document: CredentialDocument, endpoints: Endpoints) -> TokenSource:
    info = document.reveal_info()
    if info.get("universe_domain", UNIVERSE) == UNIVERSE:  # others' keys sign their own tokens
        endpoints.check(str(info["token_uri"]), "token_uri")
    try:
        credentials = service_account.Credentials.from_service_account_info(
            info, scopes=list(SCOPES)
        )
    except (ValueError, exceptions.GoogleAuthError):
        credentials = None
    if credentials is None:
        msg = "the service-account key in the credential document can't be read"
        raise ConfigurationError(msg, hint="make a new one: spanctl creds rotate")
    return GoogleSource(credentials, document.principal)


def _external(document: CredentialDocument, endpoints: Endpoints) -> TokenSource:
    info = document.reveal_info()
    endpoints.check(str(info["token_url"]), "token_url")
    target = document.principal
    life = (info.pop("service_account_impersonation", None) or {}).get("token_lifetime_seconds")
    info.pop("service_account_impersonation_url", None)
    base = GoogleSource(_loaded(info), None)
    if not target:
        return base
    return ImpersonationSource(
        endpoints,
        base,
        target,
        lifetime=timedelta(seconds=life) if isinstance(life, int) else LONGEST,
        quota_project=info.get("quota_project_id"),
    )


def _source_of(info: dict[str, Any], endpoints: Endpoints, *, may_run: bool = False) -> TokenSource:
    """Return the source for Google's own kinds of document, a user's log-in among them."""
    if info.get("type") not in USERS:
        document = parse_document(Secret(json.dumps(info)), may_run=may_run)
        return document_source(document, endpoints)
    name = "token_uri" if info["type"] == "authorized_user" else "token_url"
    uri = str(info.get(name) or f"{endpoints.oauth2}/token")
    endpoints.check(uri, name)
    for private in ("refresh_token", "client_secret"):
        REDACTOR.learn(str(info.get(private, "")).encode(), lasting=True)
    return GoogleSource(_loaded({**info, name: uri}), None)


def _loaded(info: dict[str, Any]) -> Credentials:
    from google.auth import (
        aws,
        external_account,
        external_account_authorized_user,
        identity_pool,
        pluggable,
    )
    from google.oauth2 import credentials as user

    source = info.get("credential_source") or {}
    if "executable" in source and os.environ.get(_RUN) != "1":
        msg = "the credential document names a program to be run, which nobody has allowed"
        raise ConfigurationError(msg, hint=f"if you trust it: export {_RUN}=1")
    loaded: Credentials | None = None
    try:
        if info.get("type") == "authorized_user":
            loaded = user.Credentials(
                None,
                refresh_token=info["refresh_token"],
                client_id=info["client_id"],
                client_secret=info["client_secret"],
                token_uri=info["token_uri"],
                quota_project_id=info.get("quota_project_id"),
                account=info.get("account", ""),
                universe_domain=info.get("universe_domain", UNIVERSE),
            )
        elif info.get("type") == "external_account_authorized_user":
            # Its access token is left: how long it lives is what the document says.
            known = {name: value for name, value in info.items() if name not in {"token", "expiry"}}
            loaded = external_account_authorized_user.Credentials.from_info(known)
        else:
            kind: type[external_account.Credentials] = identity_pool.Credentials
            if str(source.get("environment_id", "")).startswith("aws"):
                kind = aws.Credentials
            elif "executable" in source:
                kind = pluggable.Credentials
            loaded = kind.from_info(info).with_scopes(list(SCOPES))
    except (ValueError, KeyError, TypeError, exceptions.GoogleAuthError):
        loaded = None
    if loaded is None:
        msg = "the credential document can't be used"
        raise ConfigurationError(msg, hint="make it again with gcloud")
    return loaded


class DefaultSource:
    """Google's application default credentials; documents in files are built by us."""

    def __init__(self, endpoints: Endpoints) -> None:
        """Look for nothing yet."""
        self._endpoints = endpoints
        self._source: TokenSource | None = None

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Return a token; its quota project is the one that the environment names, if it does.

        Raises:
            NotPermittedError: There are no application default credentials, or they don't work.
            ConfigurationError: Their file can't be read.
        """
        if self._source is None:
            self._source = self._find()
        found = self._source.fetch(http, rejected)
        return replace(found, quota_project=os.environ.get(_QUOTA) or found.quota_project)

    def _find(self) -> TokenSource:
        named = self._endpoints.adc_file or os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        folder = os.environ.get("CLOUDSDK_CONFIG")
        usual = Path(folder) / Path(_USER_FILE).name if folder else Path.home() / _USER_FILE
        path = Path(named) if named else usual
        if named or path.exists():
            try:
                info = json.loads(path.read_bytes())
            except (OSError, ValueError):
                info = None
            if not isinstance(info, dict):
                msg = f"the application default credentials in {path} can't be read"
                raise ConfigurationError(msg, hint="run: gcloud auth application-default login")
            if is_lent(path, info):
                return GoogleSource(_loaded(info), None)
            return _source_of(info, self._endpoints, may_run=is_own(path))
        credentials: Credentials | None = None
        if self._endpoints.are_google_s:  # else a metadata server would be asked
            with suppress(exceptions.DefaultCredentialsError):
                credentials, _ = google.auth.default(scopes=list(SCOPES))
        if credentials is None:
            msg = "there are no application default credentials"
            raise NotPermittedError(msg, hint="run: gcloud auth application-default login")
        return GoogleSource(credentials, None)


class ChainSource:
    """The first source that has a token; the one that had one is asked first the next time."""

    def __init__(self, members: Sequence[tuple[str, TokenSource]]) -> None:
        """Take the sources with their references, in order."""
        self._members = list(members)

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        """Ask each in turn.

        Raises:
            NotPermittedError: None has a token; each one's reason is told.
        """
        reasons = []
        for index, (name, source) in enumerate(self._members):
            try:
                found = source.fetch(http, rejected)
            except (
                NotPermittedError,
                NotFoundError,
                UnreachableError,
                VersionStateError,
            ) as error:
                reasons.append(f"{name}: {error.message}")
                continue
            self._members.insert(0, self._members.pop(index))
            return found
        msg = f"no credentials of the chain work ({'; '.join(reasons)})"
        raise NotPermittedError(msg, hint="run: spanctl creds check")
