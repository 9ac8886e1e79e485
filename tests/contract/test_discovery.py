"""The check against Google's discovery documents itself, and what it found.

Every test of this folder and of the commands runs under :func:`tests.discovery.held_to_discovery`.
"""

import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests import discovery
from tests.contract.http_fake import serving

from logmend import permissions
from logmend.adapters.google.compute import ComputeApi
from logmend.adapters.google.rest import Rest
from logmend.model.enums import Mode
from logmend.settings import ExecutorChoice, SshRoute

VM = "/compute/v1/projects/p/zones/us-west1-a/instances/4775836342981993096"
GROUP = "/compute/v1/projects/p/zones/us-west1-a/instanceGroupManagers/web/listManagedInstances"
SIGN = "/v1/projects/p/locations/us-west1:signSshPublicKey"


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "said"),
    [
        ("GET", VM, {}, None, ""),
        ("POST", f"{VM}/setLabels", {}, {"labels": {"a": "b"}, "labelFingerprint": "x"}, ""),
        ("POST", SIGN, {}, {"sshPublicKey": "k", "serviceAccount": "a", "computeInstance": "i"}, ""),
        ("POST", GROUP, {"maxResults": "500"}, None, ""),
        ("POST", GROUP.replace("zones/us-west1-a", "regions/us-west1"), {"pageToken": "x"}, None, ""),
        ("GET", f"{VM}/guestAttributes", {}, None, "no such method"),
        ("POST", VM, {}, None, "no such method"),
        (
            "GET",
            f"{VM}/getGuestAttributes",
            {"query_path": "hostkeys/"},
            None,
            "no query parameter query_path",
        ),
        ("POST", f"{VM}/setLabels", {}, {"label": {}}, "no field label"),
        ("POST", f"{VM}/setLabels", {}, {"labels": ["a"]}, "is object, not array"),
        ("GET", VM, {}, {"name": "x"}, "takes no body"),
        ("POST", SIGN, {}, {"publicKey": "k"}, "no field publicKey"),
    ],
)
def test_a_call_that_no_document_knows_is_named(method, path, query, body, said):
    """A misspelt path, parameter or field is found; what is right passes."""
    found = discovery.problems(method, path, query, body)
    assert (found == []) if not said else said in found[0]


async def test_a_test_that_sends_such_a_call_fails():
    """Wherever it sends it: the check is at the one place that all plain REST goes through."""
    with pytest.raises(pytest.fail.Exception, match="no query parameter colour"):
        await Rest("http://127.0.0.1:9").call("GET", VM, query={"colour": "blue"})


async def test_a_listing_is_asked_again_without_the_parameter_that_compute_no_longer_documents():
    """``returnPartialSuccess`` has left Compute v1's document; it is asked without where refused."""
    asked = []

    async def listing(request: Request) -> Response:
        asked.append(dict(request.query_params))
        if "returnPartialSuccess" in request.query_params:
            error = {
                "code": 400,
                "message": 'Unknown name "returnPartialSuccess"',
            }
            return JSONResponse({"error": error}, 400)
        return JSONResponse({"items": {}})

    route = Route("/compute/v1/projects/web-prod/aggregated/instances", listing)
    async with serving(Starlette(routes=[route])) as url:
        compute = ComputeApi(url)
        assert (await compute.instances("web-prod")).instances == ()
        await compute.aclose()
    assert [sorted(each) for each in asked] == [["maxResults", "returnPartialSuccess"], ["maxResults"]]


def test_every_permission_that_a_document_could_name_is_named_there():
    """Compute's permissions are its methods' ids, others are in descriptions; what is not is listed."""
    named: set[str] = set()
    for api in discovery.APIS:
        named |= set(re.findall(r"\b[a-z]+\.[a-zA-Z]+\.[a-z][a-zA-Z]+\b", str(discovery.document(api))))
    ours = permissions.OPERATOR.union(
        *(
            each
            for mode in Mode
            for executor in ExecutorChoice
            for route in SshRoute
            for each in permissions.function(mode, executor, route).values()
        )
    )
    assert ours - named == UNNAMED


UNNAMED = {
    *("compute.instances.osAdminLogin", "compute.instances.osLogin"),  # asked for by a VM, not by a method
    *(f"datastore.entities.{verb}" for verb in ("create", "delete", "get", "list", "update")),
    *("datastore.databases.get", "iap.tunnelInstances.accessViaIAP", "logging.logEntries.list"),
    *("osconfig.osPolicyAssignmentReports.get", "osconfig.osPolicyAssignmentReports.list"),
    *("osconfig.osPolicyAssignments.get", "pubsub.topics.get", "pubsub.topics.publish"),
    "cloudfunctions.functions.list",
}
"""Source of these: cloud.google.com/iam/docs/roles-permissions."""
