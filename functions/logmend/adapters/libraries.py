"""A lock for importing heavy libraries, which happens when an event first needs them, sometimes in a thread.

Two threads that import one package from different places (cryptography from asyncssh and from google-auth,
for example) can deadlock on each other's modules; Python detects that and fails one of the imports.
``with ALONE:`` around an import makes the second thread wait. A test checks that every adapter uses it.
"""

import threading

ALONE = threading.RLock()
