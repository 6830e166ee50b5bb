"""Prefect blocks: a database, and a reference to its credentials. They hold no secret."""

from typing import TYPE_CHECKING, Self

from prefect.blocks.core import Block
from pydantic import Field, model_validator

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

    project: str | None = Field(default=None, description="Project of the secret.")
    secret: str | None = Field(
        default=None, description="Secret Manager secret that holds the credential document."
    )
    alias: str = Field(default="current", description="Alias of the secret's version to use.")
    impersonate: str | None = Field(
        default=None, description="E-mail of the service account to act as."
    )


class SpannerDatabase(Block):
    """A Spanner database and how it is reached.

    Attributes:
        project: Google Cloud project.
        instance: Spanner instance.
        database: Spanner database.
        emulator_host: ``host:port`` of an emulator; None for the real service.
        endpoint: API endpoint of the real service.
        credentials: Where its credentials are; application default ones when left out.
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
        """Return the target that steps and commands work on."""
        from spanctl.spanner.rpc import Target

        return Target(
            database=DatabaseName(self.project, self.instance, self.database),
            emulator_host=self.emulator_host,
            endpoint=self.endpoint,
        )
