"""The report in a real browser: it draws, complains of nothing, and asks the network for nothing."""

import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import needs
from tests.integration.browser import Page, browsing
from tests.unit.cli.outcomes import START, outcome
from tests.unit.cli.test_report import HOSTILE

from logmend.model.enums import Result
from logmend.model.values import InstanceRef, Outcome
from logmend_cli.report import command


def story() -> Iterator[Outcome]:
    """Sixty VMs over a day, of every kind of end."""
    kinds = (
        (Result.REMEDIATED, None),
        (Result.REMEDIATED, None),
        (Result.PLANNED, None),
        (Result.REFUSED, "opted_in"),
        (Result.NOTHING_TO_DO, None),
        (Result.FAILED, "unreachable"),
        (Result.UNVERIFIED, "no_evidence"),
        (Result.SKIPPED, "cooling_down"),
    )
    for number in range(240):
        result, reason = kinds[number % 7 if number < 200 else 7]
        vm = number % 60
        yield outcome(
            number,
            result,
            reason,
            at=START + timedelta(minutes=6 * number),
            instance=InstanceRef("demo-project", f"us-west{1 + vm % 3}-{'abc'[vm % 3]}", str(9000 + vm)),
            instance_name=f"web-{vm}",
            detail=HOSTILE if vm == 5 else "",
        )


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """Open the report of the story."""
    needs(commands=("chromium",))
    command.write(story(), tmp_path / "report.html", "a test")
    async with browsing(tmp_path) as found:
        yield found


SIZES: dict[str, Any] = {
    "light": {"width": 1280, "height": 900, "dark": False, "mobile": False},
    "dark": {"width": 1280, "height": 900, "dark": True, "mobile": False},
    "phone": {"width": 390, "height": 844, "dark": False, "mobile": True},
}


async def test_it_draws_without_complaint_or_request(page: Page, tmp_path: Path) -> None:
    """Light, dark and on a phone: charts are there, no console error, no request but for the file itself."""
    told = []
    for name, size in SIZES.items():
        await page.look(**size)
        await page.open((tmp_path / "report.html").as_uri())
        drawn = "[...document.querySelectorAll('#{} i')].filter(i => i.offsetWidth * i.offsetHeight).length"
        assert await page.value(drawn.format("funnel")) == 7, name
        for chart in ("time", "latency", "zones", "runbooks"):
            assert await page.value(drawn.format(chart)) > 0, (name, chart)
        assert await page.value("document.querySelectorAll('#time .legend li').length") == 7, name
        across = "document.documentElement.scrollWidth - window.innerWidth"
        assert await page.value(across) <= 0, f"{name}: wider than the screen"
        colours = pixels(await page.screenshot(size["width"], size["height"], 0.4))
        assert len(colours) > 50, f"{name}: nearly blank"
        assert max(colours.values()) < 0.97 * colours.total(), f"{name}: nearly blank"
        told.append(max(colours, key=colours.__getitem__))
    assert sum(told[0]) > 600, "the light page is light"
    assert sum(told[1]) < 150, "the dark page is dark"
    assert page.complaints == []
    assert {url.partition("#")[0] for url in page.requests} == {(tmp_path / "report.html").as_uri()}


async def test_vms_are_found_by_words_and_results(page: Page, tmp_path: Path) -> None:
    """Search and chips narrow the table; a row opens to its history."""
    await page.look(**SIZES["light"])
    await page.open((tmp_path / "report.html").as_uri())
    shown = "[...document.querySelectorAll('details.vm:not([hidden])')].length"
    assert await page.value(shown) == 60
    typed = "s = document.getElementById('search'); s.value = '{}'; s.dispatchEvent(new Event('input')); {}"
    assert await page.value(typed.format("WEB-1 us-west2", shown)) == 5  # web-1, 10, 13, 16, 19
    assert await page.value(typed.format("no such vm", shown)) == 0
    assert await page.value("document.getElementById('none').hidden") is False
    assert await page.value(typed.format("", shown)) == 60
    await page.value("document.querySelector('button.chip[value=failed]').click()")
    failed = await page.value(shown)
    assert 0 < failed < 60
    assert await page.value("document.getElementById('shown').textContent") == f"{failed} of 60"
    await page.value("document.querySelector('details.vm:not([hidden]) summary').click()")
    assert await page.value(
        "document.querySelector('details.vm[open] .history').innerText.includes('unreachable')"
    )
    assert page.complaints == []


async def test_hostile_words_stay_words(page: Page, tmp_path: Path) -> None:
    """Nothing of an outcome's text is markup, and nothing of it runs."""
    await page.look(**SIZES["light"])
    await page.open((tmp_path / "report.html").as_uri())
    assert await page.value("document.querySelectorAll('img').length") == 0
    assert await page.value("document.querySelectorAll('script').length") == 1
    assert await page.value("document.body.textContent.includes('onerror=')")
    assert page.complaints == []


def pixels(png: bytes) -> Counter[tuple[int, ...]]:
    """Count the colours of every other pixel of every other line of an RGB picture (PNG, eight bits)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        data += png[at + 8 : at + 8 + length] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += length + 12
    raw, stride = zlib.decompress(data), width * size
    above, found = bytearray(stride), Counter[tuple[int, ...]]()
    for number in range(height):
        start = number * (stride + 1)
        filtered, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        for index in range(stride if filtered else 0):
            left = line[index - size] if index >= size else 0
            corner = above[index - size] if index >= size else 0
            line[index] = (line[index] + _predicted(filtered, left, above[index], corner)) & 255
        above = line
        if number % 2 == 0:
            found.update(tuple(line[index : index + 3]) for index in range(0, stride, 2 * size))
    return found


def _predicted(filtered: int, left: int, up: int, corner: int) -> int:
    match filtered:
        case 1:
            return left
        case 2:
            return up
        case 3:
            return (left + up) // 2
        case _:
            guess = left + up - corner
            return min((left, up, corner), key=lambda value: abs(guess - value))
