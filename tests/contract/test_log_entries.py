"""Entries out of Cloud Logging: every page once, quota waited out, refusals told."""

from typing import Any

import pytest
from tests.contract.http_fake import serving
from tests.fakes import entry
from tests.logging_fake import FakeLogging

from logmend.adapters.google.log_entries import LogEntries
from logmend.errors import Permanent, Transient

ANY = 'resource.type = "gce_instance"'


def many(count: int, project: str = "demo-project") -> list[dict[str, Any]]:
    found = []
    for number in range(count):
        each = entry()
        each["insertId"] = f"{project}-{number:04}"
        each["logName"] = f"projects/{project}/logs/syslog"
        each["timestamp"] = f"2026-03-01T11:{number // 60:02}:{number % 60:02}Z"
        found.append(each)
    return found


async def read(fake: FakeLogging, *projects: str, where: str = ANY, **options: Any) -> list[str]:
    async with serving(fake.app) as url:
        logs = LogEntries(url, url, pauses=options.pop("pauses", (0.01, 0.01)), **options)
        try:
            resources = [f"projects/{each}" for each in projects or ("demo-project",)]
            return [each["insertId"] async for page in logs.pages(resources, where) for each in page]
        finally:
            await logs.aclose()


async def test_every_page_is_read_once_and_in_order() -> None:
    """Oldest first, across pages."""
    fake = FakeLogging(many(25), page=10)
    assert await read(fake) == [each["insertId"] for each in fake.entries]
    assert [each.page_token for each in fake.asked] == ["", "10", "20"]


async def test_a_place_is_taken_for_each_request_and_for_no_more() -> None:
    """A quota of our own counts what Cloud Logging counts."""
    fake, taken = FakeLogging(many(25), page=10), list[str]()

    async def take() -> None:
        taken.append("one")

    assert len(await read(fake, take=take)) == 25
    assert len(taken) == len(fake.asked) == 3


async def test_the_filter_is_the_services_to_apply() -> None:
    """What it does not select never travels."""
    fake = FakeLogging(many(25))
    assert len(await read(fake, where=f'{ANY} AND timestamp < "2026-03-01T11:00:10Z"')) == 10


async def test_a_used_up_quota_is_waited_out_as_long_as_the_service_says() -> None:
    """429 is part of reading much; who waits is told."""
    fake, told = FakeLogging(many(3), refusals=[(429, {"Retry-After": "0"}), (429, {}), (503, {})]), []
    found = await read(fake, pauses=(0.01, 0.02, 0.03), waiting=lambda *said: told.append(said))
    assert len(found) == 3
    assert [why for _, why in told] == ["rate_limited", "rate_limited", "api_unavailable"]


async def test_a_service_that_stays_away_is_an_error() -> None:
    """After the last pause."""
    with pytest.raises(Transient, match="rate_limited"):
        await read(FakeLogging(refusals=[(429, {})] * 9))


async def test_a_refusal_is_not_tried_again() -> None:
    """Asking again cannot help."""
    fake = FakeLogging(refusals=[(404, {}), (404, {})])
    with pytest.raises(Permanent, match="not_found"):
        await read(fake)
    assert len(fake.refusals) == 1


async def test_more_projects_than_one_request_may_name_are_read_in_turn() -> None:
    """A hundred at a time."""
    projects = [f"project-{number:03}" for number in range(250)]
    fake = FakeLogging(many(2, "project-000") + many(2, "project-249"))
    assert len(await read(fake, *projects)) == 4
    assert [len(each.resource_names) for each in fake.asked] == [100, 100, 50]


async def test_a_folder_has_the_projects_of_the_folders_below_it() -> None:
    """However deep, page by page; those being deleted are left out."""
    fake = FakeLogging(
        tree={
            "organizations/1": {
                "projects": [{"projectId": "top-one"}, {"projectId": "gone", "state": "DELETE_REQUESTED"}],
                "folders": [{"name": "folders/2"}, {"name": "folders/9", "state": "DELETE_REQUESTED"}],
            },
            "folders/2": {"folders": [{"name": "folders/3"}], "projects": [{"projectId": "middle"}]},
            "folders/3": {"projects": [{"projectId": "deep-b"}, {"projectId": "deep-a"}]},
            "folders/9": {"projects": [{"projectId": "never-asked"}]},
        }
    )
    async with serving(fake.app) as url:
        logs = LogEntries(url, url)
        assert await logs.projects("organizations/1") == ["deep-a", "deep-b", "middle", "top-one"]
        await logs.aclose()
