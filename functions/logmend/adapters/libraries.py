"""Heavy libraries are imported when an event first needs them, some in threads, and never two at a time.

Two threads that import one package by different ways (cryptography by asyncssh and by google-auth, say) hold
each other's modules up; Python notices and breaks one of the imports off with an error. ``with ALONE:``
around an import has whoever comes second wait; a test holds every adapter to it.
"""

import threading

ALONE = threading.RLock()
