"""Client for IAP TCP forwarding (relay protocol v4): a TCP stream to a VM without a network path to it.

The package uses nothing of logmend except its two error types, and can be used elsewhere::

    async def token() -> str: ...           # an OAuth 2.0 access token, scope cloud-platform

    target = IapTarget("my-project", "us-west1-a", "my-vm")
    async with IapTunnel(target, token) as tunnel:
        async with asyncssh.connect("my-vm", tunnel=tunnel, ...) as connection:
            ...

    transport, protocol = await tunnel.create_connection(MyAsyncioProtocol, "", 0)     # or any other protocol

The modules, from the wire up:

* :mod:`.frames`: the protocol's messages, bytes to values and back. Pure.
* :mod:`.session`: one connection's state: which message may come when, byte counts, acknowledgements. Pure.
* :mod:`.closing`: what each close code, HTTP status and exception means. Pure.
* :mod:`.transport`: an ``asyncio.Transport`` over a WebSocket. Two tasks per connection, both always ended.
* :mod:`.tunnel`: connects, and hands out transports.

The protocol has no published specification. It was read from Google's own client as installed with Google
Cloud SDK 528.0.0 (``googlecloudsdk/api_lib/compute/iap_tunnel_websocket*.py``); the names of the close codes
are those of IAP Desktop (``Google.Solutions.Iap``). Reconnecting to a session by its SID is not implemented:
a command over SSH takes seconds, and the caller tries again from the start.

Guarantees:

* Every error is :class:`~logmend.errors.Transient` or :class:`~logmend.errors.Permanent`, whether it is
  raised by ``create_connection`` or passed to ``connection_lost``. asyncssh raises that same object from a
  pending ``asyncssh.connect`` and from reading a process's streams. But its ``run``, ``wait`` and
  ``communicate`` *return* with ``exit_status`` None, and later calls raise a plain ChannelOpenError. In that
  case see :attr:`IapTunnel.error`, which keeps the error that ended the last connection.
* ``create_connection`` ends within ``connect_timeout`` seconds; ``close`` and ``abort`` end everything within
  ``2 * close_timeout``, even if the other side has stopped reading or answering. In between there is no
  time limit: the caller's deadline has to cancel or abort a silent connection.
* Memory is bounded: messages of 16 KiB, four of them queued; reading stops while the protocol has paused it.
  When sending, ``pause_writing`` is called above 128 KiB (asyncssh ignores it, but never writes more than
  the window that the SSH server granted).
* The environment's proxy is not used, redirects are not followed, nothing is compressed, and the access token
  and the data are never logged, not even at DEBUG.
"""

from logmend.adapters.ssh.iap.tunnel import DEFAULT_URL, IapTarget, IapTunnel

__all__ = ["DEFAULT_URL", "IapTarget", "IapTunnel"]
