"""Every key of ``runbook.yaml``, checked and read into a :class:`Runbook`."""

from collections.abc import Mapping
from typing import Literal

from logmend.model.values import UNKNOWN, Concerns
from logmend.runbook.decode import KEBAB, SNAKE, Reader
from logmend.runbook.scripts import digest_of
from logmend.runbook.types import DIAGNOSE, EXECUTORS, Cause, Condition, Limits, Runbook, Scripts, Variant

CONCERNS: tuple[Concerns, ...] = ("owner", "fleet", "logmend")

_STEP = r"[^{}\n]*(?:\{(?:vm|instance)\}[^{}\n]*)*"
"""A next step: text whose only placeholders are ``{vm}`` and ``{instance}``."""

VERDICTS: tuple[Literal["act", "refuse"], ...] = ("act", "refuse")

MAX_NAME = 63 - len("logmend--enforce")
"""Most characters of a name: ``logmend-NAME-enforce`` is an OS policy assignment's id, which has at most 63
(cloud.google.com/compute/docs/osconfig/rest/v1/projects.locations.osPolicyAssignments)."""

_WORDS = r"(?=.{8,200}\Z)[ !#-\[\]-~]+"
"""Text that needs no escaping in a query and is long enough not to be in a line by chance."""


def runbook_of(
    top: Reader,
    folder: str,
    text: str,
    scripts: Scripts,
    parameters: Mapping[str, str],
    *,
    irreversible: bool,
) -> Runbook:
    """Return the runbook, from what is left in ``top`` and its scripts; problems are added to ``top``."""
    name = top.text("name", "lower-case words joined by hyphens", pattern=KEBAB, required=True)
    if name is not None and name != folder:
        top.wrong("name", f"name: {name} is not the folder's name", f"the folder is {folder}")
    if name is not None and len(name) > MAX_NAME:
        top.wrong("name", f"name: {len(name)} characters, at most {MAX_NAME} fit into an OS policy's id")
    summary = top.text("summary", required=True)
    query = top.text("filter", "a filter in the Logging query language")
    causes = _causes(top)
    variants = _variants(top, (UNKNOWN, *(each.name for each in causes)))
    if query is not None and not top.values.get("variants"):
        top.wrong("filter", "filter without variants: every entry would be refused as unknown_variant")
    if query is None and top.values.get("variants"):
        top.wrong("variants", "variants without a filter: no entry would ever reach them")
    words = top.strings("words", "text without quotes and backslashes", _WORDS)
    if query is None and words:
        top.wrong("words", "words without a filter: nothing would be told apart by them")
    keys = top.strings("approval_keys", "key that validate.sh prints", SNAKE)
    if silent := [key for key in keys if key not in scripts.validate]:
        top.wrong("approval_keys", f"approval_keys: validate.sh never says {', '.join(silent)}")
    if bool(causes) != bool(scripts.diagnose):
        top.wrong("causes", f"causes and {DIAGNOSE}: one without the other")
    named = top.strings("executors", "executor", "|".join(EXECUTORS))
    executors = named or EXECUTORS
    if "ssh" not in executors or top.values.get("executors") == []:
        top.wrong("executors", "executors: ssh belongs to it, since it carries every runbook")
    if "osconfig" in named and scripts.too_long:
        top.wrong("executors", f"executors: osconfig cannot carry it: {scripts.too_long}", "say [ssh]")
    limits = top.mapping("limits")
    budget = Limits(limits.whole("disruption_budget"), limits.duration("budget_window"))
    limits.done()
    return Runbook(
        name=name or "",
        summary=summary or "",
        filter=query,
        variants=variants,
        guards=top.strings("guards", "guard name", SNAKE),
        limits=budget,
        repeats=top.duration("repeats"),
        detached=top.duration("detached"),
        permissions=top.strings("permissions", "IAM permission", r"[a-z]+(?:\.[a-zA-Z]+){2}"),
        follow_up=top.text("follow_up", "name of a runbook", pattern=KEBAB),
        after=top.text("after", "name of a runbook", pattern=KEBAB),
        scripts=scripts,
        digest=digest_of(text, scripts),
        programs=top.strings("programs", "program's name", r"[^\s\[\]:/]{1,128}"),
        words=words,
        approval_keys=keys,
        parameters=parameters,
        unless=_conditions(top, top.mapping("unless")),
        only=_conditions(top, top.mapping("only")),
        irreversible=irreversible,
        causes=causes,
        confirmed_by=top.text("confirmed_by", "a filter in the Logging query language"),
        executors=executors,
    )


