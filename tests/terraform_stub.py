"""A stand-in for the Google, archive and time providers: real Terraform plans our modules without a network.

It speaks Terraform's plugin protocol 5 (hashicorp/terraform, docs/plugin-protocol) with the schema that
:mod:`tests.provider_schema` reads from the provider's own. Terraform itself then evaluates every expression,
validation, ``for_each`` and type. What Google's API would make of a value is not checked: a plan shows what
we ask for, no more. Attributes that the provider computes are unknown in a plan, as they are in life; with
``STUB_KNOWN=1`` they get made-up values, so that a test can look at what depends on them.

With ``STUB_SPEED`` (seconds here for one of Google's) an apply meets a Google that is slow to make things
ready, as :class:`Slow` says, and ``time_sleep`` really sleeps, as much shorter. Else all is there at once.

Run by Terraform, not by hand: ``python -m tests.terraform_stub google|archive|time``.
"""

import json
import os
import re
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc as untyped_grpc
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests import provider_schema

grpc: Any = untyped_grpc
UNKNOWN = msgspec.msgpack.Ext(0, b"\0")
# What we need of tfplugin5.proto: message → field number, name, kind (``*`` repeated, ``%`` a map by string).
MESSAGES: Mapping[str, list[str]] = {
    "DynamicValue": ["1 msgpack bytes", "2 json bytes"],
    "Diagnostic": ["1 severity int32", "2 summary string", "3 detail string"],
    "Attribute": [
        "1 name string",
        "2 type bytes",
        "4 required bool",
        "5 optional bool",
        "6 computed bool",
    ],
    "NestedBlock": [
        "1 type_name string",
        "2 block Block",
        "3 nesting int32",
        "4 min_items int64",
        "5 max_items int64",
    ],
    "Block": ["1 version int64", "2 attributes *Attribute", "3 block_types *NestedBlock"],
    "Schema": ["1 version int64", "2 block Block"],
    "Empty": [],
    "SchemaResponse": [
        "1 provider Schema",
        "2 resource_schemas %Schema",
        "3 data_source_schemas %Schema",
        "4 diagnostics *Diagnostic",
    ],
    "Config": ["1 config DynamicValue"],
    "Prepared": ["1 prepared_config DynamicValue", "2 diagnostics *Diagnostic"],
    "Typed": ["1 type_name string", "2 config DynamicValue"],
    "Diagnostics": ["1 diagnostics *Diagnostic"],
    "Read": ["1 type_name string", "2 current_state DynamicValue"],
    "State": ["1 state DynamicValue", "2 diagnostics *Diagnostic"],
    "RawState": ["1 json bytes"],
    "Upgrade": ["1 type_name string", "2 version int64", "3 raw_state RawState"],
    "Change": [
        "1 type_name string",
        "2 prior_state DynamicValue",
        "3 proposed DynamicValue",
        "4 config DynamicValue",
    ],
    "Planned": ["1 planned_state DynamicValue", "4 diagnostics *Diagnostic", "5 legacy_type_system bool"],
    "Applied": ["1 new_state DynamicValue", "3 diagnostics *Diagnostic", "4 legacy_type_system bool"],
}


def _messages() -> dict[str, Any]:
    make_file: Any = vars(descriptor_pb2)["FileDescriptorProto"]
    file = make_file(name="stub.proto", package="stub", syntax="proto3")
    kinds = {"bytes": 12, "string": 9, "bool": 8, "int32": 5, "int64": 3}
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for line in fields:
            number, field, kind = line.split()
            of = kind.lstrip("*%")
            added = message.field.add(name=field, number=int(number), label=3 if kind[0] in "*%" else 1)
            if kind[0] == "%":
                entry = message.nested_type.add(
                    name="".join(p.capitalize() for p in field.split("_")) + "Entry"
                )
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=1, type=9)
                entry.field.add(name="value", number=2, label=1, type=11, type_name=f".stub.{of}")
                added.type, added.type_name = 11, f".stub.{name}.{entry.name}"
            elif of in kinds:
                added.type = kinds[of]
            else:
                added.type, added.type_name = 11, f".stub.{of}"
    pool: Any = vars(descriptor_pool)["DescriptorPool"]()
    pool.Add(file)
    class_of: Any = message_factory.GetMessageClass
    return {name: class_of(pool.FindMessageTypeByName(f"stub.{name}")) for name in MESSAGES}


