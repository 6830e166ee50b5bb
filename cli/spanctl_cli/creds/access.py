"""What the commands about credentials share: settings, endpoints, and who asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from spanctl.errors import ConfigurationError, NotFoundError, UsageError
from spanctl.settings import Settings
from spanctl_cli.context import AppContext

if TYPE_CHECKING:
    from spanctl.credentials.endpoints import Endpoints
    from spanctl.credentials.inventory import SecretInventory
    from spanctl.credentials.live import LiveCredentials
    from spanctl.credentials.reference import CredentialReference, SecretName
    from spanctl.credentials.store import GoogleSecretStore
    from spanctl.spanner.admission import Door

DEFAULT = "adc"
_LONGEST_LIFE = timedelta(hours=12)
_NAMES = "write its id, or projects/P/secrets/S"


@dataclass(frozen=True, slots=True)
class Names:
    """What credentials are called in a context, and where they come from; no client is loaded.

    Attributes:
        settings: The settings in effect.
        endpoints: Where Google's identity services are.
    """

    settings: Settings
    endpoints: "Endpoints"

    @property
    def project(self) -> str:
        """The project in which secrets are looked for."""
        return self.settings.require("project")

    def name(self, text: str) -> "SecretName":
        """Read a secret's name: its id in the context's project, or its full name.

        Raises:
            UsageError: It is none. It is not quoted: it may be a secret pasted by mistake.
        """
        from spanctl.credentials.reference import SecretName

        full = text if "/" in text else f"projects/{self.project}/secrets/{text}"
        try:
            return SecretName.parse(full)
        except UsageError:
            msg = "what was given is no name of a secret"
        raise UsageError(msg, hint=_NAMES)

    def reference(self, text: str) -> "CredentialReference":
        """Read a credential reference, or a secret's name for the reference to it.

        Raises:
            UsageError: It is neither.
        """
        from spanctl.credentials.reference import SecretReference, parse_reference

        if text == DEFAULT or ":" in text:
            return parse_reference(text)
        return SecretReference(self.name(text))

    def lendable(self, text: str | None, lifetime: float | None) -> "LiveCredentials":
        """Return the credentials of a reference, of a secret's name, or else of the context.

        Args:
            text: The reference or the name.
            lifetime: Seconds that tokens shall live; only those that are minted can be told.

        Raises:
            UsageError: It is neither, or its tokens aren't minted here.
        """
        from spanctl.credentials.iam import LONGEST
        from spanctl.credentials.reference import ChainReference, ImpersonationReference
        from spanctl.credentials.resolve import resolve

        reference = self.reference(text or self.settings.require("credentials"))
        members = reference.members if isinstance(reference, ChainReference) else (reference,)
        if lifetime is None:
            return resolve(reference, self.endpoints)
        if not all(isinstance(one, ImpersonationReference) for one in members):
            msg = f"--lifetime is for tokens that are minted, and those of {reference} aren't"
            raise UsageError(msg, hint="use it with --credentials impersonate:EMAIL")
        life = timedelta(seconds=int(lifetime))
        if not timedelta(0) < life <= _LONGEST_LIFE:
            msg = "a token lives between a second and 12 hours"
            hint = f"up to {LONGEST.seconds // 3600}h unless the organisation's policy allows more"
            raise UsageError(msg, hint=hint)
        return resolve(reference, self.endpoints, lifetime=life)


@dataclass(frozen=True, slots=True)
class Access(Names):
    """Secret Manager and IAM, as the application default credentials reach them.

    Attributes:
        credentials: Who asks.
        store: Secret Manager, one secret at a time.
    """

    credentials: "LiveCredentials"
    store: "GoogleSecretStore"

    @property
    def inventory(self) -> "SecretInventory":
        """The secrets of a project."""
        from spanctl.credentials.inventory import SecretInventory

        return SecretInventory(self.endpoints, self.credentials)

    @property
    def door(self) -> "Door":
        """The Spanner database on which credentials are tried."""
        from spanctl.spanner.admission import Door

        return Door.from_settings(self.settings)

    def name_or_only(self, text: str | None) -> "SecretName":
        """Read a secret's name, or take the only one that there is.

        Raises:
            UsageError: There are several.
            NotFoundError: There is none.
        """
        if text is not None:
            return self.name(text)
        names = self.inventory.names(self.project)
        if not names:
            msg = f"there is no credential in project {self.project}"
            hint = "make one: spanctl creds create NAME --impersonate EMAIL"
            raise NotFoundError(msg, hint=hint)
        if len(names) > 1:
            told = ", ".join(name.secret for name in names)
            msg = "there are several credentials"
            raise UsageError(msg, hint=f"name one of: {told}")
        return names[0]


def names(app: AppContext) -> Names:
    """Close the ways by which this process could show credentials; return what they are called.

    Raises:
        ConfigurationError: The context names a file that can't be read, or a URL that isn't HTTPS.
    """
    from spanctl.credentials.hardening import harden

    settings = app.settings()
    _check_files(settings)
    harden()
    from spanctl.credentials.endpoints import Endpoints

    return Names(settings, Endpoints.from_settings(settings))


@contextmanager
def access(app: AppContext) -> Iterator[Access]:
    """Open Secret Manager as the application default credentials; nothing is sent yet.

    Raises:
        ConfigurationError: The context names a file that can't be read, or a URL that isn't HTTPS.
    """
    named = names(app)
    from spanctl.credentials.resolve import resolve
    from spanctl.credentials.store import GoogleSecretStore

    credentials = resolve(DEFAULT, named.endpoints)
    store = GoogleSecretStore(named.endpoints, credentials)
    try:
        yield Access(named.settings, named.endpoints, credentials, store)
    finally:
        store.close()


def _check_files(settings: Settings) -> None:
    """Say which file that the context names can't be read, and what to do."""
    for name, hint in (
        ("ca_file", "run: spanctl local up, or: spanctl context set ca_file=PATH"),
        ("adc_file", "run: spanctl local up, or: gcloud auth application-default login"),
    ):
        path = settings.get(name)
        try:
            if path:
                Path(path).read_bytes()
        except OSError as error:
            msg = f"{name} {path} can't be read: {error.strerror}"
            raise ConfigurationError(msg, hint=hint) from error
