"""Where Google's identity services are: the real ones, or stand-ins on this machine."""

from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from spanctl.errors import ConfigurationError
from spanctl.settings import Settings
from spanctl.variables import UNIVERSE

_GOOGLE: Final = (".googleapis.com", ".google.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the identity services are reached; it pickles, and holds no secret.

    Attributes:
        secretmanager: ``host[:port]`` of Secret Manager's gRPC API.
        iam: Base URL of the IAM Credentials API.
        admin: Base URL of the IAM API, which keeps service-account keys.
        oauth2: Base URL of the token and tokeninfo endpoints.
        ca_file: PEM file of the only authority to trust; None for the system's.
        adc_file: File of the application default credentials; None for Google's usual places.
        universe: Domain of the cloud that credentials have to belong to.
    """

    secretmanager: str = "secretmanager.googleapis.com"
    iam: str = "https://iamcredentials.googleapis.com"
    admin: str = "https://iam.googleapis.com"
    oauth2: str = "https://oauth2.googleapis.com"
    ca_file: str | None = None
    adc_file: str | None = None
    universe: str = UNIVERSE

    def __post_init__(self) -> None:
        """Refuse what tokens must not be sent to.

        Raises:
            ConfigurationError: A URL is not HTTPS.
        """
        for url in (self.iam, self.admin, self.oauth2):
            if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
                msg = f"{url!r} is no https:// address"
                raise ConfigurationError(msg, hint="check: spanctl context show")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the endpoints from resolved settings; those that they don't name are the universe's.

        One ``iam_endpoint`` stands in for the three HTTPS services.

        Raises:
            ConfigurationError: A URL is not HTTPS.
        """

        def get(name: str) -> str | None:
            setting = settings.values.get(name)
            return setting.value if setting else None

        real = cls.of(get("universe_domain") or UNIVERSE)
        iam = (get("iam_endpoint") or real.iam).rstrip("/")
        if "://" not in iam:
            iam = f"https://{iam}"
        replaced = iam != real.iam
        return cls(
            secretmanager=get("secretmanager_endpoint") or real.secretmanager,
            iam=iam,
            admin=iam if replaced else real.admin,
            oauth2=iam if replaced else real.oauth2,
            ca_file=get("ca_file"),
            adc_file=get("adc_file"),
            universe=real.universe,
        )

    @classmethod
    def of(cls, universe: str) -> Self:
        """Return the endpoints of a whole universe, as its domain names them."""
        return cls(
            secretmanager=f"secretmanager.{universe}",
            iam=f"https://iamcredentials.{universe}",
            admin=f"https://iam.{universe}",
            oauth2=f"https://oauth2.{universe}",
            universe=universe,
        )

    def secretmanager_of(self, location: str | None) -> str:
        """Return where the secrets of a region are kept; None for those that are replicated.

        An endpoint that was set is taken for all of them.
        """
        if location is None or self.secretmanager != f"secretmanager.{self.universe}":
            return self.secretmanager
        return f"secretmanager.{location}.rep.{self.universe}"

    @property
    def are_google_s(self) -> bool:
        """Whether credentials are asked for at Google, and not at stand-ins."""
        return (urlsplit(self.oauth2).hostname or "").endswith((*_GOOGLE, f".{self.universe}"))

    def check(self, url: str, what: str) -> str:
        """Return a URL found in a credential document if a credential may be sent there.

        Raises:
            ConfigurationError: It is neither Google's nor one of these endpoints.
        """
        parts = urlsplit(url)
        ours = {urlsplit(base).netloc for base in (self.iam, self.admin, self.oauth2)}
        domains = (*_GOOGLE, f".{self.universe}")
        google = (parts.hostname or "").endswith(domains) and parts.port in (None, 443)
        if parts.scheme == "https" and (parts.netloc in ours or google):
            return url
        msg = f"the credential's {what} is neither Google's nor this context's"
        raise ConfigurationError(msg, hint="a document from elsewhere may steal what it is given")


def impersonation_url(endpoints: Endpoints, target: str) -> str:
    """Return the URL at which a token of a service account is minted."""
    return f"{endpoints.iam}/v1/projects/-/serviceAccounts/{target}:generateAccessToken"
