"""What a server said before it let us in, and how far the login had come."""

from collections.abc import Sequence
from typing import Any

import asyncssh

_LISTS = ("key exchange", "host key", "encryption", "encryption")
"""The first lists in a KEXINIT, in their order (RFC 4253 section 7.1); those after follow from them."""


class Watcher(asyncssh.SSHClient):
    """Offers the keys of one login, and listens. ``begun``: the server's key is accepted, ours is next."""

    def __init__(self, keys: Sequence[object]) -> None:
        self.begun = False
        self.said = ""
        self._keys: Sequence[object] | None = keys
        self._connection: asyncssh.SSHClientConnection | None = None

    def public_key_auth_requested(self) -> Any:
        """Offer the keys, once."""
        self.begun = True
        offered, self._keys = self._keys, None
        return offered

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Remember the connection."""
        self._connection = conn

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Keep the last 2,000 characters of what is said at the login: banners, and PAM's messages."""
        del lang
        self.said = f"{self.said}\n{msg}"[-2000:]

    def takes(self, key: asyncssh.SSHKey) -> str:
        """Name the kinds of signature that the server takes, if it told them and ours is not among them."""
        algorithms: set[bytes] = getattr(self._connection, "_server_sig_algs", set()) - {b""}
        if not algorithms or algorithms & set(key.sig_algorithms):
            return ""
        return ", ".join(sorted(each.decode("ascii", "replace") for each in algorithms))

    def lacks_curve25519(self) -> bool:
        """Return whether the server said what it offers and none of it is Curve25519: mostly FIPS mode."""
        lists = _lists(getattr(self._connection, "_server_kexinit", b""))
        return bool(lists) and not any(each.startswith("curve25519") for each in lists[0])

    def no_common(self) -> tuple[str, str] | None:
        """Name the kind of algorithm that the two sides have none of in common, and what the server offers.

        OpenSSH hangs up without a word in that case, often before the library has said so itself.
        """
        ours = _lists(getattr(self._connection, "_client_kexinit", b""))
        theirs = _lists(getattr(self._connection, "_server_kexinit", b""))
        for kind, mine, offered in zip(_LISTS, ours, theirs, strict=False):
            if not set(mine) & set(offered):
                return kind, ", ".join(offered)
        return None


def _lists(kexinit: bytes) -> list[list[str]]:
    """Read the name-lists of a KEXINIT message: type and cookie (17 bytes), then lists with their lengths."""
    found, at = list[list[str]](), 17
    while at + 4 <= len(kexinit) and len(found) < len(_LISTS):
        length = int.from_bytes(kexinit[at : at + 4])
        found.append(kexinit[at + 4 : at + 4 + length].decode("ascii", "replace").split(","))
        at += 4 + length
    return found
