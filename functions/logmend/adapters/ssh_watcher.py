"""What a server said before it let us in, and how far the login had come."""

import asyncssh


class Watcher(asyncssh.SSHClient):
    """Listens to one connection."""

    def __init__(self) -> None:
        self.said = ""
        self._connection: asyncssh.SSHClientConnection | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Remember the connection."""
        self._connection = conn

    def auth_banner_received(self, msg: str, lang: str) -> None:
        """Keep the last 2,000 characters of what is said at the login: banners, and PAM's messages."""
        del lang
        self.said = f"{self.said}\n{msg}"[-2000:]

    @property
    def begun(self) -> bool:
        """Whether the server's key was accepted and our own was being asked for."""
        # asyncssh has no public name for it; without it the story is that nothing let us in.
        return bool(self.said or getattr(self._connection, "_auth", None))

    def takes(self, key: asyncssh.SSHKey) -> str:
        """Name the kinds of signature that the server takes, if it told them and ours is not among them."""
        told: set[bytes] = getattr(self._connection, "_server_sig_algs", set()) - {b""}
        if not told or told & set(key.sig_algorithms):
            return ""
        return ", ".join(sorted(each.decode("ascii", "replace") for each in told))
