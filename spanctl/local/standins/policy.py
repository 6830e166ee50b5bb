"""Who may do what: IAM's predefined roles, bound to members on resources."""

import sqlite3
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

from spanctl.local.standins.status import invalid
from spanctl.local.standins.store import Store

_TOKENS: Final = (
    "iam.serviceAccounts.getAccessToken",
    "iam.serviceAccounts.implicitDelegation",
    "iam.serviceAccounts.signJwt",
)
_ACCOUNTS: Final = ("iam.serviceAccounts.get", "iam.serviceAccounts.list")
_ACCOUNT_ADMIN: Final = (
    "iam.serviceAccounts.create",
    "iam.serviceAccounts.disable",
    "iam.serviceAccounts.enable",
    "iam.serviceAccounts.getIamPolicy",
    "iam.serviceAccounts.setIamPolicy",
)
_SPANNER_READ: Final = (
    "spanner.sessions.*",
    "spanner.instances.get",
    "spanner.instances.list",
    "spanner.databases.get",
    "spanner.databases.list",
    "spanner.databases.getDdl",
    "spanner.databases.select",
    "spanner.databases.read",
    "spanner.databases.partitionQuery",
    "spanner.databases.partitionRead",
    "spanner.databases.beginReadOnlyTransaction",
)

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    # An owner may not act as a service account: that takes its own grant, as at Google.
    "roles/owner": (
        "secretmanager.*",
        "spanner.*",
        "iam.serviceAccountKeys.*",
        *_ACCOUNTS,
        *_ACCOUNT_ADMIN,
    ),
    "roles/secretmanager.admin": ("secretmanager.*",),
    "roles/secretmanager.viewer": (
        "secretmanager.secrets.get",
        "secretmanager.secrets.list",
        "secretmanager.secrets.getIamPolicy",
        "secretmanager.versions.get",
        "secretmanager.versions.list",
    ),
    "roles/secretmanager.secretAccessor": ("secretmanager.versions.access",),
    "roles/secretmanager.secretVersionAdder": ("secretmanager.versions.add",),
    "roles/secretmanager.secretVersionManager": (
        "secretmanager.versions.add",
        "secretmanager.versions.destroy",
        "secretmanager.versions.disable",
        "secretmanager.versions.enable",
        "secretmanager.versions.get",
        "secretmanager.versions.list",
    ),
    "roles/iam.serviceAccountTokenCreator": (*_TOKENS, *_ACCOUNTS),
    "roles/iam.serviceAccountKeyAdmin": ("iam.serviceAccountKeys.*", *_ACCOUNTS),
    "roles/iam.serviceAccountViewer": (
        *_ACCOUNTS,
        "iam.serviceAccountKeys.get",
        "iam.serviceAccountKeys.list",
        "iam.serviceAccounts.getIamPolicy",
    ),
    "roles/iam.serviceAccountAdmin": (*_ACCOUNTS, *_ACCOUNT_ADMIN),
    "roles/spanner.databaseReader": _SPANNER_READ,
    "roles/spanner.databaseUser": (
        *_SPANNER_READ,
        "spanner.databases.write",
        "spanner.databases.updateDdl",
        "spanner.databases.beginOrRollbackReadWriteTransaction",
        "spanner.databases.beginPartitionedDmlTransaction",
        "spanner.databaseOperations.*",
    ),
    "roles/spanner.databaseAdmin": ("spanner.*",),
}
"""Role to the permissions in it, as patterns; only those that the stand-ins know."""


class Policy:
    """Bindings in the store. A binding on a project holds for everything in it."""

    def __init__(self, store: Store, project: str) -> None:
        """Remember where the bindings are, and whose project it is."""
        self._store = store
        self.project = f"projects/{project}"

    def grant(self, resource: str, role: str, member: str) -> None:
        """Bind a role to a member (``user:E``, ``serviceAccount:E``) on a resource; repeatable."""
        with self._store.transaction() as db:
            db.execute("INSERT OR IGNORE INTO bindings VALUES (?, ?, ?)", (resource, role, member))

    def allowed(self, member: str, permission: str, resource: str) -> bool:
        """Whether a binding on the resource, or on the project, holds this permission."""
        with self._store.reading() as db:
            roles = db.execute(
                "SELECT DISTINCT role FROM bindings WHERE resource IN (?, ?) AND member = ?",
                (resource, self.project, member),
            ).fetchall()
        return any(
            fnmatchcase(permission, pattern) for row in roles for pattern in ROLES[row["role"]]
        )

    def bindings(self, resource: str) -> dict[str, list[str]]:
        """Return the bindings on exactly this resource: role to members, both sorted."""
        with self._store.reading() as db:
            return _bindings(db, resource)

    def replace(self, resource: str, bindings: Mapping[str, Iterable[str]]) -> None:
        """Make these the only bindings on the resource.

        Raises:
            RefusedError: A role or a member is none that the stand-ins know.
        """
        rows = [(resource, role, member) for role, them in bindings.items() for member in them]
        for _, role, member in rows:
            if role not in ROLES:
                msg = f"Role {role} is not supported for this resource."
                raise invalid(msg)
            kind, _, address = member.partition(":")
            if kind not in {"user", "serviceAccount"} or "@" not in address:
                msg = f"The member {member} is of an unknown type."
                raise invalid(msg)
        with self._store.transaction() as db:
            db.execute("DELETE FROM bindings WHERE resource = ?", (resource,))
            db.executemany("INSERT OR IGNORE INTO bindings VALUES (?, ?, ?)", rows)


def _bindings(db: sqlite3.Connection, resource: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    query = "SELECT role, member FROM bindings WHERE resource = ? ORDER BY role, member"
    for row in db.execute(query, (resource,)):
        found.setdefault(row["role"], []).append(row["member"])
    return found