M = _messages()


def _schema(block: Mapping[str, Any]) -> Any:
    return M["Schema"](block=_block(block))


def _block(block: Mapping[str, Any]) -> Any:
    made = M["Block"]()
    for name, each in block["attributes"].items():
        required, computed = bool(each.get("required")), bool(each.get("computed"))
        made.attributes.add(
            name=name,
            type=json.dumps(each["type"]).encode(),
            required=required,
            computed=computed,
            optional=not required and not computed,
        )
    for name, nested in block["blocks"].items():
        made.block_types.add(
            type_name=name,
            block=_block(nested),
            nesting=2,
            min_items=1 if nested.get("required") else 0,
            max_items=0 if nested["many"] else 1,
        )
    return made


def _unpack(value: Any) -> Any:
    return msgspec.msgpack.decode(value.msgpack) if value.msgpack else json.loads(value.json or b"null")


def _pack(value: Any) -> Any:
    return M["DynamicValue"](msgpack=msgspec.msgpack.encode(value))


def _fill(kind: str, name: str, block: Mapping[str, Any], value: dict[str, Any], top: dict[str, Any]) -> None:
    """Give what the provider would compute: unknown, or made up where a test asked for that."""
    for attribute, each in block["attributes"].items():
        if value.get(attribute) is None and each.get("computed"):
            value[attribute] = _made_up(name, attribute, each["type"], top) if kind == "known" else UNKNOWN
    for nested, of in block["blocks"].items():
        for each in value.get(nested) or []:
            if isinstance(each, dict):
                _fill(kind, name, of, each, top)


def _made_up(name: str, attribute: str, of: Any, top: Mapping[str, Any]) -> Any:
    project = top.get("project") or top.get("project_id") or f"organizations/{top.get('org_id')}"
    known: Mapping[str, Callable[[], Any]] = {
        "google_service_account.email": lambda: f"{top['account_id']}@{project}.iam.gserviceaccount.com",
        "google_service_account.name": lambda: (
            f"projects/{project}/serviceAccounts/{top['account_id']}@{project}.iam.gserviceaccount.com"
        ),
        "google_project.number": lambda: str(zlib.crc32(str(project).encode())),
        "google_pubsub_topic.id": lambda: f"projects/{project}/topics/{top['name']}",
        "google_project_iam_custom_role.id": lambda: f"projects/{project}/roles/{top['role_id']}",
        "google_organization_iam_custom_role.id": lambda: (
            f"organizations/{top['org_id']}/roles/{top['role_id']}"
        ),
        "google_cloudfunctions2_function.uri": lambda: f"https://{top['name']}-0123456789-uc.a.run.app",
    }
    if found := known.get(f"{name}.{attribute}"):
        return found()
    if of == "string":
        return f"{name}.{attribute}({top.get('name') or top.get('role_id') or ''})"
    empty: Mapping[str, Any] = {"number": 0, "bool": False, "dynamic": None}
    return empty[of] if isinstance(of, str) else {} if of[0] == "map" else []


