"""Prefect blocks: a database, and a reference to its credentials. They hold no secret."""

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, model_validator

from spanctl import settings
from spanctl.references import parse_reference
from spanctl.resources import DatabaseName

if TYPE_CHECKING:
    from spanctl.spanner.rpc import Target

_DOCUMENTATION = "https://cloud.google.com/spanner/docs"
_LOGO = "https://cloud.google.com/static/spanner/images/spanner-icon.png"


class SpannerCredentials(Block):
    """Where the credentials of a database are kept: a reference, never the material itself.

    Attributes:
        project: Project of the secret.
        secret: Name of the Secret Manager secret that holds the credential document.
        alias: Alias of the version to use.
        impersonate: Service account to act as, in place of or on top of the secret.
    """

    _block_type_name = "Spanner Credentials"
    _block_type_slug = "spanner-credentials"
    _logo_url = _LOGO  # type: ignore[assignment]
    _documentation_url = _DOCUMENTATION  # type: ignore[assignment]
    _description = "A reference to credentials for Google Cloud Spanner in Secret Manager."

    model_config = ConfigDict(hide_input_in_errors=True)

    project: str | None = Field(default=None, description="Project of the secret.")
    secret: str | None = Field(
        default=None, description="Secret Manager secret that holds the credential document."
    )
    alias: str = Field(default="current", description="Alias of the secret's version to use.")
    impersonate: str | None = Field(
        default=None, description="E-mail of the service account to act as."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_reference(self.reference)
        return self

    @property
    def reference(self) -> str:
        """The reference's text, as in a context's ``credentials``."""
        secret = f"secret:projects/{self.project}/secrets/{self.secret}@{self.alias}"
        match bool(self.secret), self.impersonate:
            case True, None | "":
                return secret
            case False, None | "":
                return "adc"
            case True, email:
                return f"impersonate:{email}@from:{secret}"
            case _, email:
                return f"impersonate:{email}"


class SpannerDatabase(Block):
    """A Spanner database and how it is reached.

    Attributes:
        project: Google Cloud project.
        instance: Spanner instance.
        database: Spanner database.
        emulator_host: ``host:port`` of an emulator; None for the real service.
        endpoint: API endpoint of the real service.
        credentials: Where its credentials are. When left out: those of the context in use if it
            has the same endpoint, else application default ones.
    """

    _block_type_name = "Spanner Database"
    _block_type_slug = "spanner-database"
    _logo_url = _LOGO  # type: ignore[assignment]
    _documentation_url = _DOCUMENTATION  # type: ignore[assignment]
    _description = "A Google Cloud Spanner database to run transactions on."

    project: str = Field(description="Google Cloud project.")
    instance: str = Field(description="Spanner instance.")
    database: str = Field(description="Spanner database.")
    emulator_host: str | None = Field(
        default=None, description="host:port of a Spanner emulator; empty for the real service."
    )
    endpoint: str = Field(
        default="spanner.googleapis.com", description="API endpoint of the real service."
    )
    credentials: SpannerCredentials | None = Field(
        default=None, description="Where its credentials are kept."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        DatabaseName(self.project, self.instance, self.database)
        return self

    def target(self) -> "Target":
        """Return the target that steps and commands work on.

        The identity services are Google's, unless the context in use has the block's endpoint and
        so names those that go with it.

        Raises:
            ConfigurationError: The context in use can't be read.
        """
        from spanctl.spanner.rpc import Target

        made = Target(
            database=DatabaseName(self.project, self.instance, self.database),
            emulator_host=self.emulator_host,
            endpoint=self.endpoint,
        )
        if self.emulator_host:
            return made
        context = settings.resolve()
        if context.get("spanner_endpoint") == self.endpoint:
            beside = Target.from_settings(context, made.database)
            made = made if beside.emulator_host else beside
        if self.credentials is None:
            return made
        return replace(made, credentials=self.credentials.reference)
