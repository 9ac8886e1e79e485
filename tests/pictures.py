"""The README's pictures of a report, taken in Chromium of a fleet that is made up: ``make pictures``."""

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from logmend.model.enums import Result
from logmend.model.values import InstanceRef, Outcome
from logmend_cli.report import command
from tests.integration.browser import browsing
from tests.provider_schema import ROOT
from tests.unit.cli.outcomes import START, outcome

FOLDER = ROOT / "docs" / "pictures"
SIZES = {"report": (1180, 918, 0.9, False), "report-phone": (390, 844, 1.0, True)}
"""By file: width and height in CSS pixels, the picture's scale, and whether it is dark (and a phone)."""
QUALITY = 60


ENDS = (
    *[(Result.REMEDIATED, None)] * 62,
    *[(Result.REFUSED, "opted_in")] * 9,
    *[(Result.NOTHING_TO_DO, None)] * 5,
    *[(Result.FAILED, "unreachable")] * 3,
    (Result.UNVERIFIED, "no_evidence"),
)
"""How it ended for each VM."""


def fleet() -> Iterator[Outcome]:
    """Eighty VMs over three days: more of them at first, and each is silent a while after its fix."""
    number = 0
    for at in range(0, 72 * 60, 20):
        hour = at // 60
        for vm, (result, reason) in enumerate(ENDS):
            begun = (vm * 7) % 50  # hours until a VM's first line
            said = (result, reason) if hour == begun and at % 60 == 0 else None
            if (
                said is None
                and hour > begun
                and (at // 20 + vm) % 36 == 0
                and result is not Result.REMEDIATED
            ):
                said = (Result.SKIPPED, "cooling_down")
            if said is None:
                continue
            number += 1
            yield outcome(
                number,
                *said,
                at=START + timedelta(minutes=at + vm % 20),
                instance=InstanceRef("shop-prod", f"us-west1-{'abc'[vm % 3]}", str(9000 + vm)),
                instance_name=f"web-{vm}",
                owner=("payments", "search", "web")[vm % 3],
                detail="",
            )


async def take() -> None:
    """Take them anew."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page_file = Path(folder) / "report.html"
        command.write(sorted(fleet(), key=lambda each: each.at), page_file, "Cloud Logging")
        async with browsing(Path(folder)) as page:
            for name, (width, height, scale, phone) in SIZES.items():
                await page.look(width=width, height=height, dark=phone, mobile=phone)
                await page.open(page_file.as_uri())
                picture = await page.screenshot(width, height, scale, form="webp", quality=QUALITY)
                (FOLDER / f"{name}.webp").write_bytes(picture)


if __name__ == "__main__":
    asyncio.run(take())
