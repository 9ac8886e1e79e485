"""The Google provider's own schema, without a network, and the check of our Terraform files against it.

Source: the wheel ``cdktf-cdktf-provider-google`` (MPL-2.0), generated from the provider by HashiCorp, carries
``_jsii/*.tgz`` → ``package/.jsii``: every resource's arguments in camelCase, with types, whether they
are required, and ``Possible values: [...]`` in their descriptions. The wheel is 49 MB, so what our files
use of it is kept in ``tests/data/``; a test compares that copy with the wheel where the wheel is at hand
(``out/tools/``, or installed), and this renews it:

    pip download --no-deps --dest out/tools cdktf-cdktf-provider-google==16.12.1
    python -m tests.provider_schema
"""

import functools
import importlib.util
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODULES = (ROOT / "deploy", ROOT / "sink")
KEPT = ROOT / "tests" / "data" / "provider-google-6.50.0.json"
WHEEL = ROOT / "out" / "tools" / "cdktf_cdktf_provider_google-16.12.1-py3-none-any.whl"

META_ARGUMENTS = frozenset({"count", "for_each", "provider", "depends_on"})
META_BLOCKS = frozenset({"lifecycle", "connection", "provisioner"})

# hashicorp/archive and the built-in terraform_data are no part of the Google provider: written from
# registry.terraform.io/providers/hashicorp/archive/2.7.1/docs/data-sources/file.
ARCHIVE_FILE: dict[str, Any] = {
    "attributes": {
        "type": {"type": "string", "required": True},
        "output_path": {"type": "string", "required": True},
        "output_file_mode": {"type": "string"},
        "source_dir": {"type": "string"},
        "source_file": {"type": "string"},
        "excludes": {"type": ["set", "string"]},
        **{
            name: {"type": "string", "computed": True}
            for name in ("id", "output_md5", "output_sha256", "output_base64sha256")
        },
    },
    "blocks": {
        "source": {
            "many": True,
            "attributes": {
                "content": {"type": "string", "required": True},
                "filename": {"type": "string", "required": True},
            },
            "blocks": {},
        }
    },
}

# hashicorp/time likewise: registry.terraform.io/providers/hashicorp/time/0.13.1/docs/resources/sleep.
TIME_SLEEP: dict[str, Any] = {
    "attributes": {
        "create_duration": {"type": "string"},
        "destroy_duration": {"type": "string"},
        "triggers": {"type": ["map", "string"]},
        "id": {"type": "string", "computed": True},
    },
    "blocks": {},
}


# From the wheel to a schema


def published() -> Path:
    """Give the archive that the package carries, if it is installed, else the wheel, there or not."""
    found = importlib.util.find_spec("cdktf_cdktf_provider_google")
    places = found.submodule_search_locations if found else None
    return next((each for place in places or () for each in Path(place).glob("_jsii/*.jsii.tgz")), WHEEL)


