"""Facts and labels from the Compute API; the fake encodes our reading, and test_compute_api.py checks it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import asyncssh
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.contract.http_fake import mute, serving

from logmend.adapters.google import compute_calls
from logmend.adapters.google.compute import ComputeApi
from logmend.adapters.google.quota import Quota
from logmend.adapters.ssh.host_keys import PublishedHostKeys
from logmend.errors import Permanent, Transient
from logmend.model.struct import replace
from logmend.model.values import InstanceRef
from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.instance import PretendInstance

REF = InstanceRef("web-prod", "us-west1-a", "4775836342981993096")
MANAGER = "zones/us-west1-a/instanceGroupManagers/web"


def vm(**changes: object) -> PretendInstance:
    """Give the VM of these tests."""
    parts: dict[str, object] = {
        "project_id": REF.project_id,
        "zone": REF.zone,
        "instance_id": REF.instance_id,
        "name": "web-1",
        "labels": {"env": "prod"},
        "metadata": {"enable-osconfig": "TRUE"},
        "internal_ip": "10.0.0.7",
        "external_ip": "203.0.113.7",
        "service_account": "vm@web-prod.iam.gserviceaccount.com",
    }
    return PretendInstance(**(parts | changes))  # type: ignore[arg-type]


@asynccontextmanager
async def api(pretend: PretendCompute, timeout: float = 5.0) -> AsyncIterator[ComputeApi]:  # noqa: ASYNC109
    """Serve a pretend API, and give the adapter that asks it."""
    async with serving(pretend.app) as url:
        compute = ComputeApi(url, timeout=timeout)
        try:
            yield compute
        finally:
            await compute.aclose()


async def test_facts_hold_all_that_the_guards_and_executors_ask_for() -> None:
    """One look-up by numeric id answers everything."""
    pretend = PretendCompute([vm()], {"web-prod": {"enable-workload-certificate": "false"}})
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
    assert facts.ref == REF
    assert (facts.name, facts.status) == ("web-1", "RUNNING")
    assert facts.labels == {"env": "prod"}
    assert facts.metadata == {"enable-osconfig": "TRUE"}
    assert facts.project_metadata == {"enable-workload-certificate": "false"}
    assert facts.identity_certificate_enabled is False
    assert facts.partner_namespaces == ()
    assert (facts.internal_ip, facts.external_ip) == ("10.0.0.7", "203.0.113.7")
    assert facts.service_account == "vm@web-prod.iam.gserviceaccount.com"
    assert facts.unknown == {}


async def test_opting_in_shows_wherever_the_owner_did_it() -> None:
    """Identity configuration and partner metadata are what a plain look-up would miss."""
    pretend = PretendCompute(
        [vm(identity_certificate_enabled=True, partner_metadata={"wc.compute.googleapis.com": {"a": 1}})]
    )
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
    assert facts.identity_certificate_enabled is True
    assert facts.partner_namespaces == ("wc.compute.googleapis.com",)


async def test_a_bare_vm_has_facts_too() -> None:
    """No labels, no metadata, no address, no service account."""
    bare = PretendInstance(REF.project_id, REF.zone, REF.instance_id, "web-1", status="TERMINATED")
    async with api(PretendCompute([bare])) as compute:
        facts = await compute.facts(REF)
    assert facts.status == "TERMINATED"
    assert (facts.internal_ip, facts.external_ip, facts.service_account) == (None, None, None)
    assert facts.labels == facts.metadata == facts.project_metadata == {}


async def test_an_api_that_does_not_know_partner_metadata_leaves_it_unknown_with_the_reason() -> None:
    """Unknown is not the same as none."""
    pretend = PretendCompute([vm(partner_metadata={"iam.googleapis.com": {}})])
    pretend.knows_partner_metadata = False
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
    assert facts.partner_namespaces is None
    assert "Invalid field selection" in facts.unknown["partner_namespaces"]


@pytest.mark.parametrize("kind", [403, 404, 500, "garbage"])
async def test_partner_metadata_is_best_effort_whatever_happens_to_it(kind: int | str) -> None:
    """The check on the VM still stands between us and a mistake."""
    pretend = PretendCompute([vm()])
    pretend.fail("/beta/", kind)
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
    assert facts.partner_namespaces is None
    assert facts.unknown["partner_namespaces"]


async def test_forbidden_project_metadata_is_unknown_with_the_permission_named() -> None:
    """``compute.projects.get`` is missing: guards refuse, and the outcome says what to grant."""
    pretend = PretendCompute([vm()])
    pretend.fail("projects/web-prod$", 403)
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
    assert facts.project_metadata is None
    assert "compute.projects.get" in facts.unknown["project_metadata"]


async def test_a_vm_that_does_not_exist_is_gone() -> None:
    """404 is final."""
    async with api(PretendCompute([vm(instance_id="1")])) as compute:
        with pytest.raises(Permanent) as caught:
            await compute.facts(REF)
    assert caught.value.reason == "instance_gone"


async def test_a_forbidden_look_up_means_unknown_and_names_role_and_permission() -> None:
    """Unknown facts refuse."""
    pretend = PretendCompute([vm()])
    pretend.fail("v1/.*/instances/", 403)
    async with api(pretend) as compute:
        with pytest.raises(Permanent, match=r"compute\.instances\.get.*roles/compute\.viewer") as caught:
            await compute.facts(REF)
    assert caught.value.reason == "opt_in_unknown"


@pytest.mark.parametrize("where", ["v1/.*/instances/", "projects/web-prod$"])
@pytest.mark.parametrize("kind", [429, 500, 502, 503, "garbage"])
async def test_trouble_of_the_api_is_transient_and_its_wish_to_wait_is_kept(
    where: str, kind: int | str
) -> None:
    """Facts that are unknown for now are asked for again later; nothing is refused for it."""
    pretend = PretendCompute([vm()])
    pretend.fail(where, kind, retry_after=7)
    async with api(pretend) as compute:
        with pytest.raises(Transient) as caught:
            await compute.facts(REF)
    assert caught.value.reason == ("rate_limited" if kind == 429 else "compute_unavailable")
    assert caught.value.retry_after == (None if kind == "garbage" else 7)


async def test_a_single_hiccup_is_not_even_noticed() -> None:
    """A read is tried once more within the call."""
    pretend = PretendCompute([vm()])
    pretend.fail("v1/.*/instances/", 503, times=1)
    async with api(pretend) as compute:
        assert (await compute.facts(REF)).name == "web-1"


async def test_an_api_that_hangs_is_given_up() -> None:
    """A look-up ends in bounded time."""
    pretend = PretendCompute([vm()])
    pretend.fail("v1/.*/instances/", "hang")
    async with api(pretend, timeout=0.3) as compute:
        with pytest.raises(Transient) as caught:
            await asyncio.wait_for(compute.facts(REF), 60)
    assert caught.value.reason == "compute_unavailable"


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
    ],
    ids=["sized", "chunked", "head"],
)
async def test_an_api_that_trickles_is_given_up(head: str) -> None:
    """A byte now and then is no sign of life."""
    drip = b"1\r\n \r\n" if "chunked" in head else b" "
    async with mute(head.encode(), drip) as port:
        compute = ComputeApi(f"http://127.0.0.1:{port}", connect_timeout=0.2, timeout=0.2)
        with pytest.raises(Transient) as caught:
            await asyncio.wait_for(compute.facts(REF), 60)
        await compute.aclose()
    assert caught.value.reason == "compute_unavailable"


async def test_an_api_that_is_not_there_is_unavailable() -> None:
    """Connection refused."""
    compute = ComputeApi("http://127.0.0.1:9")
    with pytest.raises(Transient) as caught:
        await compute.facts(REF)
    await compute.aclose()
    assert caught.value.reason == "compute_unavailable"


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "{}",
        '{"id": 4775836342981993096}',
        json.dumps(vm().document() | {"zone": "z"}),
        json.dumps(vm().document() | {"metadata": {"items": ["no"]}}),
        json.dumps(vm().document() | {"workloadIdentityConfig": {"identityCertificateEnabled": "false"}}),
        "[" * 100_000,
    ],
    ids=["array", "empty", "number", "zone", "items", "text for a Boolean", "deep"],
)
async def test_an_answer_of_another_shape_is_no_answer(body: str) -> None:
    """Nothing is guessed from half an instance."""

    async def answer(request: Request) -> Response:
        if "/instances/" in request.url.path and "/v1/" in request.url.path:
            return Response(body, media_type="application/json")
        return Response("{}", media_type="application/json")

    async with serving(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        compute = ComputeApi(url)
        with pytest.raises(Transient) as caught:
            await compute.facts(REF)
        await compute.aclose()
    assert caught.value.reason == "compute_unavailable"


async def test_an_answer_about_another_vm_is_never_taken() -> None:
    """A proxy that mixes answers up must not lead us to another machine."""

    async def answer(request: Request) -> Response:
        other = vm(instance_id="5").document()
        return Response(json.dumps(other), media_type="application/json")

    async with serving(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        compute = ComputeApi(url)
        with pytest.raises(Permanent) as caught:
            await compute.facts(REF)
        await compute.aclose()
    assert caught.value.reason == "wrong_instance"


async def test_project_metadata_is_asked_for_once_a_minute_however_many_vms_report() -> None:
    """Hundreds of VMs of one project do not use up its quota."""
    instances = fleet(40)
    pretend = PretendCompute(instances, {"web-prod": {"a": "b"}})
    async with api(pretend) as compute:
        found = await asyncio.gather(*(compute.facts(ref) for ref in refs(instances)))
    assert {each.name for each in found} == {each.name for each in instances}
    assert all(each.project_metadata == {"a": "b"} for each in found)
    assert sum(call.endswith("projects/web-prod") for call in pretend.calls) == 1


async def test_a_project_that_gives_no_answer_is_asked_once_for_all_who_wait() -> None:
    """They are told the same, not one after the other; the next one gets the answer that there is then."""
    instances = fleet(20)
    pretend = PretendCompute(instances, {"web-prod": {}})
    pretend.fail("projects/web-prod$", 500)
    async with api(pretend) as compute:
        found = await asyncio.gather(*(compute.facts(ref) for ref in refs(instances)), return_exceptions=True)
        assert {getattr(each, "reason", each) for each in found} == {"compute_unavailable"}
        assert sum(call.endswith("projects/web-prod") for call in pretend.calls) == 1
        pretend.recover()
        assert (await compute.facts(refs(instances)[0])).project_metadata == {}


async def test_reads_beyond_the_limit_wait_and_are_then_refused_without_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The refusal says when to come back; another project has a quota of its own."""
    monkeypatch.setattr(compute_calls, "PATIENCE", 0.0)
    other = "other-proj"
    pretend = PretendCompute([vm(), vm(project_id=other)], {"web-prod": {}, other: {}})
    async with serving(pretend.app) as url:
        compute = ComputeApi(url, reads=3)  # the instance, its partner metadata, and the project's
        await compute.facts(REF)
        calls = len(pretend.calls)
        with pytest.raises(Transient) as caught:
            await compute.facts(REF)
        assert caught.value.reason == "rate_limited"
        assert 0 < (caught.value.retry_after or 0) <= 60
        assert len(pretend.calls) == calls
        assert (await compute.facts(replace(REF, project_id=other))).ref.project_id == other
        await compute.aclose()


