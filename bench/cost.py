"""What a month costs, by arithmetic: measured calls and CPU per event, prices as assumed below."""

from collections.abc import Iterator

from bench.figures import Figure, plain

BENCH = "cost"
GAINS = "One knows what a month costs, and what a cron job would."
FLEETS = (100, 10_000, 100_000)

# Assumptions: list prices in US dollars for a tier 1 region as known in November 2026, free tiers left out.
# Cloud Run is billed by request, at 1 vCPU and 512 MiB.
VCPU_SECOND, GIB_SECOND, MILLION_REQUESTS = 0.000024, 0.0000025, 0.40
FIRESTORE_READ, FIRESTORE_WRITE = 0.03e-5, 0.09e-5  # 0.03 and 0.09 dollars per 100,000
PUBSUB_TIB, MESSAGE_KIB = 40.0, 4  # a routed entry with its push; published once, delivered once
LOGGING_GIB, OUTCOME_KIB = 0.50, 3
MACHINE_VCPU_HOUR = 0.033  # for the cron job's machine

# What happens: each VM logs its line every ten minutes until it is fixed.
PER_DAY, MONTH = 144, 30
FAULTY_AGAIN = 0.02  # of the VMs in a month: recreated, reinstalled
UNTIL_FIXED = 3  # lines of a VM in all if it is fixed at once: two log paths, one on the way
# Seconds of an instance's time. An event that ends early is billed at the minimum; an attempt waits for its
# VM. A busy instance serves many requests at once, which share the time; twenty are assumed.
EARLY, ATTEMPT, SHARED = 0.1, 1.5, 20
# Documents by the ledger's code: admission reads four and writes one; an attempt reads and writes six more.
READ, WRITTEN, MORE = 4, 1, 6
# If repeats are counted, a VM has four entries a day: the attempt, the start of its cooldown, the end of the
# cooldown and the end of the day; recording a count takes three reads and two writes.
ENTRIES, COUNTS, TOLD_READ, TOLD_WRITTEN = 4, 2, 3, 2
# gcloud compute ssh takes four seconds of a vCPU; the cron job asks every VM once an hour.
GCLOUD_SECONDS = 4


def measure() -> Iterator[Figure]:
    """Yield the rows of the table."""
    for fleet in FLEETS:
        cron = _cron(fleet)
        for mode in ("observe, an entry each", "observe, counted", "enforce"):
            events, attempts = _month(fleet, mode)
            total = _cost(events, attempts, counted=mode.endswith("counted"))
            yield plain(
                BENCH,
                f"{fleet:,} VMs in {mode}, a month",
                f"${total:,.2f}",
                against=f"cron of gcloud compute ssh to each VM, hourly: ${cron:,.2f} for the VM it runs on",
                note=f"{events:,.0f} events, {attempts:,.0f} attempts",
            )


def _month(fleet: int, mode: str) -> tuple[float, float]:
    """Return a month's events and attempts. In observe a VM goes on complaining and is checked once a day."""
    if mode != "enforce":
        return fleet * PER_DAY * MONTH, fleet * MONTH
    fixed = fleet * (1 + FAULTY_AGAIN)
    return fixed * UNTIL_FIXED, fixed


def _cost(events: float, attempts: float, *, counted: bool) -> float:
    seconds = ((events - attempts) * EARLY + attempts * ATTEMPT) / SHARED
    compute = seconds * (VCPU_SECOND + 0.5 * GIB_SECOND) + events / 1e6 * MILLION_REQUESTS
    reads, writes = events * READ + attempts * MORE, events * WRITTEN + attempts * MORE
    messages = 2 * events * MESSAGE_KIB / 2**30 * PUBSUB_TIB
    entries = attempts * ENTRIES if counted else events
    if counted:
        reads += attempts * COUNTS * TOLD_READ
        writes += attempts * COUNTS * TOLD_WRITTEN
    outcomes = entries * OUTCOME_KIB / 2**20 * LOGGING_GIB
    ticks = MONTH * 24 * 12 * (10 * FIRESTORE_READ + EARLY * VCPU_SECOND)
    return compute + reads * FIRESTORE_READ + writes * FIRESTORE_WRITE + messages + outcomes + ticks


def _cron(fleet: int) -> float:
    return max(1.0, fleet * GCLOUD_SECONDS / 3600) * MACHINE_VCPU_HOUR * 24 * MONTH
