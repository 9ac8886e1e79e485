"""``logmend serve``: the function on this machine."""

import os
import sys
from pathlib import Path

import click

from logmend.settings import Settings


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def command(port: int, host: str) -> None:
    """Serve the function locally, exactly as it is deployed, with the LOGMEND_* settings of this shell.

    Push to it what Pub/Sub would: curl localhost:8080 -d @push.json
    """
    settings = Settings.from_environment(os.environ)  # a bad one is told here, not from a worker
    source = Path(__file__).parents[2] / "functions" / "main.py"
    click.echo(f"serving on http://{host}:{port}/ in {settings.mode} mode; Ctrl-C ends it", err=True)
    os.execv(  # noqa: S606  no shell is meant: this process becomes the server
        sys.executable,
        [
            sys.executable,
            "-m",
            "functions_framework",
            "--target=remediate",
            f"--source={source}",
            f"--host={host}",
            f"--port={port}",
        ],
    )
