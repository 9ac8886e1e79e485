"""Google's own discovery documents: every REST call that our tests see is held against them.

They come with the package ``google-api-python-client`` (``discovery_cache/documents``). A call has to be a
method of one of them: HTTP method and path, its query parameters, and every field of its body by its schema.
What they do not say: which values a field takes, and what is answered.
"""

import functools
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from logmend.adapters.google.rest import HttpReply, Rest

APIS = (
    *("cloudfunctions.v2", "cloudresourcemanager.v1", "cloudresourcemanager.v3", "cloudscheduler.v1"),
    *("compute.v1", "compute.beta", "iam.v1", "iamcredentials.v1", "logging.v2", "monitoring.v3"),
    *("osconfig.v1", "oslogin.v1", "pubsub.v1", "run.v2", "serviceusage.v1", "vpcaccess.v1"),
)
EXCUSED = {
    # Gone from the document of 2026-09, while the API may still need it to name the zones that do not answer.
    ("compute.instances.aggregatedList", "returnPartialSuccess"): "a 400 is asked again without it",
}


@functools.cache
def document(api: str) -> Mapping[str, Any]:
    """Read one document, ``compute.v1``."""
    package = importlib.util.find_spec("googleapiclient")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "discovery_cache" / "documents"
    found: Mapping[str, Any] = json.loads((folder / f"{api}.json").read_text())
    return found


@functools.cache
def _methods() -> list[tuple[str, str, re.Pattern[str], Mapping[str, Any]]]:
    return [
        (api, each["httpMethod"], _pattern(document(api).get("servicePath", ""), each), each)
        for api in APIS
        for each in _all(document(api))
    ]


def _all(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from resource.get("methods", {}).values()
    for child in resource.get("resources", {}).values():
        yield from _all(child)


def _pattern(base: str, method: Mapping[str, Any]) -> re.Pattern[str]:
    path = base + (method.get("flatPath") or method["path"])
    parts = re.split(r"\{[^}]+\}", path)
    return re.compile("/" + r"[^/:]+(?::[0-9]+)?".join(map(re.escape, parts)))


def problems(method: str, path: str, query: Mapping[str, Any], body: Any) -> list[str]:
    """Say what of a call no document knows; nothing where one knows it all."""
    path, _, more = path.partition("?")
    parameters = {*query, *(each.partition("=")[0] for each in more.split("&") if each)}
    found = [each for each in _methods() if each[1] == method and each[2].fullmatch(path)]
    if not found:
        return [f"{method} {path}: no such method"]
    return min((list(_wrong(api, each, parameters, body)) for api, _, _, each in found), key=len)


def _wrong(api: str, method: Mapping[str, Any], parameters: set[str], body: Any) -> Iterator[str]:
    known = method.get("parameters", {}).keys() | document(api).get("parameters", {}).keys()
    for name in sorted(parameters - known):
        if (method["id"], name) not in EXCUSED:
            yield f"{method['id']}: no query parameter {name}"
    if body is not None and "request" not in method:
        yield f"{method['id']}: takes no body"
    elif body is not None:
        yield from _fields(api, method["request"], body, method["id"])


def _fields(api: str, schema: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = document(api)["schemas"][schema["$ref"]]
    kind = {dict: "object", list: "array", bool: "boolean"}.get(type(value))
    if kind and schema.get("type") not in (kind, "any"):
        yield f"{at}: is {schema.get('type')}, not {kind}"
    elif isinstance(value, list):
        for each in value:
            yield from _fields(api, schema["items"], each, at)
    elif isinstance(value, dict) and "properties" in schema:
        for name, each in value.items():
            if name in schema["properties"]:
                yield from _fields(api, schema["properties"][name], each, f"{at}.{name}")
            else:
                yield f"{at}: no field {name}"


@pytest.fixture(autouse=True)
def held_to_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test whose REST calls are not in the documents, wherever it sends them."""
    call = Rest.call

    async def held(self: Rest, method: str, path: str, **given: Any) -> HttpReply:
        if found := problems(method, path, given.get("query") or {}, given.get("body")):
            pytest.fail(f"not in Google's discovery documents: {'; '.join(found)}", pytrace=False)
        return await call(self, method, path, **given)

    monkeypatch.setattr(Rest, "call", held)
