"""The pretend Compute API, asked by Google's own client: what it answers, that client understands."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import requests
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from tests.contract.http_fake import serving

from logmend_cli.pretend.compute_api import PretendCompute
from logmend_cli.pretend.instance import PretendInstance

VM: dict[str, Any] = {"project": "web-prod", "zone": "us-west1-a"}


@pytest.fixture
def pretend() -> PretendCompute:
    """Give an API with one VM that has everything."""
    machine = PretendInstance(
        "web-prod",
        "us-west1-a",
        "4775836342981993096",
        "web-1",
        labels={"env": "prod"},
        metadata={"enable-osconfig": "TRUE"},
        internal_ip="10.0.0.7",
        external_ip="203.0.113.7",
        service_account="vm@web-prod.iam.gserviceaccount.com",
        identity_certificate_enabled=True,
        partner_metadata={"wc.compute.googleapis.com": {}},
        guest_attributes={"hostkeys/ssh-ed25519": "AAAA"},
    )
    return PretendCompute([machine], {"web-prod": {"enable-oslogin": "TRUE"}})


@pytest.fixture
async def options(pretend: PretendCompute) -> AsyncIterator[dict[str, Any]]:
    """Serve it, and give what Google's clients take to reach it."""
    async with serving(pretend.app) as url:
        yield {
            "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
            "client_options": ClientOptions(api_endpoint=url),
        }


async def test_googles_client_reads_an_instance_by_number_and_by_name(options: dict[str, Any]) -> None:
    """Every field that logmend reads is where the API's schema has it."""
    client = compute_v1.InstancesClient(**options)
    for instance in ("4775836342981993096", "web-1"):
        found = await asyncio.to_thread(client.get, instance=instance, **VM)
        assert (found.id, found.name, found.status) == (4775836342981993096, "web-1", "RUNNING")
    assert dict(found.labels) == {"env": "prod"}
    assert {item.key: item.value for item in found.metadata.items} == {"enable-osconfig": "TRUE"}
    assert found.network_interfaces[0].network_i_p == "10.0.0.7"
    assert found.network_interfaces[0].access_configs[0].nat_i_p == "203.0.113.7"
    assert found.service_accounts[0].email == "vm@web-prod.iam.gserviceaccount.com"
    assert found.workload_identity_config.identity_certificate_enabled is True
    assert found.label_fingerprint
    assert found.zone.endswith("/zones/us-west1-a")


async def test_googles_client_reads_projects_guest_attributes_and_lists(options: dict[str, Any]) -> None:
    """The other reads."""
    project = await asyncio.to_thread(compute_v1.ProjectsClient(**options).get, project="web-prod")
    assert {item.key: item.value for item in project.common_instance_metadata.items} == {
        "enable-oslogin": "TRUE"
    }
    client = compute_v1.InstancesClient(**options)
    request = compute_v1.GetGuestAttributesInstanceRequest(instance="web-1", query_path="hostkeys/", **VM)
    attributes = await asyncio.to_thread(client.get_guest_attributes, request)
    assert [(each.namespace, each.key, each.value) for each in attributes.query_value.items] == [
        ("hostkeys", "ssh-ed25519", "AAAA")
    ]
    listed = await asyncio.to_thread(lambda: list(client.list(**VM)))
    assert [each.name for each in listed] == ["web-1"]
    everywhere = await asyncio.to_thread(lambda: list(client.aggregated_list(project="web-prod")))
    assert [(zone, [each.name for each in scoped.instances]) for zone, scoped in everywhere] == [
        ("zones/us-west1-a", ["web-1"])
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("zones/us-west1-a/instances/web-1", compute_v1.Instance),
        ("zones/us-west1-a/instances", compute_v1.InstanceList),
        (
            "zones/us-west1-a/instances/web-1/getGuestAttributes?queryPath=hostkeys/",
            compute_v1.GuestAttributes,
        ),
        ("aggregated/instances?returnPartialSuccess=true", compute_v1.InstanceAggregatedList),
        ("", compute_v1.Project),
    ],
    ids=["instance", "list", "guest attributes", "aggregated list", "project"],
)
async def test_every_field_of_an_answer_is_one_of_the_apis(
    pretend: PretendCompute, path: str, message: Any
) -> None:
    """Google's client drops what it does not know; here it may not."""
    pretend.unreachable_zones = ["asia-east1-a"]
    async with serving(pretend.app) as url:
        address = f"{url}/compute/v1/projects/web-prod/{path}".rstrip("/")
        answer = await asyncio.to_thread(requests.get, address, timeout=10)
    assert answer.status_code == 200
    message.from_json(answer.text, ignore_unknown_fields=False)


async def test_googles_client_reads_managed_instance_groups(
    pretend: PretendCompute, options: dict[str, Any]
) -> None:
    """Zonal and regional ones; every field that logmend reads is where the API's schema has it."""
    for where, client, place in (
        ("zones/us-west1-a", compute_v1.InstanceGroupManagersClient, {"zone": "us-west1-a"}),
        ("regions/us-west1", compute_v1.RegionInstanceGroupManagersClient, {"region": "us-west1"}),
    ):
        pretend.instances[0].metadata["created-by"] = f"projects/123/{where}/instanceGroupManagers/web"
        pretend.instances[0].health = "HEALTHY"
        asked: dict[str, Any] = {"project": "web-prod", "instance_group_manager": "web", **place}
        listed = await asyncio.to_thread(lambda: list(client(**options).list_managed_instances(**asked)))  # noqa: B023
        (found,) = listed
        assert (found.id, found.current_action, found.instance_status) == (
            4775836342981993096,
            "NONE",
            "RUNNING",
        )
        assert [each.detailed_health_state for each in found.instance_health] == ["HEALTHY"]


async def test_googles_client_swaps_labels_and_waits_for_the_operation(
    pretend: PretendCompute, options: dict[str, Any]
) -> None:
    """The right fingerprint works once, the old one is a failed precondition."""
    client = compute_v1.InstancesClient(**options)
    fingerprint = pretend.instances[0].fingerprint
    body = compute_v1.InstancesSetLabelsRequest(label_fingerprint=fingerprint, labels={"a": "b"})
    arguments: dict[str, Any] = {"instance": "web-1", "instances_set_labels_request_resource": body, **VM}
    operation = await asyncio.to_thread(lambda: client.set_labels(**arguments))
    done = await asyncio.to_thread(
        compute_v1.ZoneOperationsClient(**options).get, operation=operation.name, **VM
    )
    assert done.status is compute_v1.Operation.Status.DONE
    assert pretend.instances[0].labels == {"a": "b"}
    with pytest.raises(PreconditionFailed):
        await asyncio.to_thread(lambda: client.set_labels(**arguments))


@pytest.mark.parametrize(("kind", "error"), [(403, Forbidden), (404, NotFound)])
async def test_googles_client_raises_the_scripted_errors(
    pretend: PretendCompute, options: dict[str, Any], kind: int, error: type[GoogleAPICallError]
) -> None:
    """A scripted failure has the form of a real one."""
    pretend.fail("instances/web-1$", kind)
    client = compute_v1.InstancesClient(**options)
    with pytest.raises(error, match="scripted failure"):
        await asyncio.to_thread(client.get, instance="web-1", **VM)
    pretend.recover()
    assert (await asyncio.to_thread(client.get, instance="web-1", **VM)).name == "web-1"
