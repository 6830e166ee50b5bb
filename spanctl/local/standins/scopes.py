"""The OAuth scopes that exist, as far as a program that works with Google Cloud asks for them."""

from collections.abc import Iterable
from typing import Final

_PREFIX: Final = "https://www.googleapis.com/auth/"
_SHORT: Final = frozenset({"openid", "email", "profile"})
_NAMED: Final = frozenset(
    {
        "bigquery",
        "bigquery.insertdata",
        "bigquery.readonly",
        "bigtable.admin",
        "bigtable.data",
        "bigtable.data.readonly",
        "cloud-platform",
        "cloud-platform.read-only",
        "cloudkms",
        "compute",
        "compute.readonly",
        "datastore",
        "devstorage.full_control",
        "devstorage.read_only",
        "devstorage.read_write",
        "drive",
        "drive.readonly",
        "iam",
        "logging.admin",
        "logging.read",
        "logging.write",
        "monitoring",
        "monitoring.read",
        "monitoring.write",
        "ndev.clouddns.readonly",
        "ndev.clouddns.readwrite",
        "pubsub",
        "service.management",
        "service.management.readonly",
        "servicecontrol",
        "spanner.admin",
        "spanner.data",
        "spreadsheets",
        "spreadsheets.readonly",
        "sqlservice.admin",
        "sqlservice.login",
        "trace.append",
        "trace.readonly",
        "userinfo.email",
        "userinfo.profile",
    }
)


def unknown_scopes(scopes: Iterable[str]) -> list[str]:
    """Return those that don't exist, sorted."""
    return sorted(
        one
        for one in scopes
        if one not in _SHORT
        and not (one.startswith(_PREFIX) and one.removeprefix(_PREFIX) in _NAMED)
    )
