"""Where a context's credentials come from, as text: names only, never material.

Grammar::

    reference   = single | "chain:" single ("," single)+
    single      = "adc"
                | "secret:projects/P" ["/locations/L"] "/secrets/S" ["@" (alias | number)]
                | "impersonate:" email ["@via:" email ("+" email)*] ["@from:" single]

``adc`` is Google's application default credentials: a user, a workload identity, a metadata
server. ``secret:`` names a Secret Manager secret that holds a credential document, at the alias
``current`` unless another one, or a version's number, is given; a number is taken for good, so
such a run should pin its version. ``/versions/7``, as Google's console copies it, means ``@7``. A
regional secret names its location. ``impersonate:`` acts as a service account; ``@via:`` lists the
delegates in between, nearest to the caller first, and ``@from:`` says which credentials ask
(``adc`` if left out; it comes last). ``chain:`` takes the first that resolves.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeAlias

from spanctl.errors import UsageError

CURRENT: Final = "current"
_SECRET = re.compile(
    r"projects/(?P<project>[a-z0-9][a-z0-9.:-]{0,61}[a-z0-9])"
    r"(?:/locations/(?P<location>[a-z][a-z0-9-]{1,62}))?"
    r"/secrets/(?P<secret>[A-Za-z0-9_-]{1,255})"
)
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]")
_HINT: Final = (
    "write adc, secret:projects/P/secrets/S[@ALIAS], impersonate:EMAIL[@via:EMAIL][@from:REFERENCE]"
    " or chain:REFERENCE,REFERENCE; a regional secret is projects/P/locations/L/secrets/S"
)


@dataclass(frozen=True, slots=True)
class SecretName:
    """A Secret Manager secret: ``projects/P/secrets/S``.

    Attributes:
        project: Id or number of its project.
        secret: Its id.
        location: The region that it is kept in; None where Secret Manager replicates it.
    """

    project: str
    secret: str
    location: str | None = None

    def __post_init__(self) -> None:
        """Refuse what Secret Manager would refuse.

        Raises:
            UsageError: A part is no valid id.
        """
        if not _SECRET.fullmatch(str(self)):
            msg = f"{self!s} is no name of a secret"
            raise UsageError(msg, hint="write projects/P/secrets/S")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a full resource name.

        Raises:
            UsageError: The text is not of the form ``projects/P/secrets/S``.
        """
        match = _SECRET.fullmatch(text)
        if match is None:
            msg = f"{text!r} is no name of a secret"
            raise UsageError(msg, hint="write projects/P/secrets/S")
        return cls(**match.groupdict())

    def version(self, version: int | str) -> str:
        """Return the full name of a version, by number or alias."""
        return f"{self}/versions/{version}"

    def __str__(self) -> str:
        """Return the full resource name."""
        return f"{self.parent}/secrets/{self.secret}"

    @property
    def parent(self) -> str:
        """What it is in: its project, or the project's location."""
        place = f"/locations/{self.location}" if self.location else ""
        return f"projects/{self.project}{place}"


@dataclass(frozen=True, slots=True)
class DefaultReference:
    """Application default credentials."""

    def __str__(self) -> str:
        """Return the text that reads back as this."""
        return "adc"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A credential document in a secret.

    Attributes:
        name: The secret.
        version: An alias, or a version's number in digits.
    """

    name: SecretName
    version: str = CURRENT

    @property
    def number(self) -> int | None:
        """The version's number, None when it is named by an alias."""
        return int(self.version) if self.version.isdecimal() else None

    def __str__(self) -> str:
        """Return the text that reads back as this."""
        return f"secret:{self.name}" + ("" if self.version == CURRENT else f"@{self.version}")


@dataclass(frozen=True, slots=True)
class FileReference:
    """What a file holds.

    Attributes:
        path: Its whole path.
    """

    path: Path

    def __str__(self) -> str:
        """Return the text that reads back as this."""
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class ImpersonationReference:
    """A service account that other credentials may act as.

    Attributes:
        target: E-mail of the service account.
        delegates: E-mails in between, nearest to the caller first.
        base: The credentials that ask.
    """

    target: str
    delegates: tuple[str, ...] = ()
    base: "SingleReference" = DefaultReference()

    def __str__(self) -> str:
        """Return the text that reads back as this."""
        via = f"@via:{'+'.join(self.delegates)}" if self.delegates else ""
        base = "" if isinstance(self.base, DefaultReference) else f"@from:{self.base}"
        return f"impersonate:{self.target}{via}{base}"


SingleReference: TypeAlias = DefaultReference | SecretReference | ImpersonationReference


@dataclass(frozen=True, slots=True)
class ChainReference:
    """Several references, of which the first that resolves is taken."""

    members: tuple[SingleReference, ...]

    def __str__(self) -> str:
        """Return the text that reads back as this."""
        return f"chain:{','.join(str(member) for member in self.members)}"


CredentialReference: TypeAlias = SingleReference | ChainReference


def parse_reference(text: str) -> CredentialReference:
    """Read a credential reference.

    Raises:
        UsageError: The text follows no rule of the grammar.
    """
    kind, colon, rest = text.partition(":")
    if kind == "chain" and colon:
        members = tuple(_single(part, text) for part in rest.split(","))
        if len(members) == 1:
            raise _bad(text)
        return ChainReference(members)
    return _single(text, text)