def jsii_types(path: Path) -> Mapping[str, Any]:
    """Read the generated types out of wheel or archive: qualified name → description."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            packed = io.BytesIO(wheel.read(inner))
    else:
        packed = io.BytesIO(path.read_bytes())
    with tarfile.open(fileobj=packed, mode="r:gz") as tar:
        member = tar.extractfile("package/.jsii")
        assert member is not None
        types: Mapping[str, Any] = json.load(member)["types"]
        return types


def extract(types: Mapping[str, Any], kind: str, name: str) -> dict[str, Any] | None:
    """Give the schema of one resource (or, with ``kind`` data, data source); None if there is none."""
    pascal = "".join(part.capitalize() for part in name.split("_")[1:])
    pascal = f"DataGoogle{pascal}" if kind == "data" else pascal
    prefix = f"@cdktf/provider-google.{pascal[0].lower()}{pascal[1:]}.{pascal}"
    if f"{prefix}Config" not in types:
        return None
    block = _block(types, f"{prefix}Config", prefix)
    block["attributes"]["id"] = {
        "type": "string",
        "computed": True,
    }  # settable in cdktf alone, for old providers
    return block


def _block(types: Mapping[str, Any], config: str, instance: str | None) -> dict[str, Any]:
    """Turn one configuration type, and the type of its live counterpart, into attributes and blocks."""
    block: dict[str, Any] = {"attributes": {}, "blocks": {}}
    for prop in types[config].get("properties", []):
        name, required = _snake(prop), not prop.get("optional", False)
        nested, many = _nested(prop["type"])
        summary = prop["docs"].get("summary", "")
        if nested is not None and summary.endswith(" block."):
            inner = _block(types, nested, f"{nested}OutputReference")
            block["blocks"][name] = {"many": many, **({"required": True} if required else {}), **inner}
            continue
        attribute: dict[str, Any] = {"type": _type(prop["type"])}
        if required:
            attribute["required"] = True
        if values := re.search(r"Possible values: (\[.*?\])", summary):
            attribute["values"] = json.loads(values[1])
        block["attributes"][name] = attribute
    for prop in types.get(instance or "", {}).get("properties", []):
        name = _snake(prop)
        hidden = prop["name"].endswith("Input") or prop["name"] in ("internalValue", "tfResourceType", "fqn")
        if not hidden and name not in block["attributes"] and name not in block["blocks"]:
            block["attributes"][name] = {"type": _type(prop["type"]), "computed": True}
    return block


def _snake(prop: Mapping[str, Any]) -> str:
    """Give an argument's Terraform name: as its documentation link has it, else from camelCase."""
    docs = " ".join(str(text) for text in prop.get("docs", {}).values())
    if linked := re.search(r"#([a-z0-9_]+) \w+#\1\b", docs):
        return linked[1]
    return re.sub(r"(?<!^)([A-Z])", r"_\1", prop["name"]).lower()


