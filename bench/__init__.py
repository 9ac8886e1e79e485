"""Measures logmend against named alternatives, in pairs, on the machine at hand: ``python -m bench``.

docs/performance.md says how, and keeps the last full run. Nothing here is a test, and nothing ships.
"""
