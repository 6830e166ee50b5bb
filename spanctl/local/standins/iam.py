"""IAM and IAM Credentials over HTTPS: short-lived tokens, signed JWTs, accounts and their keys."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from spanctl.clock import rfc3339
from spanctl.local.standins.accounts import FOREVER, Account, Accounts, Key, key_document
from spanctl.local.standins.policy import Policy
from spanctl.local.standins.scopes import unknown_scopes
from spanctl.local.standins.status import RefusedError, Status, denied, invalid
from spanctl.local.standins.store import Store
from spanctl.local.standins.tokens import Principal, Tokens

Body = Mapping[str, Any]

_LIFETIME: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s")
_SHORTEST: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(hours=1)
_JWT_LONGEST: Final = timedelta(hours=12)
_ACCOUNT_ID: Final = re.compile(r"[a-z](?:[a-z0-9-]{4,28}[a-z0-9])")
_JSON_KEY: Final = "TYPE_GOOGLE_CREDENTIALS_FILE"


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the API: who asks, about which account and key, with what."""

    principal: Principal
    body: Body
    query: Mapping[str, str]
    account: str = ""
    key: str = ""


class Iam:
    """The methods of both APIs; the transport is elsewhere."""

    def __init__(
        self, store: Store, accounts: Accounts, tokens: Tokens, policy: Policy, base: str
    ) -> None:
        """Work on these; ``base`` is where the stand-in answers (``https://127.0.0.1:PORT``)."""
        self._store = store
        self._accounts = accounts
        self._tokens = tokens
        self._policy = policy
        self._base = base

    def generate_access_token(self, call: Call) -> dict[str, Any]:
        """Mint a token for an account that the caller, or its last delegate, may act as."""
        account, chain = self._delegated(call, "getAccessToken")
        scopes = _texts(call.body, "scope")
        if not scopes:
            msg = "Request contains an invalid argument: scope is required."
            raise invalid(msg)
        if unknown := unknown_scopes(scopes):
            msg = f"Request contains an invalid argument: there is no scope {unknown[0]!r}."
            raise invalid(msg)
        token, expires = self._tokens.mint(
            account.email, frozenset(scopes), _lifetime(call.body.get("lifetime")), chain
        )
        return {"accessToken": token, "expireTime": f"{expires:%Y-%m-%dT%H:%M:%SZ}"}

    def sign_jwt(self, call: Call) -> dict[str, Any]:
        """Sign a set of claims as an account that the caller, or its last delegate, may act as."""
        account, _ = self._delegated(call, "signJwt")
        payload = call.body.get("payload")
        try:
            claims = json.loads(payload if isinstance(payload, str) else "")
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            msg = "The payload must be a JSON object of claims."
            raise invalid(msg)
        self._check_expiry(claims.get("exp"))
        key_id, signed = self._accounts.sign(account.email, str(payload))
        return {"keyId": key_id, "signedJwt": signed}

    def _check_expiry(self, expires: object) -> None:
        if expires is None:
            return
        longest = (self._store.now() + _JWT_LONGEST).timestamp()
        if isinstance(expires, bool) or not isinstance(expires, int) or expires > longest:
            msg = "The exp claim must be an integer timestamp, at most 12 hours in the future."
            raise invalid(msg)

    def _delegated(self, call: Call, verb: str) -> tuple[Account, tuple[str, ...]]:
        """Return the account to act as, and who stands behind it, first to last."""
        principal = call.principal
        chain = [*principal.chain, principal.email]
        member = principal.member
        for name in _texts(call.body, "delegates"):
            account = self._may(member, "implicitDelegation", name.rpartition("/")[2])
            chain.append(account.email)
            member = f"serviceAccount:{account.email}"
        return self._may(member, verb, call.account), tuple(chain)

    def _may(self, member: str, verb: str, name: str) -> Account:
        permission = f"iam.serviceAccounts.{verb}"
        try:
            account = self._accounts.get(name)
        except RefusedError:
            raise _denied_here(permission) from None  # whether it exists is not for everyone
        if not self._policy.allowed(member, permission, self._resource(account)):
            raise _denied_here(permission)
        if account.disabled:
            msg = f"Service account {account.email} is disabled."
            raise RefusedError(Status.FAILED_PRECONDITION, msg)
        return account

    def get_account(self, call: Call) -> dict[str, Any]:
        """Return one service account."""
        return self._told(self._for(call, "iam.serviceAccounts.get"))

    def list_accounts(self, call: Call) -> dict[str, Any]:
        """Return all service accounts of the project, in one page."""
        self._on_project(call, "iam.serviceAccounts.list")
        return {"accounts": [self._told(account) for account in self._accounts.every()]}

    def create_account(self, call: Call) -> dict[str, Any]:
        """Make a service account."""
        self._on_project(call, "iam.serviceAccounts.create")
        name = call.body.get("accountId")
        if not isinstance(name, str) or not _ACCOUNT_ID.fullmatch(name):
            msg = "The account ID must be 6 to 30 characters of [a-z0-9-], a letter first."
            raise invalid(msg)
        details = _object(call.body, "serviceAccount")
        return self._told(self._accounts.create(name, str(details.get("displayName", ""))))

    def disable_account(self, call: Call) -> dict[str, Any]:
        """Switch a service account off: from now on none of its tokens and keys works."""
        account = self._for(call, "iam.serviceAccounts.disable")
        self._accounts.set_disabled(account.email, disabled=True)
        return {}

    def enable_account(self, call: Call) -> dict[str, Any]:
        """Switch a service account on again; tokens that have not expired work again too."""
        account = self._for(call, "iam.serviceAccounts.enable")
        self._accounts.set_disabled(account.email, disabled=False)
        return {}

    def get_policy(self, call: Call) -> dict[str, Any]:
        """Return who may act as, or work on, a service account."""
        account = self._for(call, "iam.serviceAccounts.getIamPolicy")
        return _policy(self._policy.bindings(self._resource(account)))

    def set_policy(self, call: Call) -> dict[str, Any]:
        """Replace the policy of a service account."""
        account = self._for(call, "iam.serviceAccounts.setIamPolicy")
        bindings = _object(call.body, "policy").get("bindings") or []
        if not isinstance(bindings, list) or not all(isinstance(one, dict) for one in bindings):
            msg = "Request contains an invalid argument: bindings."
            raise invalid(msg)
        wanted: dict[str, list[str]] = {}
        for binding in bindings:
            if binding.get("condition"):
                msg = "Conditions are not supported by the local stand-in."
                raise RefusedError(Status.UNIMPLEMENTED, msg)
            wanted.setdefault(str(binding.get("role")), []).extend(_texts(binding, "members"))
        self._policy.replace(self._resource(account), wanted)
        return _policy(wanted)

    def test_permissions(self, call: Call) -> dict[str, Any]:
        """Return those of the permissions asked for that the caller has on a service account."""
        resource = self._resource(self._accounts.get(call.account))
        member, asked = call.principal.member, _texts(call.body, "permissions")
        held = [name for name in asked if self._policy.allowed(member, name, resource)]
        return {"permissions": held} if held else {}

    def create_key(self, call: Call) -> dict[str, Any]:
        """Make a key for a service account; its private half is in this answer only."""
        account = self._for(call, "iam.serviceAccountKeys.create")
        kind = call.body.get("privateKeyType") or _JSON_KEY
        if kind != _JSON_KEY:
            msg = f"The local stand-in makes keys of type {_JSON_KEY} only."
            raise RefusedError(Status.UNIMPLEMENTED, msg)
        key, pem = self._accounts.create_key(account.email)
        document = key_document(account, key, pem, self._accounts.project, self._base)
        data = base64.b64encode(document.encode()).decode()
        return {**self._told_key(key), "privateKeyType": _JSON_KEY, "privateKeyData": data}

    def list_keys(self, call: Call) -> dict[str, Any]:
        """Return an account's keys, Google's own and the user's, or of one kind."""
        account = self._for(call, "iam.serviceAccountKeys.list")
        told = [self._told_key(key) for key in self._accounts.keys(account.email)]
        wanted = call.query.get("keyTypes")
        kept = [key for key in told if wanted in {None, "", key["keyType"]}]
        return {"keys": kept} if kept else {}

    def get_key(self, call: Call) -> dict[str, Any]:
        """Return one key, without its private half."""
        account = self._for(call, "iam.serviceAccountKeys.get")
        return self._told_key(self._accounts.key(account.email, call.key))

    def disable_key(self, call: Call) -> dict[str, Any]:
        """Switch a key off: nothing that it signs is taken any more."""
        account = self._for(call, "iam.serviceAccountKeys.disable")
        self._accounts.set_key_disabled(account.email, call.key, disabled=True)
        return {}

    def enable_key(self, call: Call) -> dict[str, Any]:
        """Switch a key on again."""
        account = self._for(call, "iam.serviceAccountKeys.enable")
        self._accounts.set_key_disabled(account.email, call.key, disabled=False)
        return {}

    def delete_key(self, call: Call) -> dict[str, Any]:
        """Delete a key, for good."""
        account = self._for(call, "iam.serviceAccountKeys.delete")
        self._accounts.delete_key(account.email, call.key)
        return {}

    def _for(self, call: Call, permission: str) -> Account:
        """Return the account of the call, if the caller has the permission on it."""
        on_project = self._policy.allowed(call.principal.member, permission, self._policy.project)
        try:
            account = self._accounts.get(call.account)
        except RefusedError:
            if on_project:
                raise
            raise _denied_here(permission) from None
        resource = self._resource(account)
        if not on_project and not self._policy.allowed(call.principal.member, permission, resource):
            raise _denied_here(permission)
        return account

    def _on_project(self, call: Call, permission: str) -> None:
        if not self._policy.allowed(call.principal.member, permission, self._policy.project):
            raise denied(permission, self._policy.project)

    def _resource(self, account: Account) -> str:
        return f"{self._policy.project}/serviceAccounts/{account.email}"

    def _told(self, account: Account) -> dict[str, Any]:
        told = {
            "name": self._resource(account),
            "projectId": self._accounts.project,
            "uniqueId": account.unique_id,
            "email": account.email,
            "displayName": account.display_name,
            "oauth2ClientId": account.unique_id,
        }
        return {**told, "disabled": True} if account.disabled else told

    def _told_key(self, key: Key) -> dict[str, Any]:
        told = {
            "name": f"{self._policy.project}/serviceAccounts/{key.email}/keys/{key.key_id}",
            "keyAlgorithm": "KEY_ALG_RSA_2048",
            "keyOrigin": "GOOGLE_PROVIDED",
            "keyType": "SYSTEM_MANAGED" if key.is_system else "USER_MANAGED",
            "validAfterTime": _seconds(rfc3339(key.created)),
            "validBeforeTime": _seconds(rfc3339(min(key.expires, FOREVER))),
        }
        return {**told, "disabled": True} if key.disabled else told


