"""``logmend use``: choose the deployed function to which all other commands refer."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import click

from logmend.errors import ConfigError, Permanent, Transient
from logmend.model.json import JsonObject
from logmend.settings import PREFIX, Settings
from logmend_cli import profiles
from logmend_cli.apis import Apis, Deployment
from logmend_cli.documented import Command
from logmend_cli.errors import DONE, warn
from logmend_cli.output import printable
from logmend_cli.scanned import complete_projects

OF_THE_FUNCTION = {
    "LOGMEND_RUNBOOKS": "name the same configuration here, if it has runbooks of your own",
    "LOGMEND_SSH_KEY": "name your own key, if you log in to VMs from here",
    "LOGMEND_SERVICE_ACCOUNT": "you act as yourself",
}
"""Settings that refer to the function's machine, and what to do about each here."""
PAGES = 20
"""Most pages of a hundred functions that are read."""


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete an existing profile, or a project of the last scan."""
    known = [each for each in profiles.known() if each.startswith(incomplete)]
    return known + complete_projects(ctx, param, incomplete)


@click.command(
    "use",
    cls=Command,
    examples=("logmend use my-project", "logmend use my-project/europe-west1/logmend", "logmend use --none"),
)
@click.argument("name", required=False, metavar="PROJECT[/REGION[/FUNCTION]]", shell_complete=_complete)
@click.option("--none", is_flag=True, help="Use no profile, only environment variables.")
@click.option("--endpoint", hidden=True, help="One address for every API: a fake, or a proxy.")
def command(name: str | None, none: bool, endpoint: str | None) -> int:
    """Find a deployed function and use its settings from now on; without a name, show what is in use.

    Reads the function's LOGMEND_* variables with your own credentials (cloudfunctions.functions.list) and
    keeps them as a profile. Every command then says which fleet it refers to. Variables of your shell take
    precedence. Run it again after the function was deployed with other settings.
    """
    if none and name:
        raise ConfigError(["do not give a name with --none"])
    if none:
        profiles.forget()
        click.echo("no profile is in use")
        return DONE
    if name is None:
        _show()
        return DONE
    profile, left_out = asyncio.run(_read(*profiles.parse(name), endpoint))
    Settings.from_environment(profile.variables)  # fails here rather than in every other command
    profiles.keep(profile)
    click.echo(f"using {profile.name}")
    for variable, value in sorted(profile.variables.items()):
        click.echo(f"  {variable}={printable(value)}")
    for variable, why in left_out.items():
        click.echo(f"  left out: {variable} ({why})")
    return DONE


def _show() -> None:
    used = profiles.current()
    click.echo(f"using {used.name}, settings of {used.time}" if used else "no profile is in use")
    for each in profiles.known():
        if used is None or each != used.name:
            click.echo(f"kept: {each}")


async def _read(
    project: str, region: str | None, function: str | None, endpoint: str | None
) -> tuple[profiles.Profile, Mapping[str, str]]:
    """Read the one function that is meant; return it with the variables that are left out, and why."""
    apis = Apis(endpoint)
    try:
        found, silent = await _functions(apis, project, region)
        meant = [each for each in found if function in (None, str(each["name"]).rpartition("/")[2])]
        if len(meant) != 1:
            raise ConfigError([_not_one(project, meant, silent)])
        if silent:
            warn(f"{_unanswered(silent)}; another function may be there")
        path = str(meant[0]["name"]).split("/")  # projects/P/locations/R/functions/F
        place = Deployment(project, path[3], path[5], (), ())
        variables, left_out = _usable(_variables(meant[0]))
        variables.setdefault("LOGMEND_PROJECT", project)
        if "LOGMEND_TOPIC" not in variables:
            topic = await apis.ask("pubsub", f"/v1/{place.topic}")
            if topic.body is not None:
                variables["LOGMEND_TOPIC"] = place.topic
            else:
                why = f"{place.topic}: {topic.why}; name it, or nothing here asks for a tick"
                left_out["LOGMEND_TOPIC"] = why
        return profiles.Profile(project, place.region, place.name, datetime.now(UTC), variables), left_out
    finally:
        await apis.aclose()


async def _functions(apis: Apis, project: str, region: str | None) -> tuple[list[JsonObject], list[str]]:
    """Return the project's functions that have logmend's settings, and the regions that did not answer."""
    functions: list[JsonObject] = []
    silent: list[str] = []
    token = ""
    for _ in range(PAGES):
        query = urlencode({"pageSize": 100} | ({"pageToken": token} if token else {}))
        path = f"/v2/projects/{project}/locations/{region or '-'}/functions?{query}"
        reply = await apis.ask("cloudfunctions", path)
        if reply.body is None:
            raise reply.error or Permanent("not_found", f"{project}: {reply.why}")
        functions += [each for each in reply.body.get("functions") or () if _variables(each)]
        silent += [str(each).rpartition("/")[2] for each in reply.body.get("unreachable") or ()]
        token = str(reply.body.get("nextPageToken") or "")
        if not token:
            return functions, silent
    raise Transient("api_unreachable", f"{project} has more than {PAGES * 100} functions: name the region")


def _variables(function: JsonObject) -> Mapping[str, str]:
    variables = (function.get("serviceConfig") or {}).get("environmentVariables") or {}
    return {name: value for name, value in variables.items() if name.startswith(PREFIX)}


def _usable(variables: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split a function's variables into those that apply here, and those that do not, with the reason."""
    left_out = {name: why for name, why in OF_THE_FUNCTION.items() if name in variables}
    if variables.get("LOGMEND_SSH_HOST_KEYS", "").startswith("known-hosts:"):
        left_out["LOGMEND_SSH_HOST_KEYS"] = "name your own copy of that file, if you log in to VMs from here"
    if not variables.get("LOGMEND_STATE", "").startswith("firestore:"):
        left_out["LOGMEND_STATE"] = "the function's ledger is in its own memory and cannot be read from here"
    return {name: value for name, value in variables.items() if name not in left_out}, left_out


def _not_one(project: str, meant: list[JsonObject], silent: list[str]) -> str:
    names = [f"{project}/{path[3]}/{path[5]}" for path in (str(each["name"]).split("/") for each in meant)]
    hint = f"; {_unanswered(silent)}" if silent else ""
    if not names:
        return f"no function with logmend's settings there{hint}; deploy/gcloud.sh {project} deploys one"
    return f"which one? {', '.join(names)}{hint}"


def _unanswered(silent: list[str]) -> str:
    return f"regions that did not answer: {', '.join(silent)}"