def _nested(of: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Give the qualified name of a nested structure and whether there may be many of it."""
    choices = [of, *of.get("union", {}).get("types", [])]
    for choice in choices:
        name = choice.get("fqn", "")
        if name.startswith("@cdktf/provider-google."):
            return name, False
        element = choice.get("collection", {}).get("elementtype", {}).get("fqn", "")
        if element.startswith("@cdktf/provider-google."):
            return element, True
    return None, False


def _type(of: Mapping[str, Any]) -> Any:
    """Give Terraform's type, as JSON writes it; ``dynamic`` for what has no simple one."""
    if primitive := of.get("primitive"):
        return {"boolean": "bool"}.get(primitive, primitive)
    if collection := of.get("collection"):
        element = _type(collection["elementtype"])
        return (
            "dynamic" if element == "dynamic" else [{"array": "list"}.get(collection["kind"], "map"), element]
        )
    if union := of.get("union"):
        known = [_type(choice) for choice in union["types"] if choice.get("fqn") != "cdktf.IResolvable"]
        return known[0] if len(known) == 1 else "dynamic"
    simple = {"cdktf.IResolvable": "bool", "cdktf.StringMap": ["map", "string"]}
    return simple.get(of.get("fqn", ""), "dynamic")


def kept() -> dict[str, Any]:
    """Read the kept copy: ``{"provider": …, "resource": {name: block}, "data": {name: block}}``."""
    schema: dict[str, Any] = json.loads(KEPT.read_text())
    schema["data"]["archive_file"] = ARCHIVE_FILE
    schema["resource"]["time_sleep"] = TIME_SLEEP
    return schema


def renewed(types: Mapping[str, Any], modules: tuple[Path, ...] = MODULES) -> dict[str, Any]:
    """Extract anew whatever our files use. An unknown resource is left out, for the check to find."""
    schema: dict[str, Any] = {"provider": "hashicorp/google 6.50.0", "resource": {}, "data": {}}
    for path in files(modules):
        parsed = parse(path.read_text())
        for kind in ("resource", "data"):
            for name, _label, _body in _labelled(parsed, kind):
                if name.startswith("google_") and (block := extract(types, kind, name)) is not None:
                    schema[kind][name] = block
    return schema


# From Terraform files to problems


def files(modules: tuple[Path, ...] = MODULES) -> list[Path]:
    """List the Terraform files of the modules."""
    return [
        path for module in modules for path in sorted(module.rglob("*.tf")) if ".terraform" not in path.parts
    ]


@functools.cache
def parse(text: str) -> dict[str, Any]:
    """Parse HCL, once: it takes seconds.

    Blocks carry ``__is_block__``, literal strings keep quotes, expressions are ``${…}``.
    """
    import hcl2  # the stand-in provider starts many times and never needs it

    parsed: dict[str, Any] = hcl2.loads(text)
    return parsed


def problems(text: str, schema: Mapping[str, Any], *, where: str = "") -> list[str]:
    """Say in one sentence each what the provider would not accept of a file's resources and data sources."""
    parsed = parse(text)
    found: list[str] = []
    for kind in ("resource", "data"):
        for name, label, body in _labelled(parsed, kind):
            at = f"{where}{kind}.{name}.{label}"
            if name == "terraform_data":
                continue
            if name not in schema[kind]:
                found.append(f"{at}: the provider has no {kind} {name}")
            else:
                found.extend(_check(at, body, schema[kind][name], top=True))
    return found


def _check(at: str, body: Mapping[str, Any], block: Mapping[str, Any], *, top: bool = False) -> Iterator[str]:
    attributes, blocks = block["attributes"], block["blocks"]
    dynamic = {_bare(name) for each in body.get("dynamic", []) for name in each if not name.startswith("__")}
    for name, value in body.items():
        if name.startswith("__") or (top and (name in META_ARGUMENTS or name in META_BLOCKS)):
            continue
        if name == "dynamic":
            yield from _check_dynamic(at, value, block)
        elif _is_block(value):
            if name not in blocks:
                yield f"{at}.{name}: no such block{' (it is an argument)' if name in attributes else ''}"
                continue
            if len(value) > 1 and not blocks[name]["many"]:
                yield f"{at}.{name}: at most one such block"
            for each in value:
                yield from _check(f"{at}.{name}", each, blocks[name])
        elif name not in attributes:
            yield f"{at}.{name}: no such argument{' (it is a block)' if name in blocks else ''}"
        elif attributes[name].get("computed"):
            yield f"{at}.{name}: read-only"
        else:
            yield from _check_value(f"{at}.{name}", value, attributes[name])
    for name, attribute in attributes.items():
        if attribute.get("required") and name not in body:
            yield f"{at}.{name}: required argument missing"
    for name, nested in blocks.items():
        if nested.get("required") and name not in body and name not in dynamic:
            yield f"{at}.{name}: required block missing"


def _check_dynamic(at: str, dynamics: list[dict[str, Any]], block: Mapping[str, Any]) -> Iterator[str]:
    for each in dynamics:
        for quoted, body in each.items():
            if quoted.startswith("__"):
                continue
            name = _bare(quoted)
            if name not in block["blocks"]:
                yield f"{at}.{name}: no such block"
                continue
            for content in body.get("content", []):
                yield from _check(f"{at}.{name}", content, block["blocks"][name])


def _check_value(at: str, value: Any, attribute: Mapping[str, Any]) -> Iterator[str]:
    """Hold literals against type and allowed values; expressions are Terraform's own to judge."""
    of = attribute["type"]
    literal = isinstance(value, str) and value.startswith('"') and "${" not in value
    if isinstance(value, bool):
        fits = of in ("bool", "string", "dynamic")
    elif isinstance(value, int | float):
        fits = of in ("number", "string", "dynamic")
    elif isinstance(value, list):
        fits = of == "dynamic" or of[0] in ("list", "set")
    elif isinstance(value, dict):
        fits = of == "dynamic" or of[0] == "map"
    elif literal:
        fits = of in ("string", "dynamic")
        if fits and attribute.get("values") and _bare(value) not in attribute["values"]:
            yield f"{at}: {value} is none of {', '.join(attribute['values'])}"
    else:
        fits = True
    if not fits:
        yield f"{at}: {value!r} is no {of}"


def _labelled(parsed: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for each in parsed.get(kind, []):
        for name, labels in each.items():
            for label, body in labels.items():
                yield _bare(name), _bare(label), body


def labelled(parsed: Mapping[str, Any], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the blocks with one label (``variable``, ``output``, ``module``) of a parsed file."""
    for each in parsed.get(kind, []):
        for label, body in each.items():
            if not label.startswith("__"):
                yield _bare(label), body


def _is_block(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(v, dict) and "__is_block__" in v for v in value)
    )


def _bare(text: str) -> str:
    return text.removeprefix('"').removesuffix('"')


if __name__ == "__main__":
    KEPT.write_text(json.dumps(renewed(jsii_types(published())), indent=1, sort_keys=True) + "\n")