class Slow:
    """What is not there yet, and the error that Google gives until then.

    Of metrics: terraform-provider-google, issue 11102. Of agents: what setIamPolicy says of a member
    that does not exist. The others are of a service just enabled, and of a build that cannot read its source.
    Google's real times vary from apply to apply; these are just under the waits of deploy/waits.tf.
    """

    METRIC, AGENT, API, ROLE = 590.0, 55.0, 55.0, 115.0

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._made: dict[str, float] = {}
        self._lock = threading.Lock()

    def made(self, kind: str, value: Mapping[str, Any]) -> None:
        """Remember when something was made that others wait for."""
        names: Mapping[str, Callable[[], str]] = {
            "google_logging_metric": lambda: f"metric {value['name']}",
            "google_project_service": lambda: f"api {value['project']}",
            "google_pubsub_topic": lambda: "agent gcp-sa-pubsub",
            "google_monitoring_notification_channel": lambda: "agent gcp-sa-monitoring-notification",
            "google_project_iam_member": lambda: f"role {value['member']}",
        }
        if (name := names.get(kind)) is not None:
            with self._lock:
                latest = name().startswith(("api", "role"))  # the last of them counts, else the first
                if latest or name() not in self._made:
                    self._made[name()] = time.monotonic()

    def refusal(self, kind: str, value: Mapping[str, Any]) -> str | None:
        """Say what Google says while something that this needs is not there yet."""
        if not self._speed or kind == "google_project_service":
            return None
        if value.get("project") and not self._ready(f"api {value['project']}", self.API):
            return "Error 403: API has not been used in project before or it is disabled."
        text = json.dumps(value, default=str)
        for metric in re.findall(r"logging\.googleapis\.com/user/([^\\\"]+)", text):
            if kind == "google_monitoring_alert_policy" and not self._ready(f"metric {metric}", self.METRIC):
                return (
                    f'Error 404: Cannot find metric(s) that match type = "{metric}". Please try again soon.'
                )
        for agent in re.findall(r"@(gcp-sa-[a-z-]+)\.iam", str(value.get("member", ""))):
            if not self._ready(f"agent {agent}", self.AGENT):
                return f"Error 400: Service account {value['member']} does not exist."
        if kind == "google_cloudfunctions2_function":
            for account in re.findall(r"[a-z-]+@[a-z0-9.-]+\.iam\.gserviceaccount\.com", text):
                if not self._ready(f"role serviceAccount:{account}", self.ROLE):
                    return f"Error: build failed: {account} does not have storage.objects.get access."
        return None

    def _ready(self, name: str, after: float) -> bool:
        with self._lock:
            made = self._made.get(name)
        return made is not None and time.monotonic() - made >= after * self._speed


