"""Every setting of a context: its name, its variable in the environment, its default."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from spanctl.clock import parse_duration, parse_interval, parse_since
from spanctl.errors import ConfigurationError, UsageError


@dataclass(frozen=True, slots=True)
class Variable:
    """What a setting is called: in a context file, and in the environment (first one set wins).

    ``check`` reads the value and raises ``UsageError`` for one that is none; it is there for
    settings that refer to secrets, so that a secret pasted in place of its name goes no further.
    """

    name: str
    environment: tuple[str, ...]
    default: str | None = None
    help: str = ""
    check: Callable[[str], object] | None = None

    def checked(self, value: str, origin: str) -> str:
        """Return the value, if it is a possible one.

        Raises:
            ConfigurationError: It is not; the message says where it is, and does not quote it.
        """
        if self.check is not None:
            try:
                self.check(value)
            except UsageError as error:
                msg = f"{self.name} ({origin}) is not usable: {error.message}"
                details = {"setting": self.name, "origin": origin}
                raise ConfigurationError(msg, hint=error.hint, **details) from None
        return value


def _reference(text: str) -> None:
    from spanctl.references import parse_reference  # --help shall not pay for it

    parse_reference(text)


def _reader(text: str) -> None:
    from spanctl.references import parse_reader

    parse_reader(text)


def _signers(text: str) -> None:
    from spanctl.references import parse_signers

    parse_signers(text)


def _kept(text: str) -> None:
    from spanctl.references import parse_kept

    parse_kept(text)


def _domain(text: str) -> None:
    if not _DOMAIN.fullmatch(text):
        msg = f"{text!r} is no domain"
        raise UsageError(msg, hint="write it as googleapis.com is written")


UNIVERSE = "googleapis.com"
"""Domain of Google's public cloud."""
_DOMAIN = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")

VARIABLES: tuple[Variable, ...] = (
    Variable("project", ("SPANCTL_PROJECT",), help="Google Cloud project"),
    Variable("instance", ("SPANCTL_INSTANCE",), help="Spanner instance"),
    Variable("database", ("SPANCTL_DATABASE",), help="Spanner database"),
    Variable(
        "emulator_host",
        ("SPANNER_EMULATOR_HOST",),
        help="host:port of a Spanner emulator; unset for the real service",
    ),
    Variable(
        "universe_domain",
        ("SPANCTL_UNIVERSE_DOMAIN", "GOOGLE_CLOUD_UNIVERSE_DOMAIN"),
        default=UNIVERSE,
        help="domain of the cloud; endpoints and credentials that aren't set belong to it",
        check=_domain,
    ),
    Variable(
        "spanner_endpoint",
        ("SPANCTL_SPANNER_ENDPOINT",),
        default=f"spanner.{UNIVERSE}",
        help="API endpoint of Spanner",
    ),
    Variable(
        "secretmanager_endpoint",
        ("SPANCTL_SECRETMANAGER_ENDPOINT",),
        default=f"secretmanager.{UNIVERSE}",
        help="API endpoint of Secret Manager",
    ),
    Variable(
        "iam_endpoint",
        ("SPANCTL_IAM_ENDPOINT",),
        default=f"https://iamcredentials.{UNIVERSE}",
        help="URL of IAM's APIs",
    ),
    Variable(
        "ca_file",
        ("SPANCTL_CA_FILE",),
        help="PEM file of the roots that servers are verified with; the system's when unset",
    ),
    Variable(
        "adc_file",
        ("SPANCTL_ADC_FILE",),
        help="file of the application default credentials; Google's usual places when unset",
    ),
    Variable(
        "credentials",
        ("SPANCTL_CREDENTIALS",),
        default="adc",
        help="reference to the credentials that Spanner is reached with",
        check=_reference,
    ),
    Variable(
        "secret_reader",
        ("SPANCTL_SECRET_READER",),
        default="adc",
        help="reference to the credentials that secrets are read with",
        check=_reader,
    ),
    Variable(
        "sign_as",
        # No variable: a flow run's job variables are environment, and anybody's who has Prefect's
        # API; whose word is taken is not for them to say.
        (),
        help="accounts whose signature says who asked: ACCOUNT or ACCOUNT=PERSON, comma-separated",
        check=_signers,
    ),
    Variable("prefect_api_url", ("PREFECT_API_URL",), help="Prefect API"),
    Variable(
        "prefect_api_key",
        ("SPANCTL_PREFECT_API_KEY",),
        help="reference to the secret, or file:/PATH, that holds Prefect's API key",
        check=_kept,
    ),
    Variable(
        "prefect_auth_string",
        ("SPANCTL_PREFECT_AUTH_STRING",),
        help="reference to the secret, or file:/PATH, that holds Prefect's auth string",
        check=_kept,
    ),
    Variable(
        "prefect_headers",
        ("SPANCTL_PREFECT_HEADERS",),
        help="reference to the secret, or file:/PATH, with headers for Prefect's API as JSON",
        check=_kept,
    ),
    Variable(
        "repeat_window",
        ("SPANCTL_REPEAT_WINDOW",),
        default="24h",
        help="how far run sql looks back for the same SQL that was cut off; 0s: not at all",
        check=parse_since,
    ),
    Variable(
        "heartbeat_interval",
        ("SPANCTL_HEARTBEAT_INTERVAL",),
        default="15s",
        help="how often a process that writes says that it is alive",
        check=parse_duration,
    ),
    Variable(
        "presumed_dead_after",
        ("SPANCTL_PRESUMED_DEAD_AFTER",),
        default="60s",
        help="how long one that can't be looked at may be silent before it counts as dead",
        check=parse_duration,
    ),
    Variable(
        "recover_every",
        ("SPANCTL_RECOVER_EVERY",),
        default="60s",
        help="how often local up has workers recover runs that died; 0s: not at all",
        check=parse_interval,
    ),
    Variable("work_pool", ("SPANCTL_WORK_POOL",), help="Prefect work pool for deployments"),
)
"""Every setting of a context, in the order in which it is shown."""

CONTEXT_VARIABLE = "SPANCTL_CONTEXT"
LOCAL = "local"
