"""Real systemd machines: a Debian system that is booted in its own namespaces and then removed completely.

``roots`` builds the systems, ``disk`` makes the files in which a machine differs, ``slots`` hands out names,
addresses and control groups, ``hardware`` and ``launch.sh`` set a machine up and remove it, ``metadata`` is
its metadata server, inside its network namespace. ``throwaway`` is one machine for one command; the tests'
lab makes its own from the same parts.
"""
