"""Runs the function with a clock that is off by as many seconds as a file says: ``FILE PYTHON -m MODULE …``.

Only the clock port's own implementation is shifted, as a step of the machine's clock would: the monotonic
clock, by which timeouts run, never steps. (libfaketime was tried: it breaks sleeping where it leaves that
clock alone.)
"""

import runpy
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path


def main() -> None:
    """Shift the clock, then be the module."""
    offset, _, _, module, *rest = sys.argv[1:]
    sys.path.append(str(Path(__file__).parents[2] / "functions"))
    from logmend import wiring

    def now(_: wiring.SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(Path(offset).read_text() or "0"))

    wiring.SystemClock.now = now  # type: ignore[method-assign, assignment]
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
