"""Stores for the ledger: Firestore, SQLite and memory."""
