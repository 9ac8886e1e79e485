"""Emulators that the contract suites run against."""

from tests.emulators import firestore_emulator, pubsub_emulator

__all__ = ["firestore_emulator", "pubsub_emulator"]
