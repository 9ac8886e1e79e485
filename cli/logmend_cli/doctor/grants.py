"""Whether a member has a role, by a resource's own policy or its project's. Pure."""

from collections.abc import Iterable

from logmend_cli.apis import Reply
from logmend_cli.doctor.facts import FAIL, OK, UNKNOWN, Check, Facts, dicts

PUBLISHERS = (
    "roles/pubsub.publisher",
    "roles/pubsub.editor",
    "roles/pubsub.admin",
    "roles/owner",
    "roles/editor",
)


def granted(
    facts: Facts, name: str, policy: Reply, member: str, roles: tuple[str, ...], command: str, to: str
) -> Check:
    """See that a member has one of these roles, unconditionally, on the resource or in the whole project."""
    repair = f"{command} --member={member} --role={roles[0]}"
    if policy.body is None:
        return Check(name, UNKNOWN, policy.why)
    home = facts["home_policy"]
    for where, found in (("", policy), (" on the project", home)):
        for each in dicts((found.body or {}).get("bindings")):
            members = each.get("members") or ()
            if each.get("role") in roles and _is_in(member, members) and not each.get("condition"):
                return Check(name, OK, f"{member} has {each['role']}{where}")
    customs = [
        str(each.get("role"))
        for each in (*dicts(policy.body.get("bindings")), *dicts((home.body or {}).get("bindings")))
        if member in (each.get("members") or ()) and "/roles/" in str(each.get("role"))
    ]
    if customs:
        said = f"{member} has {', '.join(customs)}, a custom role: does it allow it to {to}?"
        return Check(name, UNKNOWN, said, repair)
    if home.body is None:
        said = f"{member} may not {to} right there, and the project's policy is not known: {home.why}"
        return Check(name, UNKNOWN, said, repair)
    return Check(name, FAIL, f"{member} may not {to}", repair)


def _is_in(member: str, members: Iterable[str]) -> bool:
    return member in members or "allUsers" in members
