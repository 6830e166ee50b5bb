"""Which method of IAM's APIs answers which path."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from spanctl.local.standins.iam import Call, Iam
from spanctl.local.standins.status import RefusedError, Status, denied

_DEFAULT_PROJECT: Final = "-"

Method = Callable[[Iam, Call], dict[str, Any]]

ROUTES: Final[Mapping[tuple[str, str], Method]] = {
    ("POST", "account:generateAccessToken"): Iam.generate_access_token,
    ("POST", "account:signJwt"): Iam.sign_jwt,
    ("GET", "account"): Iam.get_account,
    ("POST", "account:enable"): Iam.enable_account,
    ("POST", "account:disable"): Iam.disable_account,
    ("POST", "account:getIamPolicy"): Iam.get_policy,
    ("POST", "account:setIamPolicy"): Iam.set_policy,
    ("POST", "account:testIamPermissions"): Iam.test_permissions,
    ("GET", "accounts"): Iam.list_accounts,
    ("POST", "accounts"): Iam.create_account,
    ("GET", "keys"): Iam.list_keys,
    ("POST", "keys"): Iam.create_key,
    ("GET", "key"): Iam.get_key,
    ("DELETE", "key"): Iam.delete_key,
    ("POST", "key:enable"): Iam.enable_key,
    ("POST", "key:disable"): Iam.disable_key,
}
"""HTTP method and kind of resource, with the custom verb, to what answers it."""

_PATH: Final = re.compile(
    r"/v1/projects/(?P<project>[^/:]+)/serviceAccounts"
    r"(?:/(?P<account>[^/:]+)(?P<keys>/keys(?:/(?P<key>[^/:]+))?)?)?(?P<verb>:\w+)?"
)


def route(method: str, path: str, project: str) -> tuple[Method, str, str]:
    """Find what answers a path; returns it with the account and the key that the path names.

    Raises:
        RefusedError: Nothing does, or the path is in another project.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        msg = "Method not found."
        raise RefusedError(Status.UNIMPLEMENTED, msg)
    if match["project"] not in {_DEFAULT_PROJECT, project}:
        elsewhere = f"projects/{match['project']}"
        permission = "resourcemanager.projects.get"
        raise denied(permission, elsewhere)
    kind = "account" if match["account"] else "accounts"
    if match["keys"]:
        kind = "key" if match["key"] else "keys"
    found = ROUTES.get((method, f"{kind}{match['verb'] or ''}"))
    if found is None:
        msg = "Method not found."
        raise RefusedError(Status.UNIMPLEMENTED, msg)
    return found, match["account"] or "", match["key"] or ""
