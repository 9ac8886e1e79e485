"""Real systemd machines: a Debian system booted in namespaces of its own, and taken away with all of it.

``roots`` builds the systems, ``disk`` says in which files a machine differs, ``slots`` hands out names,
addresses and control groups, ``hardware`` and ``launch.sh`` set a machine up and take it away, ``metadata``
is its metadata server, inside its network namespace. ``throwaway`` is one machine for one command; the tests'
lab makes its own from the same parts.
"""
