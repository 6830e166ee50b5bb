"""Credential references, for those who work with credentials: see :mod:`spanctl.references`."""

from spanctl.references import (
    CURRENT,
    ChainReference,
    CredentialReference,
    DefaultReference,
    ImpersonationReference,
    SecretName,
    SecretReference,
    SingleReference,
    parse_reference,
)

__all__ = [
    "CURRENT",
    "ChainReference",
    "CredentialReference",
    "DefaultReference",
    "ImpersonationReference",
    "SecretName",
    "SecretReference",
    "SingleReference",
    "parse_reference",
]