_KINDS: tuple[tuple[Literal["label", "metadata", "image", "machine_family"], str, str], ...] = (
    ("label", "KEY or KEY=VALUE", r"(?=[^A-Z]*\Z)[^\W\d_][\w-]{0,62}(?:=[\w-]{0,63})?"),
    ("metadata", "KEY or KEY=VALUE", r"[A-Za-z0-9_-]{1,127}(?:=.+)?"),
    ("image", "PROJECT or PROJECT/LICENSE", r"[a-z][a-z0-9.:-]{4,62}(?:/[a-z0-9._-]{1,63})?"),
    ("machine_family", "family of machine types such as e2", r"[a-z][a-z0-9]{1,15}"),
)


def _conditions(top: Reader, each: Reader) -> tuple[Condition, ...]:
    """Return the conditions of ``unless`` or ``only``; a key that is there needs at least one."""
    conditions: list[Condition] = []
    name = str(each.path[-1])
    for kind, expected, pattern in _KINDS:
        texts = each.strings(kind, expected, pattern)
        if not texts and each.values.get(kind) == []:
            each.wrong(kind, f"{name}.{kind}: expected at least one")
        conditions += [Condition(kind, text) for text in texts]
    if top.values.get(name) == {}:
        top.wrong(name, f"{name}: expected at least one condition")
    each.done()
    return tuple(conditions)


def _causes(top: Reader) -> tuple[Cause, ...]:
    """Return the causes that ``diagnose.sh`` may name."""
    causes: list[Cause] = []
    for each in top.mappings("causes"):
        name = each.text(
            "name", "snake_case words, at most 40", pattern=f"(?=.{{1,40}}\\Z){SNAKE}", required=True
        )
        concerns: Concerns | None = each.one_of("concerns", CONCERNS)
        summary = each.text("summary", required=True)
        step = each.text(
            "next_step", "text with no braces but {vm} and {instance}", pattern=_STEP, required=True
        )
        runbook = each.text("runbook", "name of a runbook", pattern=KEBAB)
        if (concerns == "logmend") != (runbook is not None):
            each.wrong("runbook", "a cause that concerns logmend names its runbook, and no other does")
        if name == UNKNOWN or name in {other.name for other in causes}:
            each.wrong("name", f"cause {name} is there already")
        each.done()
        if name and concerns and summary and step:
            causes.append(Cause(name, concerns, summary, step, runbook))
    return tuple(causes)


def _variants(top: Reader, causes: tuple[str, ...]) -> tuple[Variant, ...]:
    """Return the variants; if there is a ``prefix``, each pattern begins with it."""
    prefix = top.joined("prefix") or ""
    variants: list[Variant] = []
    for each in top.mappings("variants"):
        name = each.text("name", "snake_case words", pattern=SNAKE, required=True)
        pattern = each.joined("pattern", required=True)
        verdict: Literal["act", "refuse"] | None = each.one_of("verdict", VERDICTS)
        reason = each.text("reason", "snake_case words", pattern=SNAKE)
        if (verdict == "refuse") != (reason is not None):
            each.wrong("reason", "refuse needs a reason, and act has none")
        cause = each.one_of("cause", causes) if "cause" in each.values else None
        if cause is not None and verdict == "act":
            each.wrong("cause", "act asks the VM for the cause: only what is refused names one")
        if name in {other.name for other in variants}:
            each.wrong("name", f"variant {name} is there twice")
        if pattern is not None:
            pattern = each.checked_regex("pattern", prefix + pattern)
        each.done()
        if name is not None and pattern is not None and verdict is not None:
            variants.append(Variant(name, pattern, verdict, reason, cause))
    return tuple(variants)