async def test_look_ups_that_are_refused_do_not_keep_the_quota_used_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two VMs a second for ten minutes, of ten calls a minute: each minute has five of them looked up."""
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(compute_calls, "Quota", partial(Quota, now=lambda: now, sleep=sleep))
    pretend, found = PretendCompute([vm()], {"web-prod": {}}), 0
    async with serving(pretend.app) as url:
        compute = ComputeApi(url, reads=10)
        while now < 600:
            with suppress(Transient):
                await compute.facts(REF)
                found += 1
            now += 0.5
        await compute.aclose()
    assert 45 <= found <= 55
    assert len(pretend.calls) == 2 * found + 1


async def test_a_quota_that_another_used_up_is_named_as_one() -> None:
    """The API's own 429 parks a VM as our refusal does; it is no API that is away."""
    pretend = PretendCompute([vm(metadata={"created-by": f"projects/123/{MANAGER}"})])
    pretend.fail(".", 429, message="RESOURCE_EXHAUSTED: Quota exceeded for quota metric 'Read requests'")
    async with api(pretend) as compute:
        for ask in (
            compute.facts(REF),
            compute.find("web-prod", "web-1"),
            compute.group(f"projects/123/{MANAGER}", "web-prod"),
        ):
            with pytest.raises(Transient) as caught:
                await ask
            assert caught.value.reason == "rate_limited"
            assert caught.value.detail.startswith("RESOURCE_EXHAUSTED")


