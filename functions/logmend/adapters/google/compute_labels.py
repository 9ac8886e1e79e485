"""Setting a VM's label by compare-and-swap; see :mod:`logmend.adapters.google.compute`."""

import asyncio
import functools
from urllib.parse import quote

from logmend import instance_json
from logmend.adapters.google.compute_answers import readable, unavailable
from logmend.adapters.google.compute_calls import ComputeCalls, path_of
from logmend.adapters.google.compute_look_ups import LookUps
from logmend.errors import Permanent, Transient
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.model.values import InstanceFacts, InstanceRef

_SWAPS = 5
_POLLS = (0.2, 0.5, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0)


class Labels(Struct, frozen=True):
    """Sets labels."""

    calls: ComputeCalls
    look_ups: LookUps

    async def set_label(self, facts: InstanceFacts, key: str, value: str | None) -> None:
        """Set one label, or remove it (None), by compare-and-swap; other labels are never lost.

        If it is set already, no call is made. ``Transient("conflict")`` if other writers kept winning,
        ``Permanent("not_permitted")`` naming the permission.
        """
        labels, fingerprint = facts.labels, facts.label_fingerprint
        for _ in range(_SWAPS):
            if not fingerprint:
                await self.calls.take(facts.ref.project_id)
                document = await self.look_ups.instance(facts.ref)
                labels, fingerprint = readable(functools.partial(instance_json.labels, document))
            if labels.get(key) == value:
                return
            wanted = {name: text for name, text in labels.items() if name != key}
            if value is not None:
                wanted[key] = value
            body = {"labels": wanted, "labelFingerprint": fingerprint}
            answer = await self.calls.call("POST", path_of(facts.ref) + "/setLabels", body=body)
            if answer.ok:
                await self._done(facts.ref, answer.json or {})
                return
            error = answer.error(needs="compute.instances.setLabels")
            if answer.status == 404:
                raise Permanent("instance_gone", error.detail)
            if answer.status != 412:
                raise error if isinstance(error, Permanent) else unavailable(error)
            fingerprint = ""
        raise Transient("conflict", f"the labels of {facts.ref} change faster than they can be updated")

    async def _done(self, ref: InstanceRef, operation: JsonObject) -> None:
        """Wait for a zone operation. If it is not done in time, a later call finds it done."""
        for pause in (*_POLLS, 0.0):
            if operation.get("status") == "DONE":
                errors = (operation.get("error") or {}).get("errors") or ()
                if errors:
                    raise Transient(
                        "compute_unavailable", f"setLabels: {errors[0].get('message', errors[0])}"
                    )
                return
            await asyncio.sleep(pause)
            name = quote(str(operation.get("name", "")), safe="")
            path = f"/compute/v1/projects/{quote(ref.project_id)}/zones/{ref.zone}/operations/{name}"
            answer = await self.calls.read(ref.project_id, path)
            if not answer.ok:
                raise unavailable(answer.error(needs="compute.zoneOperations.get"))
            operation = answer.json or {}
        raise Transient("compute_unavailable", "setLabels was accepted, but is not done yet")
