"""What the commands of ``spanctl txn`` share."""
