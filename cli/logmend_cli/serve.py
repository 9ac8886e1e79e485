"""``logmend serve``: the function on this machine."""

import os
import socket
from pathlib import Path

import click

from logmend.errors import ConfigError
from logmend.settings import Settings
from logmend_cli.documented import Command
from logmend_cli.errors import warn

HEALTH = "/health"
"""Answers 200 as long as the process serves. (Cloud Run keeps paths that end in z for itself.)"""


@click.command(cls=Command)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    envvar="PORT",
    show_envvar=True,
    help="Port to listen on; Cloud Run sets PORT.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def command(port: int, host: str) -> None:
    """Serve the function on this machine, in one process, with the LOGMEND_* settings of this shell.

    Push to it what Pub/Sub would: curl localhost:8080 -d @push.json. GET /health answers while it serves.
    """
    settings = Settings.from_environment(os.environ)  # an invalid setting is reported here, once
    try:
        listening = socket.create_server((host, port), family=socket.getaddrinfo(host, port)[0][0])
    except OSError as error:
        raise ConfigError([f"{host}:{port}: {error.strerror or error}"]) from error
    import uvicorn
    from functions_framework.aio import create_asgi_app
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    import logmend

    source = str(Path(logmend.__file__).with_name("function.py"))
    function = create_asgi_app("remediate", source)  # type: ignore[no-untyped-call]
    function.router.routes.insert(0, Route(HEALTH, lambda _: PlainTextResponse("serving")))
    warn(f"serving on http://{host}:{port}/ in {settings.mode} mode; Ctrl-C ends it")
    with listening:
        uvicorn.Server(uvicorn.Config(function, log_level="error")).run(sockets=[listening])