async def test_a_group_takes_the_quota_of_the_project_of_its_vm() -> None:
    """A VM names its group by the project's number, or by whatever it likes."""
    pretend = PretendCompute([vm(metadata={"created-by": f"projects/123/{MANAGER}"})], {"web-prod": {}})
    async with serving(pretend.app) as url:
        compute = ComputeApi(url, reads=3)
        await compute.facts(REF)
        calls = len(pretend.calls)
        with pytest.raises(Transient, match=r"^rate_limited"):
            await compute.group(f"projects/123/{MANAGER}", "web-prod")
        assert len(pretend.calls) == calls
        await compute.aclose()


async def test_the_quota_of_a_busy_project_is_not_forgotten_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of more projects than are kept, those go that were not read for the longest time."""
    monkeypatch.setattr(compute_calls, "PROJECTS", 2)
    names = ["web-prod", "proj-b", "proj-c"]
    pretend = PretendCompute([vm(project_id=name) for name in names], {name: {} for name in names})
    async with serving(pretend.app) as url:
        compute = ComputeApi(url, reads=3)
        await compute.facts(REF)
        for other in names[1:]:
            await compute.facts(replace(REF, project_id=other))
            with pytest.raises(Transient, match=r"^rate_limited"):
                await compute.facts(REF)
        await compute.aclose()


# many at once


def fleet(count: int, zones: int = 1) -> list[PretendInstance]:
    """Give so many VMs; every third has partner metadata."""
    return [
        vm(
            instance_id=str(4_000_000_000_000_000_000 + number),
            name=f"web-{number}",
            zone=f"us-west1-{chr(97 + number % zones)}",
            partner_metadata={} if number % 3 else {"wc.compute.googleapis.com": {"a": 1}},
        )
        for number in range(count)
    ]


def refs(instances: list[PretendInstance]) -> list[InstanceRef]:
    """Name VMs as events do."""
    return [InstanceRef(each.project_id, each.zone, each.instance_id) for each in instances]


@pytest.mark.parametrize(("zones", "most"), [(1, 0.1), (10, 0.4)])
async def test_vms_that_wait_at_the_same_time_share_their_calls(zones: int, most: float) -> None:
    """The facts are those that each look-up alone would have found, for a fraction of the quota."""
    instances = fleet(100, zones)
    pretend = PretendCompute(instances, {"web-prod": {"a": "b"}})
    async with api(pretend) as compute:
        together = await asyncio.gather(*(compute.facts(ref) for ref in refs(instances)))
        calls = len(pretend.calls)
        alone = [await compute.facts(ref) for ref in refs(instances[:6])]
    assert [each.ref for each in together] == refs(instances)
    assert together[:6] == alone
    assert {each.partner_namespaces for each in together} == {(), ("wc.compute.googleapis.com",)}
    assert calls <= most * len(instances), pretend.calls[:calls]


async def test_one_vm_after_the_other_waits_for_nobody() -> None:
    """Two calls each, and no listing: that is for those who meet."""
    instances = fleet(5)
    pretend = PretendCompute(instances, {"web-prod": {}})
    async with api(pretend) as compute:
        for ref in refs(instances):
            await compute.facts(ref)
    assert len(pretend.calls) == 1 + 2 * len(instances)
    assert not any("filter" in call for call in pretend.calls)


async def test_a_vm_that_is_gone_among_many_is_gone_alone() -> None:
    """A listing that does not name a VM proves nothing: the VM's own look-up says so."""
    instances = fleet(20)
    gone = InstanceRef(REF.project_id, instances[0].zone, "999")
    async with api(PretendCompute(instances)) as compute:
        found = await asyncio.gather(
            *(compute.facts(ref) for ref in [*refs(instances), gone]), return_exceptions=True
        )
    assert isinstance(found[-1], Permanent)
    assert found[-1].reason == "instance_gone"
    assert not any(isinstance(each, Exception) for each in found[:-1])


