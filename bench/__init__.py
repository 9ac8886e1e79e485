"""Compare logmend with named alternatives, in pairs, on this machine: ``python -m bench``.

docs/performance.md explains the method and has the last full run. These are not tests, and they do not ship.
"""
