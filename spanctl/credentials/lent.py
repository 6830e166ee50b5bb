"""What a child process is told of credentials that are lent to it: names of files, never material.

Google's client libraries read a document that holds no key (``external_account``): they exchange
what lies in a file of its own for access tokens, at an endpoint on this machine that lives as long
as the lender. gcloud reads an access token from a file, which the lender renews.
"""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from spanctl.settings import Settings, Source
from spanctl.variables import CONTEXT_VARIABLE, UNIVERSE

AUDIENCE: Final = "//spanctl/creds-exec"
"""Marks a document of ours; being no pool of Google's, it makes clients look nothing up there."""

LOOPBACK: Final = "127.0.0.1"
DOCUMENT: Final = "credentials.json"
SUBJECT: Final = "subject"
TOKEN: Final = "token"  # noqa: S105 - a file's name

_PRIVATE: Final = 0o077
_WRITABLE: Final = 0o022
# Each of them would win over what is lent, or act as somebody else with it.
_OTHERS: Final = (
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE",
    "CLOUDSDK_AUTH_DISABLE_CREDENTIALS",
    "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
    "GCLOUD_KEYFILE_JSON",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
)
_OVERRIDES: Final = (
    ("spanner_endpoint", ("SPANNER",)),
    ("secretmanager_endpoint", ("SECRETMANAGER",)),
    ("iam_endpoint", ("IAM", "IAMCREDENTIALS")),
)
_ROOTS: Final = (
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "REQUESTS_CA_BUNDLE",
)


def document(
    folder: Path, token_url: str, universe: str = UNIVERSE, quota_project: str | None = None
) -> str:
    """Return the document that client libraries read; it lets nobody in by itself.

    Args:
        folder: Where the lender keeps what is lent.
        token_url: Its endpoint.
        universe: Domain of the cloud that the credentials belong to.
        quota_project: Project whose quota is used; None for the credentials' own.
    """
    info = {
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": token_url,
        "credential_source": {"file": str(folder / SUBJECT)},
        "universe_domain": universe,
        **({"quota_project_id": quota_project} if quota_project else {}),
    }
    return json.dumps(info, indent=2) + "\n"


def environment(environ: Mapping[str, str], folder: Path, settings: Settings) -> dict[str, str]:
    """Return the environment of a child that uses what lies in a lender's folder.

    Args:
        environ: The environment to start from.
        folder: The lender's folder.
        settings: The settings in effect: the child's endpoints, roots, project and context.
    """
    told = {name: value for name, value in environ.items() if name not in _OTHERS}
    told["GOOGLE_APPLICATION_CREDENTIALS"] = str(folder / DOCUMENT)
    told["SPANCTL_ADC_FILE"] = str(folder / DOCUMENT)  # wins over the context's
    told["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"] = str(folder / TOKEN)
    told["SPANCTL_CREDENTIALS"] = "adc"
    if settings.context:
        told[CONTEXT_VARIABLE] = settings.context
    if project := settings.get("project"):
        told["GOOGLE_CLOUD_PROJECT"] = told["CLOUDSDK_CORE_PROJECT"] = project
    if roots := settings.get("ca_file"):
        told |= dict.fromkeys(_ROOTS, roots)
    for setting, services in _OVERRIDES:
        found = settings.values[setting]
        if found.value and found.source is not Source.DEFAULT:
            url = found.value if "://" in found.value else f"https://{found.value}"
            for service in services:
                told[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service}"] = f"{url.rstrip('/')}/"
    # A proxy has no business between a child and its lender.
    for name in ("NO_PROXY", "no_proxy"):
        told[name] = ",".join(filter(None, (environ.get(name, ""), LOOPBACK)))
    return told


def is_lent(path: Path, info: Mapping[str, Any]) -> bool:
    """Tell whether a document was lent to this very user by ``spanctl creds exec``.

    Only such a one may name an endpoint without TLS: it is on this machine, and what is sent there
    lies beside the document, in a folder that nobody else can write to or read.
    """
    if info.get("type") != "external_account" or info.get("audience") != AUDIENCE:
        return False
    url = urlsplit(str(info.get("token_url")))
    named = info.get("credential_source")
    source = named.get("file") if isinstance(named, dict) else None
    return (
        (url.scheme, url.hostname) == ("http", LOOPBACK)
        and "service_account_impersonation_url" not in info
        and source == str(path.parent / SUBJECT)
        and all(is_own(one, _PRIVATE) for one in (path.parent, path, path.parent / SUBJECT))
    )


def is_own(path: Path, others: int = _WRITABLE) -> bool:
    """Tell whether a file or folder is this user's own, and no link.

    Args:
        path: The path.
        others: Bits of the mode that must not be set: those that let others write, if left out.
    """
    try:
        found = path.lstat()
    except OSError:
        return False
    private = not stat.S_IMODE(found.st_mode) & others
    return private and not stat.S_ISLNK(found.st_mode) and found.st_uid == os.getuid()