class Provider:
    """Answers the calls that Terraform makes for validate, plan, apply and destroy."""

    def __init__(self, which: str, schema: Mapping[str, Any]) -> None:
        own = f"{which}_"
        self.resources = {name: block for name, block in schema["resource"].items() if name.startswith(own)}
        self.data = {name: block for name, block in schema["data"].items() if name.startswith(own)}
        self.kind = "known" if os.environ.get("STUB_KNOWN") == "1" else "unknown"
        self.stopped = threading.Event()
        self.speed = float(os.environ.get("STUB_SPEED", "0"))
        self.slow = Slow(self.speed)

    def get_schema(self, _request: Any) -> Any:
        """Give every schema. The provider's own configuration is taken as it comes."""
        strings = {name: {"type": "string"} for name in ("project", "region", "zone")}
        answer = M["SchemaResponse"](provider=_schema({"attributes": strings, "blocks": {}}))
        for name, block in self.resources.items():
            answer.resource_schemas[name].CopyFrom(_schema(block))
        for name, block in self.data.items():
            answer.data_source_schemas[name].CopyFrom(_schema(block))
        return answer

    def plan(self, request: Any) -> Any:
        """Plan what was asked for; a change of anything is a change in place."""
        proposed = _unpack(request.proposed)
        if isinstance(proposed, dict) and _unpack(request.prior_state) is None:
            _fill(self.kind, request.type_name, self.resources[request.type_name], proposed, proposed)
        return M["Planned"](planned_state=_pack(proposed), legacy_type_system=True)

    def apply(self, request: Any) -> Any:
        """Say that it was done."""
        planned = _unpack(request.proposed)
        if isinstance(planned, dict):
            block = self.resources[request.type_name]
            _clear(planned)
            if refused := self.slow.refusal(request.type_name, planned):
                error = {"severity": 1, "summary": refused}
                return M["Applied"](
                    new_state=request.prior_state, diagnostics=[error], legacy_type_system=True
                )
            if request.type_name == "time_sleep":
                time.sleep(float(planned["create_duration"].removesuffix("s")) * self.speed)
            _fill("known", request.type_name, block, planned, planned)
            self.slow.made(request.type_name, planned)
        return M["Applied"](new_state=_pack(planned), legacy_type_system=True)

    def read_data(self, request: Any) -> Any:
        """Read a data source: made up, but for the archive, which is really packed."""
        value = _unpack(request.config)
        if request.type_name == "archive_file":
            _zip(value)
        _fill("known", request.type_name, self.data[request.type_name], value, value)
        return M["State"](state=_pack(value))

    def stop(self, _request: Any) -> Any:
        """End, once the answer is out."""
        threading.Timer(0.05, self.stopped.set).start()
        return M["Empty"]()

    def methods(self) -> dict[str, dict[str, tuple[str, Callable[[Any], Any]]]]:
        """Give service → method → request message and handler."""
        fine = M["Diagnostics"]()
        return {
            "tfplugin5.Provider": {
                "GetSchema": ("Empty", self.get_schema),
                "PrepareProviderConfig": ("Config", lambda r: M["Prepared"](prepared_config=r.config)),
                "ValidateResourceTypeConfig": ("Typed", lambda _: fine),
                "ValidateDataSourceConfig": ("Typed", lambda _: fine),
                "Configure": ("Empty", lambda _: fine),
                "UpgradeResourceState": ("Upgrade", lambda r: M["State"](state={"json": r.raw_state.json})),
                "ReadResource": ("Read", lambda r: M["State"](state=r.current_state)),
                "PlanResourceChange": ("Change", self.plan),
                "ApplyResourceChange": ("Change", self.apply),
                "ReadDataSource": ("Typed", self.read_data),
                "Stop": ("Empty", self.stop),
            },
            "plugin.GRPCController": {"Shutdown": ("Empty", self.stop)},
        }


def _clear(value: Any) -> None:
    """Make what the plan left unknown absent."""
    for key, each in list(value.items()):
        if isinstance(each, msgspec.msgpack.Ext):
            value[key] = None
        elif isinstance(each, list):
            for item in each:
                if isinstance(item, dict):
                    _clear(item)


def _zip(value: Mapping[str, Any]) -> None:
    path = Path(value["output_path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for source in value["source"]:
            archive.writestr(source["filename"], source["content"])


def serve(which: str) -> None:
    """Serve one provider until Terraform is done with it."""
    provider = Provider(which, provider_schema.kept())
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)])
    for service, methods in provider.methods().items():
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                lambda request, _context, handle=handle: handle(request),
                request_deserializer=M[message].FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, (message, handle) in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"1|5|tcp|127.0.0.1:{port}|grpc", flush=True)
    provider.stopped.wait(300)
    server.stop(0)
    os._exit(0)


VERSIONS = {"google": "6.50.0", "archive": "2.7.1", "time": "0.13.1"}


def mirror(folder: Path) -> Path:
    """Lay out a provider mirror in ``folder`` and give the Terraform CLI configuration that uses it."""
    machine = os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64")
    system = f"{os.uname().sysname.lower()}_{machine}"
    for which, version in VERSIONS.items():
        place = folder / "registry.terraform.io" / "hashicorp" / which / version / system
        place.mkdir(parents=True, exist_ok=True)
        program = place / f"terraform-provider-{which}_v{version}"
        run = f'PYTHONPATH="{provider_schema.ROOT}" exec "{sys.executable}" -m tests.terraform_stub {which}'
        program.write_text(f"#!/bin/sh\n{run}\n")
        program.chmod(0o755)
    config = folder / "terraformrc"
    config.write_text(f'provider_installation {{\n  filesystem_mirror {{\n    path = "{folder}"\n  }}\n}}\n')
    return config


if __name__ == "__main__":
    serve(sys.argv[1])