def parse_reader(text: str) -> SingleReference:
    """Read the reference of what secrets are read with, which can't be in a secret itself.

    Raises:
        UsageError: The text follows no rule of the grammar, or names a secret or a chain.
    """
    parsed = parse_reference(text)
    base: CredentialReference = parsed
    while isinstance(base, ImpersonationReference):
        base = base.base
    if isinstance(parsed, ChainReference) or isinstance(base, SecretReference):
        msg = "what secrets are read with can't be in a secret itself, nor a chain"
        raise UsageError(msg, hint="read them with adc, or impersonate:EMAIL")
    return parsed


def parse_kept(text: str) -> SecretReference | FileReference:
    """Read the reference to what is wanted as it is kept, such as an API key.

    That is ``secret:projects/P/secrets/S[@ALIAS]``, or ``file:`` and the file's whole path.

    Raises:
        UsageError: The text is no such reference; it is not quoted.
    """
    kind, _, path = text.partition(":")
    if kind == "file" and Path(path).is_absolute():
        return FileReference(Path(path))
    parsed = None if kind == "file" else parse_reference(text)
    if not isinstance(parsed, SecretReference):
        msg = "the reference names no secret"
        hint = "write secret:projects/P/secrets/S[@ALIAS], or file:/PATH of a file that is yours"
        raise UsageError(msg, hint=hint)
    return parsed


@dataclass(frozen=True, slots=True)
class Signer:
    """A service account whose word is taken for who asked.

    Attributes:
        account: Its e-mail.
        person: The only one who may sign as it, and so the only one that it names; None where
            several may: then it vouches for whom it names.
    """

    account: str
    person: str | None = None


def parse_signers(text: str) -> tuple[Signer, ...]:
    """Read accounts that sign, separated by commas: ``ACCOUNT``, or ``ACCOUNT=PERSON``.

    Raises:
        UsageError: One is no e-mail, or an account is named twice.
    """
    found = []
    for part in text.split(","):
        account, equals, person = (one.strip() for one in part.partition("="))
        if not _EMAIL.fullmatch(account) or (equals and not _EMAIL.fullmatch(person)):
            msg = "the text names no service accounts"
            raise UsageError(msg, hint="write ACCOUNT, or ACCOUNT=PERSON, and commas between")
        found.append(Signer(account, person or None))
    if len({one.account for one in found}) < len(found):
        msg = "an account is named twice"
        raise UsageError(msg, hint="bind an account to one person, or to nobody")
    return tuple(found)


def is_kept(reference: str) -> bool:
    """Whether credentials come from a secret, where all who may read it find them.

    Raises:
        UsageError: The text follows no rule of the grammar.
    """
    found: CredentialReference = parse_reference(reference)
    while isinstance(found, ImpersonationReference):
        found = found.base
    return isinstance(found, SecretReference)


def signers(reference: str, sign_as: str | None) -> tuple[Signer, ...]:
    """Return the service accounts whose word is taken for who asked.

    They are those of the setting ``sign_as``; else the account that the credentials act as.

    Args:
        reference: Reference to the credentials.
        sign_as: The setting; None when it is unset.

    Raises:
        UsageError: A text is neither a reference nor names accounts.
    """
    if sign_as:
        return parse_signers(sign_as)
    found = parse_reference(reference)
    members = found.members if isinstance(found, ChainReference) else (found,)
    return tuple(Signer(one.target) for one in members if isinstance(one, ImpersonationReference))


def _single(part: str, whole: str) -> SingleReference:
    kind, colon, rest = part.partition(":")
    match kind, colon:
        case "adc", "":
            return DefaultReference()
        case "secret", ":":
            return _secret(rest, whole)
        case "impersonate", ":":
            return _impersonation(rest, whole)
        case _:
            raise _bad(whole)


def _secret(rest: str, whole: str) -> SecretReference:
    name, at, version = rest.partition("@")
    if not at:
        name, at, version = rest.partition("/versions/")
    if not _SECRET.fullmatch(name):
        raise _bad(whole)
    if not at:
        return SecretReference(SecretName.parse(name))
    # Neither of Secret Manager's answers to "latest" is consistent, and it may be a pending one.
    if version == "latest" or not (_ALIAS.fullmatch(version) or _NUMBER.fullmatch(version)):
        raise _bad(whole)
    return SecretReference(SecretName.parse(name), version)


def _impersonation(rest: str, whole: str) -> ImpersonationReference:
    rest, from_, base = rest.partition("@from:")
    target, via, delegates = rest.partition("@via:")
    emails = (target, *(delegates.split("+") if via else ()))
    if not all(_EMAIL.fullmatch(email) for email in emails):
        raise _bad(whole)
    if len(set(emails)) != len(emails):
        msg = f"{whole!r} names a service account twice"
        raise UsageError(msg, hint="list each delegate once, nearest to the caller first")
    origin = _single(base, whole) if from_ else DefaultReference()
    return ImpersonationReference(target, emails[1:], origin)


def _bad(text: str) -> UsageError:
    # What is no reference may well be a pasted secret, so it is not quoted.
    kinds = ("adc", "secret:", "impersonate:", "chain:")
    shown = f" that begins {kind!r}" if (kind := _beginning(text, kinds)) else ""
    return UsageError(f"the text{shown} is no credential reference", hint=_HINT)


def _beginning(text: str, kinds: tuple[str, ...]) -> str:
    return next((kind for kind in kinds if text.startswith(kind)), "")
