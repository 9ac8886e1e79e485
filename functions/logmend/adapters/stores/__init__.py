"""The stores that a ledger can live in: Firestore, SQLite, memory."""
