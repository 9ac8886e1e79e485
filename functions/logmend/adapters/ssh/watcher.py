"""Record what a server says during a login, and how far the login has come."""

from collections.abc import Sequence
from typing import Any

import asyncssh

_LISTS = ("key exchange", "host key", "encryption", "encryption")
"""The first lists in a KEXINIT, in order (RFC 4253 section 7.1); the later ones follow from them."""


class Watcher(asyncssh.SSHClient):
    """Offers the keys of one login and listens. ``begun``: the server's key is accepted, ours is next."""

    def __init__(self, keys: Sequence[object]) -> None:
        self.begun = False
        self.said = ""
        self._keys: Sequence[object] | None = keys
        self._connection: asyncssh.SSHClientConnection | None = None

    def public_key_auth_requested(self) -> Any:
        """Return the keys, once."""
        self.begun = True
        offered, self._keys = self._keys, None
        return offered

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Remember the connection."""
        self._connection = conn

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Keep the last 2,000 characters of banners and PAM's messages."""
        del lang
        self.said = f"{self.said}\n{msg}"[-2000:]

    def takes(self, key: asyncssh.SSHKey) -> str:
        """Return the signature types that the server accepts, if it listed them without ours."""
        algorithms: set[bytes] = getattr(self._connection, "_server_sig_algs", set()) - {b""}
        if not algorithms or algorithms & set(key.sig_algorithms):
            return ""
        return ", ".join(sorted(each.decode("ascii", "replace") for each in algorithms))

    def lacks_curve25519(self) -> bool:
        """Return whether the server listed its algorithms without Curve25519, mostly a sign of FIPS mode."""
        lists = _lists(getattr(self._connection, "_server_kexinit", b""))
        return bool(lists) and not any(each.startswith("curve25519") for each in lists[0])

    def no_common(self) -> tuple[str, str] | None:
        """Return the first kind of algorithm that the two sides do not share, and the server's offer.

        OpenSSH hangs up without a message then, often before asyncssh has reported the cause itself.
        """
        ours = _lists(getattr(self._connection, "_client_kexinit", b""))
        theirs = _lists(getattr(self._connection, "_server_kexinit", b""))
        for kind, mine, offered in zip(_LISTS, ours, theirs, strict=False):
            if not set(mine) & set(offered):
                return kind, ", ".join(offered)
        return None


def _lists(kexinit: bytes) -> list[list[str]]:
    """Return the name-lists of a KEXINIT message: 17 bytes of type and cookie, then lists with lengths."""
    found, at = list[list[str]](), 17
    while at + 4 <= len(kexinit) and len(found) < len(_LISTS):
        length = int.from_bytes(kexinit[at : at + 4])
        found.append(kexinit[at + 4 : at + 4 + length].decode("ascii", "replace").split(","))
        at += 4 + length
    return found
