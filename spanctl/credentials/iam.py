"""IAM: mint tokens by impersonation, and make, disable and delete service-account keys."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from spanctl.clock import parse_rfc3339
from spanctl.credentials.document import CLOUD_PLATFORM, CredentialDocument, parse_document
from spanctl.credentials.endpoints import Endpoints, impersonation_url
from spanctl.credentials.hardening import without_locals
from spanctl.credentials.http import Http, call
from spanctl.credentials.secret import Secret
from spanctl.errors import (
    ConfigurationError,
    NotFoundError,
    NotPermittedError,
    UnreachableError,
    UsageError,
)
from spanctl.variables import UNIVERSE

EMAIL: Final = "https://www.googleapis.com/auth/userinfo.email"
SCOPES: Final = (CLOUD_PLATFORM, EMAIL)
"""What tokens are minted for; the second one lets tokeninfo say whose a token is."""

LONGEST: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AccessToken:
    """A live access token and what is known of it.

    Attributes:
        token: The token.
        expiry: When it stops working.
        principal: Whose it is said to be; None when nobody said.
        version: The secret's version that it came from.
        delegates: Service accounts between the base and the principal, nearest to the base first.
        base: The token that asked for this one.
        minted_by: Who is said to have minted it, when the base isn't known.
        quota_project: Project whose quota requests with it use; None for the principal's own.
        universe: Domain of the cloud that it belongs to.
    """

    token: Secret
    expiry: datetime
    principal: str | None = None
    version: int | None = None
    delegates: tuple[str, ...] = ()
    base: "AccessToken | None" = field(default=None, repr=False)
    minted_by: str | None = None
    quota_project: str | None = None
    universe: str = UNIVERSE


@without_locals()
def impersonate(  # noqa: PLR0913 - one request, told in full
    http: Http,
    endpoints: Endpoints,
    base: AccessToken,
    target: str,
    *,
    delegates: Sequence[str] = (),
    scopes: Sequence[str] = SCOPES,
    lifetime: timedelta = LONGEST,
) -> AccessToken:
    """Mint an access token of a service account (IAM generateAccessToken).

    Args:
        http: The transport.
        endpoints: Where IAM is.
        base: The token that asks.
        target: E-mail of the service account.
        delegates: E-mails in between, nearest to the base first.
        scopes: What the token is for.
        lifetime: How long it lives: an hour at most, unless the organisation allows more.

    Raises:
        NotPermittedError: The base, or a delegate, may not act as the next one, or one is disabled.
        UnreachableError: IAM did not answer.
        ConfigurationError: IAM refused the request.
    """
    body = {
        "scope": list(scopes),
        "lifetime": f"{int(lifetime.total_seconds())}s",
        "delegates": [f"projects/-/serviceAccounts/{email}" for email in delegates],
    }
    doing = f"minting a token of {target}"
    url = impersonation_url(endpoints, target)
    try:
        answer = call(
            http, "POST", url, doing, token=base.token, body=body, quota_project=base.quota_project
        )
    except ConfigurationError as error:
        if error.details.get("reason") != "FAILED_PRECONDITION":
            raise
        msg = f"the service account {target} is disabled"
        raise NotPermittedError(msg, hint="have it enabled, or use another one") from None
    token = Secret(str(answer.pop("accessToken", "")))
    try:
        expiry = parse_rfc3339(str(answer.get("expireTime")))
    except UsageError:
        expiry = None
    if expiry is None or not token.reveal():
        msg = f"{endpoints.iam} answered with no token while {doing}"
        raise UnreachableError(msg, hint="try again")
    return AccessToken(
        token=token,
        expiry=expiry,
        principal=target,
        delegates=tuple(delegates),
        base=base,
        universe=base.universe,
    )


def key_name(email: str, key_id: str) -> str:
    """Return the resource name of a service-account key."""
    return f"projects/-/serviceAccounts/{email}/keys/{key_id}"


@without_locals()
def create_key(
    http: Http, endpoints: Endpoints, base: AccessToken, email: str
) -> CredentialDocument:
    """Make a service-account key and return its document; Google shows it this once.

    Raises:
        NotPermittedError: The base may not make keys of that account.
        UnreachableError: IAM did not answer; a key may have been made.
        ConfigurationError: IAM refused: the account may have its ten keys.
    """
    url = f"{endpoints.admin}/v1/projects/-/serviceAccounts/{email}/keys"
    answer = call(
        *(http, "POST", url, f"making a key of {email}"),
        token=base.token,
        body={},
        quota_project=base.quota_project,
    )
    try:
        data = base64.b64decode(str(answer.pop("privateKeyData", "")), validate=True)
    except binascii.Error:
        data = b""
    return parse_document(Secret(data))


def disable_key(http: Http, endpoints: Endpoints, base: AccessToken, key: str) -> None:
    """Switch a key off; one that is gone is left.

    Raises:
        NotPermittedError: The base may not.
        UnreachableError: IAM did not answer.
    """
    _end_key(http, endpoints, base, key, "POST", ":disable")


def delete_key(http: Http, endpoints: Endpoints, base: AccessToken, key: str) -> None:
    """Delete a key, for good; one that is gone is left.

    Raises:
        NotPermittedError: The base may not.
        UnreachableError: IAM did not answer.
    """
    _end_key(http, endpoints, base, key, "DELETE", "")


def _end_key(  # noqa: PLR0913, PLR0917 - both ends of a key
    http: Http, endpoints: Endpoints, base: AccessToken, key: str, method: str, verb: str
) -> None:
    url = f"{endpoints.admin}/v1/{key}{verb}"
    body: dict[str, str] | None = {} if method == "POST" else None
    try:
        call(
            *(http, method, url, "ending a service-account key"),
            token=base.token,
            body=body,
            quota_project=base.quota_project,
        )
    except NotFoundError:
        return
