"""Who acts on a database: what the issuer of the tokens proves, and what is only claimed."""

from dataclasses import replace
from typing import TYPE_CHECKING

from spanctl import invocation, references
from spanctl.credentials.issuer import Issuer, asker
from spanctl.ledger.receipt import Provenance, Standing

if TYPE_CHECKING:
    from spanctl.credentials.identity import Principal
    from spanctl.spanner.rpc import Rpc, Target


class Actors:
    """Puts into provenances who asks and who writes; thread-safe.

    The issuer is asked once for each token, so nearly every transaction costs no request more.
    """

    def __init__(self, rpc: "Rpc", target: "Target") -> None:
        """Ask nothing yet."""
        credentials = rpc.credentials
        self.issuer = None if credentials is None else Issuer(credentials, target.identity)

    def acting(self) -> "Principal | None":
        """Return whose the live token is; None for an emulator that wants none.

        Raises:
            SpanctlError: There is no live token.
        """
        return None if self.issuer is None else self.issuer.principal()

    def asked(self, provenance: Provenance) -> Provenance:
        """Add who asks in this process: the principal at the base of the token's chain.

        What was said of it before (by ``using``, a label, the user's name) is kept as a claim.

        Raises:
            SpanctlError: There is no live token.
        """
        claim = provenance.initiator or invocation.user_at_host()
        name: str | None = None
        standing = Standing.CLAIMED
        if (principal := self.acting()) is not None:
            name, standing = asker(principal)
        return replace(
            provenance, initiator=name or claim, initiator_standing=standing, initiator_claim=claim
        )

    def written(self, provenance: Provenance) -> Provenance:
        """Add whose token writes, and who stands behind it.

        Raises:
            SpanctlError: There is no live token.
        """
        claim = provenance.executor or invocation.executor()
        if (principal := self.acting()) is None:
            return replace(provenance, executor=claim, executor_claim=claim)
        return replace(
            provenance,
            executor=principal.name,
            executor_standing=principal.standing,
            executor_chain=principal.chain,
            executor_chain_standing=principal.chain_standing,
            executor_claim=claim,
        )


def signers(target: "Target") -> tuple[references.Signer, ...]:
    """Return the service accounts whose word is taken for who asked; none for an emulator's."""
    return () if target.emulator_host else references.signers(target.credentials, target.sign_as)
