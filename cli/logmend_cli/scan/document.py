"""A scan's result as JSON data: ``{"instances": […], "totals": {…}}``, always with every key. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from logmend import explain
from logmend.model.values import InstanceRef, Lineage, Verdict
from logmend.outcome import reasons
from logmend_cli import output
from logmend_cli.alike import Causes
from logmend_cli.scan.groups import Form, Groups, Scanned


def instance(scanned: Scanned, columns: Sequence[str] = ()) -> dict[str, Any]:
    """Return the object of one VM under one runbook; ``columns`` are the keys of the labels to show."""
    seen, verdict = scanned.seen, scanned.verdict
    ref = seen.instance
    return {
        "instance": {
            "project_id": ref.project_id,
            "zone": ref.zone,
            "instance_id": ref.instance_id,
        },
        "name": scanned.name,
        "runbook": seen.runbook.name,
        "count": seen.count,
        "first_seen": _time(seen.first),
        "last_seen": _time(seen.last),
        "log_paths": sorted({form.log_path for form, _ in scanned.forms}),
        "variants": sorted({form.variant for form, _ in scanned.forms if form.variant}),
        "hosts": list(scanned.hosts),
        "result": verdict.result.value,
        "reason": verdict.reason,
        "detail": verdict.detail,
        **_made(scanned.made),
        "owner": scanned.owner,
        "labels": {key: scanned.labels.get(key) for key in columns},
        "pending_guards": list(scanned.pending),
        "forms": [_form(form, verdict) for form, verdict in scanned.forms],
    }


def totals(
    groups: Groups, scanned: Iterable[Scanned], facts: str, columns: Sequence[str] = ()
) -> dict[str, object]:
    """Sum up. ``facts`` is the facts' source: ``compute`` or ``none``; ``columns`` as in :func:`instance`."""
    results = Counter[str]()
    seen, alike, owners = [], Causes(), dict[str, set[InstanceRef]]()
    labels = {key: dict[str, set[InstanceRef]]() for key in columns}
    for each in scanned:
        what = output.word(each.verdict.result.value, each.verdict.reason)
        results[what] += 1
        alike.said(each.seen.instance, each.seen.runbook.name, what, each.made)
        seen.append(each.seen)
        if each.owner is not None:
            owners.setdefault(each.owner, set()).add(each.seen.instance)
        for key, values in labels.items():
            if (value := each.labels.get(key)) is not None:
                values.setdefault(value, set()).add(each.seen.instance)
    turned = {output.word(*key): count for key, count in groups.turned_away.most_common()}
    return {
        "instances": len({each.instance for each in seen}),
        "results": dict(results.most_common()),
        "entries": groups.entries,
        "matched": groups.matched,
        "unmatched": groups.unmatched,
        "turned_away": turned,
        "unknown_form": {
            "entries": groups.spoken.entries,
            "resources": groups.spoken.resources,
            "first": groups.spoken.first,
        },
        "quoted_by": dict(groups.spoken.quotes.most_common()),
        "ill_formed": dict(groups.ill_formed.most_common()),
        "first_seen": _time(min((each.first for each in seen if each.first), default=None)),
        "last_seen": _time(max((each.last for each in seen if each.last), default=None)),
        "facts": facts,
        "alike": [each.row for each in alike.rows()],
        "owners": _counted(owners),
        "labels": {key: _counted(values) for key, values in labels.items()},
    }


def _counted(vms: Mapping[str, set[InstanceRef]]) -> dict[str, int]:
    return dict(sorted(((each, len(those)) for each, those in vms.items()), key=lambda each: -each[1]))


def by_label(labels: Mapping[str, object]) -> dict[str, object]:
    """Return labels as columns of a table or of CSV: ``label:KEY``."""
    return {f"label:{key}": value for key, value in labels.items()}


def _made(made: Lineage) -> dict[str, Any]:
    return {"group": made.group, "template": made.template, "image": made.image}


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an instance's object as one flat row, for CSV."""
    joined = {key: "; ".join(document[key]) for key in ("log_paths", "variants", "pending_guards")}
    return {**document["instance"], **document, **joined, **by_label(document["labels"])}


def row(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of the table."""
    return {
        **document["instance"],
        **document,
        "vm": document["name"] or document["instance"]["instance_id"],
        "log_paths": [path.replace(_SERIAL, "serial console ") for path in document["log_paths"]],
        "why": why(document),
        "first_seen": _brief(document["first_seen"]),
        "last_seen": _brief(document["last_seen"]),
        **by_label(document["labels"]),
    }


def why(document: Mapping[str, Any]) -> str:
    """Return why, in a few words: the reason, or else the guards that are still pending."""
    if document["reason"]:
        return f"{document['reason']}: {document['detail']}" if document["detail"] else document["reason"]
    pending = len(document["pending_guards"])
    verdict = f"not looked up: {pending} guards pending" if pending else "no guard objects"
    return f"{verdict}; {document['detail']}" if document["detail"] else verdict


def meaning(results: Mapping[str, int]) -> Iterable[tuple[int, str, str]]:
    """Yield each result's number of VMs, its name and its meaning."""
    for name, count in results.items():
        result, _, reason = name.partition(": ")
        known = reasons.REASONS.get(reason)
        yield count, name, known.meaning if known else _MEANS.get(result, "")


_SERIAL = "serialconsole.googleapis.com/serial_port_1_output "
_MEANS = {"planned": "No guard objects so far; the VM itself has not been checked."}


def _form(form: Form, verdict: Verdict) -> dict[str, object]:
    return {
        "log_path": form.log_path,
        "variant": form.variant,
        "host": form.host,
        "count": form.count,
        "first_seen": _time(form.first),
        "last_seen": _time(form.last),
        "result": verdict.result.value,
        "reason": verdict.reason,
    }


def _time(at: datetime | None) -> str | None:
    if at is None or at == explain.NO_TIME:
        return None
    return at.isoformat().replace("+00:00", "Z")


def _brief(text: str | None) -> str | None:
    """Cut a time down to its minutes."""
    return None if text is None else text[:16].replace("T", " ")
