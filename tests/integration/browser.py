"""A page in headless Chromium, over the DevTools protocol: what it logs, asks for and looks like."""

import asyncio
import base64
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websockets

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


@dataclass
class Page:
    """One tab. `complaints` are console errors, warnings and exceptions; `requests` every URL asked for."""

    socket: Any
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)

    async def call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        await self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        return await asyncio.wait_for(future, 150)

    async def listen(self) -> None:
        async for text in self.socket:
            message = json.loads(text)
            if (number := message.get("id")) is not None:
                future = self._answers.pop(number)
                if "error" in message:
                    future.set_exception(RuntimeError(str(message["error"])))
                else:
                    future.set_result(message["result"])
                continue
            told = message.get("params", {})
            match message["method"]:
                case "Runtime.exceptionThrown":
                    self.complaints.append(json.dumps(told["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                    self.complaints.append(json.dumps(told["args"]))
                case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                    self.complaints.append(told["entry"]["text"])
                case "Network.requestWillBeSent":
                    self.requests.append(told["request"]["url"])

    async def look(self, *, width: int, height: int, dark: bool = False, mobile: bool = False) -> None:
        """Set the viewport and the colour scheme that the reader prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Open a page and wait until its own script is done."""
        await self.call("Page.navigate", url=url)
        for _ in range(1200):
            if await self.value("document.documentElement?.dataset.ready === 'true'"):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the page's script did not end: {self.complaints}")

    async def value(self, expression: str) -> Any:
        """Evaluate JavaScript, as DevTools' console does."""
        said = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def screenshot(
        self, width: int, height: int, scale: float = 1.0, *, form: str = "png", **options: int
    ) -> bytes:
        """Take a picture of the page's top left corner."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
        taken = await self.call("Page.captureScreenshot", format=form, clip=clip, **options)
        return base64.b64decode(taken["data"])


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Page]:
    """Run Chromium with a fresh profile in `folder`; gives one tab with everything watched."""
    profile = folder / "profile"
    process = await asyncio.create_subprocess_exec(
        "chromium",
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(150):
            port = profile / "DevToolsActivePort"
            while not port.exists() or port.read_text().count("\n") < 1:  # noqa: ASYNC110  a file to wait for
                await asyncio.sleep(0.05)
        number, path = port.read_text().split("\n")[:2]
        async with websockets.connect(
            f"ws://127.0.0.1:{number}{path}", max_size=None, compression=None, proxy=None
        ) as socket:
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            targets = (await page.call("Target.getTargets"))["targetInfos"]
            target = next(each["targetId"] for each in targets if each["type"] == "page")
            attached = await page.call("Target.attachToTarget", targetId=target, flatten=True)
            page.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                await page.call(f"{domain}.enable")
            yield page
            listening.cancel()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
