"""The metadata server of one machine, at its well-known address inside that machine's network namespace."""

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADDRESS = ("169.254.169.254", 80)
_CLONE_NEWNET = 0x40000000


class MetadataServer:
    """Answers one machine, as Google's server answers a VM."""

    def __init__(self, pid: int, attributes: dict[str, str]) -> None:
        """Listen in the network namespace of process ``pid``; ``attributes`` maps paths to values."""
        self.attributes = attributes
        self.statuses: dict[str, int] = {}
        self.guest_attributes: dict[str, str] = {}
        """What the machine published, as the Compute API shows it: NAMESPACE/KEY to value."""
        self.requests: list[str] = []
        self.ahead = 0.0
        """Seconds by which its ``Date`` is ahead of the machine's clock, which is the host's."""
        self._server = _Server(ADDRESS, _handler(self), bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = _listener(pid)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self._thread.start()

    def answer(self, path: str) -> tuple[int, str] | None:
        """Return status and body for ``path`` below ``computeMetadata/v1/``; None means never to answer."""
        self.requests.append(path)
        if path in self.statuses:
            return self.statuses[path], "the server has trouble of its own"
        if path in self.attributes:
            return 200, self.attributes[path]
        return 404, "<!DOCTYPE html>\n<html lang=en>\n<title>Error 404 (Not Found)!!1</title>\n</html>\n"

    def close(self) -> None:
        """Stop listening and release the namespace."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: it is no error if a client goes away."""


def _handler(metadata: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            prefix = "/computeMetadata/v1/"
            if not self.path.startswith(prefix):
                self._send(404, "not found")
            elif self.headers["Metadata-Flavor"] != "Google":
                self._send(403, "Missing Metadata-Flavor:Google header.")
            elif (answer := metadata.answer(self.path.removeprefix(prefix).partition("?")[0])) is not None:
                self._send(*answer)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + metadata.ahead)

        def do_PUT(self) -> None:
            # cloud.google.com/compute/docs/metadata/manage-guest-attributes: NAMESPACE/KEY, no deeper.
            _, found, path = self.path.partition("/computeMetadata/v1/instance/guest-attributes/")
            value = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
            if self.headers["Metadata-Flavor"] != "Google":
                self._send(403, "Missing Metadata-Flavor:Google header.")
            elif not found or path.count("/") != 1:
                self._send(404, "not found")
            else:
                metadata.guest_attributes[path] = value
                self._send(200, "")

        def _send(self, status: int, body: str) -> None:
            content = body.encode()
            self.send_response(HTTPStatus(status))
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Type", "text/html" if body.startswith("<") else "application/text")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Print nothing: ``MetadataServer.requests`` records the requests."""

    return Handler


def _listener(pid: int) -> socket.socket:
    """Return a listening socket in the network namespace of ``pid``, which stays open after ``pid`` ends."""
    return _in_namespace(pid, lambda: socket.create_server(ADDRESS, backlog=64))


def _in_namespace(pid: int, make: Callable[[], socket.socket]) -> socket.socket:
    """Call ``make`` on a new thread that enters the namespace: only that thread moves there."""
    made: list[socket.socket | OSError] = []

    def enter() -> None:
        namespace = os.open(Path(f"/proc/{pid}/ns/net"), os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                made.append(OSError(number, os.strerror(number)))
            else:
                made.append(make())
        except OSError as error:
            made.append(error)
        finally:
            os.close(namespace)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]
