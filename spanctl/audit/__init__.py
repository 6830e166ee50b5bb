"""The trail: what the ledger, the change stream and Prefect say of one ID, joined."""
