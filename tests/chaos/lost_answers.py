"""Runs the function over a Firestore whose answers get lost: ``commits|counts FOLDER PYTHON -m MODULE …``.

The call is really made, and what it writes is there. Where it passes the commit point (``commits``) or counts
an event (``counts``), its answer is lost, as by a connection that broke: a file in ``FOLDER`` named after the
VM or the event says so. Whoever asked hears of it once there is a file ``lost``: until then it waits, as for
an answer. The first commit of each VM and the count of each event meet this, later ones do not.

Not lost are answers to what else the ledger is asked. What the store does for other VMs goes on meanwhile,
which a call that really waits would hold up.
"""

import asyncio
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.api_core.exceptions import ServiceUnavailable

LOST = "the answer is lost"


def committed(rows: Any) -> set[str]:
    """Give the ids of the VMs of which these rows say that enforcing may begin."""
    records = [
        row.document().data
        for (collection, _), row in rows.items()
        if row is not None and collection == "intents"
    ]
    return {
        each["intent"]["instance"]["instance_id"]
        for each in records
        if each["committed"] and each["state"] == "running"
    }


def counted(rows: Any) -> set[str]:
    """Give the ids of the intents that these rows count."""
    days = [row.document().data for (collection, _), row in rows.items() if row and collection == "repeats"]
    return {each for day in days for tally in day["tallies"].values() for each in tally["ids"]}


def main() -> None:
    """Have answers lost, then be the module."""
    what, place, _, _, module, *rest = sys.argv[1:]
    folder, found = Path(place), {"commits": committed, "counts": counted}[what]
    sys.path.append(str(Path(__file__).parents[2] / "functions"))
    from logmend.adapters.stores.firestore import FirestoreStore
    from logmend.adapters.stores.firestore_wire import Database
    from logmend.errors import Transient

    commit, transact = Database.commit, FirestoreStore.transact

    async def lossy(self: Database, read: Any, rows: Any, *more: Any, **how: Any) -> Any:
        written = await commit(self, read, rows, *more, **how)
        new = {each for each in found(rows) if not (folder / each).exists()}
        for each in new:
            (folder / each).touch()
        if new:
            raise ServiceUnavailable(LOST)  # type: ignore[no-untyped-call]
        return written

    async def late(self: FirestoreStore, keys: Sequence[Any], step: Any) -> Any:
        try:
            return await transact(self, keys, step)
        except Transient as error:
            while LOST in error.detail and not (folder / "lost").exists():  # noqa: ASYNC110  another makes it
                await asyncio.sleep(0.02)
            raise

    Database.commit, FirestoreStore.transact = lossy, late  # type: ignore[method-assign]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