def _lifetime(text: object) -> timedelta:
    if text is None or text == "":
        return _LONGEST
    match = _LIFETIME.fullmatch(text) if isinstance(text, str) else None
    lifetime = timedelta(seconds=float(match[1])) if match else timedelta()
    if not _SHORTEST <= lifetime <= _LONGEST:
        msg = "The lifetime must be between 1s and 3600s."
        raise invalid(msg)
    return lifetime


def _denied_here(permission: str) -> RefusedError:
    text = f"Permission '{permission}' denied on resource (or it may not exist)."
    return RefusedError(Status.PERMISSION_DENIED, text)


def _policy(bindings: Mapping[str, list[str]]) -> dict[str, Any]:
    told: list[dict[str, Any]] = [
        {"role": role, "members": members} for role, members in bindings.items()
    ]
    return {"version": 1, **({"bindings": told} if told else {})}


def _seconds(text: str) -> str:
    return text.partition(".")[0] + "Z"


def _texts(body: Body, name: str) -> list[str]:
    """Return a list of texts from a request; none at all is an empty one."""
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        msg = f"Request contains an invalid argument: {name}."
        raise invalid(msg)
    return value


def _object(body: Body, name: str) -> Body:
    """Return an object from a request; none at all is an empty one."""
    value = body.get(name) or {}
    if not isinstance(value, dict):
        msg = f"Request contains an invalid argument: {name}."
        raise invalid(msg)
    return value
