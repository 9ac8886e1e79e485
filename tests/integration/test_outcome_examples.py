"""The examples of docs/outcome-topic.md, run as they stand against servers of this test's own."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Request
from tests.provider_schema import ROOT
from tests.threaded import serving
from tests.unit.test_outcome_json import but as outcome
from werkzeug.test import EnvironBuilder

from logmend.model.enums import Result
from logmend.outcome import document


class Service(ThreadingHTTPServer):
    """Keeps what it is sent, and gives the tickets of a correlation id. ``status`` answers posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.posted: list[tuple[str, dict[str, Any], str | None]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        service = self.server
        assert isinstance(service, Service)
        asked = re.search(r"active=true\^correlation_id=([0-9a-f]{40})$", unquote(self.path))
        assert asked is not None, self.path
        self._answer(200, {"result": [b for _, b, _ in service.posted if b["correlation_id"] == asked[1]]})

    def do_POST(self) -> None:
        service = self.server
        assert isinstance(service, Service)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if service.status == 200:
            service.posted.append((self.path, body, self.headers["Authorization"]))
        self._answer(service.status, {"result": body})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, said: object) -> None:
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def service() -> Iterator[Service]:
    """Give what stands for Chat, or for the ticket system."""
    with serving(Service()) as server:
        yield server


def example(name: str) -> Callable[[Request], tuple[str, int]]:
    """Give a function of the page by its name, made of the page's own text."""
    text = (ROOT / "docs" / "outcome-topic.md").read_text()
    (code,) = [each for each in re.findall(r"(?s)```python\n(.*?)```", text) if f"def {name}(" in each]
    assert len(code.splitlines()) <= 18, "somebody's few lines"
    there: dict[str, Any] = {}
    exec(code, there)  # noqa: S102 - our own page
    found: Callable[[Request], tuple[str, int]] = there[name]
    return found


def pushed(**changes: object) -> Request:
    """Give the request in which Pub/Sub pushes an outcome."""
    data = base64.b64encode(document.line(outcome(**changes)).encode()).decode()
    body = {"message": {"data": data, "messageId": "1", "attributes": {}}, "subscription": "s"}
    return Request(EnvironBuilder(method="POST", json=body).get_environ())


def test_an_outcome_is_a_message_in_its_vms_thread(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do next; and nobody is mentioned by what a VM calls itself."""
    monkeypatch.setenv("CHAT_WEBHOOK", f"{service.url}/v1/spaces/S/messages?key=K&token=T")
    tell = example("tell")
    asked = pushed(result=Result.FAILED, reason="unreachable", instance_name="web-1<users/all>")
    assert tell(asked) == ("", 204)
    assert tell(pushed(result=Result.CONTROLLED, reason="freeze_set", instance=None, runbook=None))[1] == 204
    (path, first, _), (_, second, _) = service.posted
    assert path.endswith("?key=K&token=T&messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD")
    assert first["text"].startswith("failed unreachable on web-1(users/all>: ")
    assert "<" not in first["text"]
    assert first["thread"]["threadKey"].endswith(" workload-cert-refresh")
    assert second["text"].startswith("controlled freeze_set on no VM: ")


def test_a_vm_has_one_open_ticket_however_often_it_fails(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a message is delivered twice; another runbook is another ticket."""
    monkeypatch.setenv("SERVICENOW", service.url)
    monkeypatch.setenv("AUTHORIZATION", "Bearer X")
    ticket = example("ticket")
    failed = {"result": Result.FAILED, "reason": "unreachable"}
    for changes in (failed, failed, failed | {"reason": "script_error"}, failed | {"runbook": "ops-agent"}):
        assert ticket(pushed(**changes)) == ("", 204)
    (path, first, authorization), (_, second, _) = service.posted
    assert (path, authorization) == ("/api/now/table/incident", "Bearer X")
    assert first["short_description"] == "web-1: failed unreachable"
    assert first["description"]
    assert first["correlation_id"] != second["correlation_id"]


@pytest.mark.parametrize("name", ["tell", "ticket"])
def test_what_the_other_side_does_not_take_is_delivered_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The function fails, which Pub/Sub is not told is fine."""
    service.status = 503
    monkeypatch.setenv("CHAT_WEBHOOK", f"{service.url}/v1/spaces/S/messages?key=K")
    monkeypatch.setenv("SERVICENOW", service.url)
    monkeypatch.setenv("AUTHORIZATION", "Bearer X")
    with pytest.raises(OSError, match="503"):
        example(name)(pushed(result=Result.FAILED, reason="unreachable"))