@pytest.mark.parametrize("refused", ["the filter", "the listing", "the listing of a zone"])
async def test_an_api_that_refuses_listings_is_asked_for_each_vm_alone(refused: str) -> None:
    """A role without ``compute.instances.list`` works as before, and the refusal is not asked for again."""
    instances = fleet(10)
    pretend = PretendCompute(instances, {"web-prod": {}})
    pretend.filters_by_id = refused != "the filter"
    if refused != "the filter":
        pretend.fail("aggregated" if refused == "the listing" else "/beta/.*instances\\?view", 403)
    async with api(pretend) as compute:
        for _ in range(2):
            found = await asyncio.gather(*(compute.facts(ref) for ref in refs(instances)))
            assert [each.ref for each in found] == refs(instances)
            assert {each.partner_namespaces for each in found} == {(), ("wc.compute.googleapis.com",)}
    assert sum("aggregated" in call for call in pretend.calls) == 1


async def test_a_project_that_refuses_listings_is_the_only_one_asked_one_by_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A role that one project lacks costs the others nothing, and the warning says which project it is."""
    listed = fleet(10)
    refusing = [
        replace(each, project_id="shop-prod", instance_id=f"5{each.instance_id[1:]}") for each in listed
    ]
    pretend = PretendCompute([*listed, *refusing], {"web-prod": {}, "shop-prod": {}})
    pretend.fail("shop-prod/aggregated", 403)
    async with api(pretend) as compute:
        for _ in range(2):
            found = await asyncio.gather(*(compute.facts(ref) for ref in refs([*listed, *refusing])))
            assert [each.ref for each in found] == refs([*listed, *refusing])
    assert sum("web-prod/aggregated" in call for call in pretend.calls) == 2
    assert sum("shop-prod/aggregated" in call for call in pretend.calls) == 1
    (warning,) = [each.getMessage() for each in caplog.records if "one by one" in each.getMessage()]
    assert "shop-prod" in warning


async def test_a_quota_that_is_used_up_is_not_asked_for_every_vm_again() -> None:
    """The answer 429 to a listing is everybody's answer: transient, with the API's wish to wait."""
    instances = fleet(10)
    pretend = PretendCompute(instances, {"web-prod": {}})
    pretend.fail("aggregated", 429, retry_after=7)
    async with api(pretend) as compute:
        first, *others = await asyncio.gather(
            *(compute.facts(ref) for ref in refs(instances)), return_exceptions=True
        )
    found = [first, *others]
    assert {getattr(each, "reason", None) for each in found} == {"rate_limited"}
    assert {getattr(each, "retry_after", None) for each in found} == {7.0}
    assert not any("/v1/" in call and "/instances/" in call for call in pretend.calls)


# labels


async def test_a_label_is_set_and_removed_and_others_stay() -> None:
    """The request and its end."""
    machine = vm()
    async with api(PretendCompute([machine])) as compute:
        await compute.set_label(await compute.facts(REF), "logmend-x", "enforce")
        assert machine.labels == {"env": "prod", "logmend-x": "enforce"}
        await compute.set_label(await compute.facts(REF), "logmend-x", None)
    assert machine.labels == {"env": "prod"}


async def test_setting_what_is_set_already_calls_nothing() -> None:
    """Setting the same label twice is one request."""
    pretend = PretendCompute([vm(labels={"logmend-x": "check"})])
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
        await compute.set_label(facts, "logmend-x", "check")
        await compute.set_label(facts, "another", None)
    assert not any("setLabels" in call for call in pretend.calls)


async def test_a_label_that_others_changed_meanwhile_is_kept() -> None:
    """Compare-and-swap: a lost race is run again on what is there now."""
    machine = vm()
    async with api(PretendCompute([machine])) as compute:
        facts = await compute.facts(REF)
        machine.labels["owner"] = "amy"
        machine.generation += 1
        await compute.set_label(facts, "logmend-x", "enforce")
    assert machine.labels == {"env": "prod", "owner": "amy", "logmend-x": "enforce"}


async def test_racing_writers_lose_no_label() -> None:
    """Four at once, each with its own label."""
    machine = vm(labels={})
    async with api(PretendCompute([machine])) as compute:
        facts = await compute.facts(REF)
        await asyncio.gather(*(compute.set_label(facts, f"label-{n}", "x") for n in range(4)))
    assert machine.labels == {f"label-{n}": "x" for n in range(4)}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(403, "not_permitted"), (404, "instance_gone"), (412, "conflict"), (429, "rate_limited")],
)
async def test_a_label_that_cannot_be_set_says_why(kind: int, reason: str) -> None:
    """Permanent or transient, in one word."""
    pretend = PretendCompute([vm()])
    pretend.fail("setLabels", kind)
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
        with pytest.raises((Permanent, Transient), match=f"^{reason}"):
            await compute.set_label(facts, "logmend-x", "enforce")


# what commands ask


async def test_a_vm_is_found_by_name_with_and_without_its_zone() -> None:
    """A person types names; the same name may be there in several zones."""
    twin = vm(zone="us-west1-b", instance_id="7")
    async with api(PretendCompute([vm(), twin, vm(name="web-2", instance_id="8")])) as compute:
        assert [each.ref for each in await compute.find("web-prod", "web-1", REF.zone)] == [REF]
        assert [each.ref.instance_id for each in await compute.find("web-prod", "web-1")] == [
            REF.instance_id,
            "7",
        ]
        for name in ("web-9", 'x" OR name != "x'):
            with pytest.raises(Permanent, match="instance_gone"):
                await compute.find("web-prod", name)


async def test_a_projects_vms_are_listed_page_by_page_and_silent_zones_are_named() -> None:
    """A scan says what it did not see."""
    fleet = [vm(instance_id=str(number), name=f"web-{number}") for number in range(1, 460)]
    pretend = PretendCompute([*fleet, vm(zone="asia-east1-a", instance_id="999")])
    pretend.unreachable_zones = ["asia-east1-a"]
    async with api(pretend) as compute:
        listing = await compute.instances("web-prod", where='labels.env = "prod"')
        assert (await compute.instances("web-prod", where='status = "TERMINATED"')).instances == ()
    assert len(listing.instances) == 459
    assert listing.unreachable == ("asia-east1-a",)


async def test_listing_that_is_forbidden_names_the_permission() -> None:
    """An operator is told the error itself."""
    pretend = PretendCompute([vm()])
    pretend.fail("aggregated", 403)
    async with api(pretend) as compute:
        with pytest.raises(Permanent) as caught:
            await compute.instances("web-prod")
    assert caught.value.reason == "not_permitted"
    assert "compute.instances.list is missing" in caught.value.detail


# host keys

KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().split()


async def not_asked() -> asyncssh.SSHKey:
    """Stand for the server, which is not looked at where keys are published."""
    raise AssertionError


async def test_host_keys_come_from_guest_attributes() -> None:
    """Every published key that is a key; the rest is passed over."""
    published = {
        "hostkeys/ssh-ed25519": f"{KEY[1]} root@web-1",
        "hostkeys/ssh-dss": "AAAA",
        "hostkeys/empty": "",
        "guestInventory/Hostname": "web-1",
    }
    async with api(PretendCompute([vm(guest_attributes=published)])) as compute:
        trust = await PublishedHostKeys(compute).trusted(await compute.facts(REF), not_asked)
    known = trust.known
    assert trust.source == "published"
    assert known is not None
    assert [key.export_public_key().decode().split()[:2] for key in known[0]] == [KEY[:2]]
    assert known[1:] == ([], [])


@pytest.mark.parametrize("published", [{}, {"hostkeys/ssh-ed25519": "garbage"}])
async def test_a_vm_without_published_host_keys_is_not_dialled(published: dict[str, str]) -> None:
    """It fails closed and says when a guest agent publishes them."""
    async with api(PretendCompute([vm(guest_attributes=published)])) as compute:
        facts = await compute.facts(REF)
        with pytest.raises(Permanent, match=r"first boot alone.*enable-guest-attributes") as caught:
            await PublishedHostKeys(compute).trusted(facts, not_asked)
    assert caught.value.reason == "host_key_unknown"


@pytest.mark.parametrize(
    "said",
    [
        "Constraint constraints/compute.disableGuestAttributesAccess violated for project web-prod.",
        "Precondition not met",
    ],
)
async def test_an_organization_that_forbids_guest_attributes_is_named_and_not_waited_for(said: str) -> None:
    """412 is a conflict only where a fingerprint was sent; here nothing will ever change it."""
    pretend = PretendCompute([vm()])
    pretend.fail("getGuestAttributes", 412, message=said)
    async with api(pretend) as compute:
        with pytest.raises(Permanent, match=r"constraints/compute\.disableGuestAttributesAccess") as caught:
            await compute.guest_attributes(REF, "hostkeys/")
    assert caught.value.reason == "guest_attributes_disabled"
    assert said in caught.value.detail


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(403, "^not_permitted.*compute.instances.getGuestAttributes"), (503, "^compute_unavailable")],
)
async def test_host_keys_that_cannot_be_read_say_why(kind: int, reason: str) -> None:
    """A missing permission is named; trouble of the API is transient."""
    pretend = PretendCompute([vm()])
    pretend.fail("getGuestAttributes", kind)
    async with api(pretend) as compute:
        facts = await compute.facts(REF)
        with pytest.raises((Permanent, Transient), match=reason):
            await PublishedHostKeys(compute).trusted(facts, not_asked)


def test_the_adapter_costs_no_heavy_import() -> None:
    """An event that ends before the look-up loads neither a client nor an HTTP library."""
    code = (
        "import sys; from logmend.adapters.google.compute import ComputeApi; ComputeApi();"
        "print(sorted({'requests', 'grpc', 'google.auth', 'asyncssh', 'starlette'} & set(sys.modules)))"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
    assert done.stdout.strip() == "[]"


async def test_a_group_is_its_vms_and_those_that_are_well() -> None:
    """Leaving VMs do not count; one that is restarted, stopped or unhealthy is there and not healthy."""
    where = "zones/us-west1-a/instanceGroupManagers/web"
    made = {"metadata": {"created-by": f"projects/123/{where}"}}
    pretend = PretendCompute(
        [
            vm(instance_id="1", name="web-1", **made),
            vm(instance_id="2", name="web-2", health="HEALTHY", **made),
            vm(instance_id="3", name="web-3", health="UNHEALTHY", **made),
            vm(instance_id="4", name="web-4", current_action="RESTARTING", **made),
            vm(instance_id="5", name="web-5", status="TERMINATED", **made),
            vm(instance_id="6", name="web-6", current_action="DELETING", **made),
            vm(instance_id="7", name="db-1"),
        ]
    )
    async with api(pretend) as compute:
        group = await compute.group(f"projects/123/{where}", REF.project_id)
    assert group is not None
    assert (group.size, sorted(group.members), sorted(group.healthy)) == (5, list("12345"), list("12"))


async def test_a_group_is_read_once_for_all_who_ask_and_every_page_of_it() -> None:
    """A regional one; a storm of its VMs takes one answer."""
    where = "regions/us-west1/instanceGroupManagers/web"
    made = {"metadata": {"created-by": f"projects/123/{where}"}}
    pretend = PretendCompute([vm(instance_id=str(n), name=f"web-{n}", **made) for n in range(1, 702)])
    async with api(pretend) as compute:
        found = await asyncio.gather(
            *(compute.group(f"projects/123/{where}", REF.project_id) for _ in range(50))
        )
    assert {each.size if each else None for each in found} == {701}
    assert len(pretend.calls) == 2


@pytest.mark.parametrize("kind", [403, 404])
async def test_a_group_that_may_not_be_read_is_not_known(kind: int) -> None:
    """Which lets one of its VMs be changed at a time; it is asked for again after a while, not each time."""
    pretend = PretendCompute([vm(metadata={"created-by": f"projects/123/{MANAGER}"})])
    pretend.fail("listManagedInstances", kind)
    async with api(pretend) as compute:
        assert await compute.group(f"projects/123/{MANAGER}", REF.project_id) is None
        calls = len(pretend.calls)
        assert await compute.group(f"projects/123/{MANAGER}", REF.project_id) is None
    assert len(pretend.calls) == calls


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(503, "compute_unavailable"), ("garbage", "compute_unavailable"), (429, "rate_limited")],
)
async def test_an_api_that_gives_no_answer_says_nothing_of_a_group(kind: int | str, reason: str) -> None:
    """Whoever asked meanwhile is told the same; the next one to ask gets the answer that there is then."""
    pretend = PretendCompute([vm(metadata={"created-by": f"projects/123/{MANAGER}"})])
    async with api(pretend) as compute:

        async def asked() -> object:
            return await compute.group(f"projects/123/{MANAGER}", REF.project_id)

        pretend.fail("listManagedInstances", kind)
        found = await asyncio.gather(*(asked() for _ in range(20)), return_exceptions=True)
        assert {getattr(each, "reason", each) for each in found} == {reason}
        assert len(pretend.calls) == 1
        pretend.recover()
        assert await asked() is not None


@pytest.mark.parametrize(
    "listed",
    [
        "7",
        '"web-1"',
        '["web-1"]',
        '[{"id": "1", "instanceStatus": "RUNNING", "instanceHealth": ["HEALTHY"]}]',
        '[{"id": "1", "instanceStatus": "RUNNING", "instanceHealth": 1}]',
    ],
)
async def test_a_list_of_a_groups_vms_that_cannot_be_read_is_no_answer(listed: str) -> None:
    """Whichever part of it is of another shape: it is asked for again, and counts as no group without VMs."""

    async def answer(_request: Request) -> Response:
        return Response(f'{{"managedInstances": {listed}}}', media_type="application/json")

    async with serving(Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])) as url:
        compute = ComputeApi(url)
        with pytest.raises(Transient) as caught:
            await compute.group(f"projects/123/{MANAGER}", REF.project_id)
        await compute.aclose()
    assert caught.value.reason == "compute_unavailable"


async def test_groups_beyond_the_quota_are_waited_for() -> None:
    """Nine hundred groups must not use up what the look-ups of VMs need; none is taken for one not known."""
    where = "zones/us-west1-a/instanceGroupManagers"
    pretend = PretendCompute(
        [
            vm(instance_id=str(n), name=f"web-{n}", metadata={"created-by": f"projects/123/{where}/g{n}"})
            for n in range(1, 4)
        ]
    )
    async with serving(pretend.app) as url:
        compute = ComputeApi(url, timeout=5.0, reads=2)
        for n in range(1, 3):
            assert await compute.group(f"projects/123/{where}/g{n}", REF.project_id) is not None
        with pytest.raises(Transient, match=r"^rate_limited"):
            await compute.group(f"projects/123/{where}/g3", REF.project_id)
        assert await compute.group(f"projects/123/{where}/g1", REF.project_id) is not None, "it is kept"
        await compute.aclose()
    assert len(pretend.calls) == 2
