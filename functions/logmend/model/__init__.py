"""The values that stages pass on and the ledger keeps, and the terms that they share."""
