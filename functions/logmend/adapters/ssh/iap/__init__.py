"""Client for IAP TCP forwarding (relay protocol v4): a TCP stream to a VM without a network path to it.

The package knows nothing of the rest of logmend but its two error types, and can be used elsewhere::

    async def token() -> str: ...           # an OAuth 2.0 access token, scope cloud-platform

    target = IapTarget("my-project", "us-west1-a", "my-vm")
    async with IapTunnel(target, token) as tunnel:
        async with asyncssh.connect("my-vm", tunnel=tunnel, ...) as connection:
            ...

    transport, protocol = await tunnel.create_connection(MyAsyncioProtocol, "", 0)     # or any other protocol

Who does what, from the wire up:

* :mod:`.frames`: the messages of the protocol, bytes to values and back. Pure.
* :mod:`.session`: one connection's state: what may come when, byte counts, when to acknowledge. Pure.
* :mod:`.closing`: what each close code, HTTP status and exception means. Pure.
* :mod:`.transport`: an ``asyncio.Transport`` over a WebSocket. Two tasks a connection, both always ended.
* :mod:`.tunnel`: connects, and hands out transports.

The protocol has no published specification. It was read from Google's own client, as installed with Google
Cloud SDK 528.0.0 (``googlecloudsdk/api_lib/compute/iap_tunnel_websocket*.py``); the names of the close codes
are those of IAP Desktop (``Google.Solutions.Iap``). Reconnecting to a session by its SID is left out: a
command over SSH takes seconds, and the caller tries again from the start.

What it promises:

* Every error is :class:`~logmend.errors.Transient` or :class:`~logmend.errors.Permanent`, whether it is
  raised by ``create_connection`` or handed to ``connection_lost``. asyncssh raises that very object from a
  pending ``asyncssh.connect`` and from reading a process' streams. But its ``run``, ``wait`` and
  ``communicate`` *return*, with ``exit_status`` None, and later calls raise a plain ChannelOpenError: look
  at :attr:`IapTunnel.error` then, which keeps what ended the last connection.
* ``create_connection`` ends within ``connect_timeout`` seconds; ``close`` and ``abort`` end everything within
  ``2 * close_timeout``, even if the other side has stopped reading or answering. In between nothing is timed:
  silence is for the caller's deadline, which cancels or aborts.
* Memory is bounded: 16 KiB messages, four of them queued, reading stops while the protocol has paused it; the
  other way ``pause_writing`` is called above 128 KiB (asyncssh ignores it, but never writes more than the
  window that the SSH server granted).
* No proxy is taken from the environment, no redirect is followed, nothing is compressed, and the access token
  and the data are never logged, not even at DEBUG.
"""

from logmend.adapters.ssh.iap.tunnel import DEFAULT_URL, IapTarget, IapTunnel

__all__ = ["DEFAULT_URL", "IapTarget", "IapTunnel"]
