"""One trail for one transaction or one run: ledger, change stream and orchestrator, joined."""
