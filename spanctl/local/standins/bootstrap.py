"""What the stand-ins hold from the beginning: service accounts, roles, and the local user."""

import getpass
import json
import os
import re
from typing import Final

from spanctl.local.standins.accounts import Accounts
from spanctl.local.standins.files import Places, write_private
from spanctl.local.standins.policy import Policy

RUNNER: Final = "runner"
READER: Final = "reader"
ROTATOR: Final = "rotator"

_SECRET_ROLES: Final = ("roles/secretmanager.viewer", "roles/secretmanager.secretAccessor")
_ACCOUNTS: Final = {
    RUNNER: ("Runs flows: reads and writes", ("roles/spanner.databaseUser", *_SECRET_ROLES)),
    READER: ("Reads only", ("roles/spanner.databaseReader", *_SECRET_ROLES)),
    ROTATOR: ("Rotates credentials", ("roles/secretmanager.admin",)),
}
_MINTING: Final = "roles/iam.serviceAccountTokenCreator"
_KEYS: Final = "roles/iam.serviceAccountKeyAdmin"


def bootstrap(accounts: Accounts, policy: Policy, places: Places, base: str) -> None:
    """Make, in a new store, the accounts and their roles; make sure that the user can log in.

    Roles are granted once: what is taken away later stays away.

    Args:
        accounts: Where service accounts and users are kept.
        policy: Where roles are bound.
        places: Where the user's document goes.
        base: Where the IAM stand-in answers (``https://127.0.0.1:PORT``).

    Raises:
        OSError: The user's document can't be written.
    """
    user = user_address()
    if not policy.bindings(policy.project):
        _found(accounts, policy, f"user:{user}")
    _log_in(accounts, places, user, f"{base}/token")


def user_address() -> str:
    """Return the address under which the stand-ins know the person at this machine."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user often has no name
        name = f"uid-{os.getuid()}"
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}@localhost"


def _found(accounts: Accounts, policy: Policy, user: str) -> None:
    policy.grant(policy.project, "roles/owner", user)
    emails = {}
    for name, (display, roles) in _ACCOUNTS.items():
        emails[name] = accounts.ensure(name, display)
        for role in roles:
            policy.grant(policy.project, role, f"serviceAccount:{emails[name]}")
    rotator = f"serviceAccount:{emails[ROTATOR]}"
    for name, email in emails.items():
        resource = f"{policy.project}/serviceAccounts/{email}"
        policy.grant(resource, _MINTING, user)
        if name != ROTATOR:
            policy.grant(resource, _MINTING, rotator)
            policy.grant(resource, _KEYS, rotator)


def _log_in(accounts: Accounts, places: Places, user: str, token_uri: str) -> None:
    """Write the user's document, unless the one that is there still works."""
    try:
        old = json.loads(places.user.read_bytes())
        names = ("client_id", "client_secret", "refresh_token")
        owner = accounts.user_of(*(str(old[name]) for name in names))
        if owner == user and old["token_uri"] == token_uri:
            places.user.chmod(0o600)
            return
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass  # none, or a damaged one: a new one ends it
    document = {**accounts.add_user(user), "token_uri": token_uri}
    write_private(places.user, json.dumps(document, indent=2).encode())
