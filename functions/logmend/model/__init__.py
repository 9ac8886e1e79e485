"""The values that travel between the stages and that the ledger keeps, and the words they share."""
