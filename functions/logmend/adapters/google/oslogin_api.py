"""Calls to the OS Login API over plain REST: Google's own client lacks half of them.

Paths and messages: docs.cloud.google.com/compute/docs/oslogin/rest, v1, and the generated client in Google
Cloud SDK 528.0.0. An unsuccessful response is raised as Transient or Permanent, naming the roles if the
call was refused. If the caller can do something about it, the response is returned instead.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from logmend.adapters.error_table import one_line
from logmend.adapters.google.rest import HttpReply, Rest
from logmend.errors import Transient
from logmend.model.json import JsonObject
from logmend.model.struct import Struct
from logmend.model.values import InstanceFacts

ENDPOINT = "https://oslogin.googleapis.com"

_USERNAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_FINGERPRINT = re.compile(r"[A-Za-z0-9:+/=_-]{1,128}")


def login_roles(facts: InstanceFacts) -> str:
    """Return the roles that a login to this VM requires."""
    roles = "roles/compute.osLogin (observe) or roles/compute.osAdminLogin on the VM's project"
    if facts.service_account:
        roles += f", and roles/iam.serviceAccountUser on {facts.service_account}"
    return roles


class ProfileKey(Struct, frozen=True):
    """A public key in a login profile, with the fields that matter here."""

    fingerprint: str
    key: str
    expires_at: datetime | None


class LoginProfile(Struct, frozen=True):
    """A login profile. ``username`` is the primary Linux account's, None if the project has none."""

    username: str | None
    keys: tuple[ProfileKey, ...]


class OsLoginApi:
    """The API. ``account`` is always the e-mail address of the profile's service account."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def sign(self, facts: InstanceFacts, public_key: str) -> HttpReply:
        """Request a certificate for one VM. The caller handles any response."""
        ref = facts.ref
        body = {
            "sshPublicKey": public_key,
            "computeInstance": f"projects/{ref.project_id}/zones/{ref.zone}/instances/{ref.instance_id}",
        }
        if facts.service_account:  # "left empty" for a VM without one; a wrong one spoils the certificate
            body["serviceAccount"] = facts.service_account
        path = f"/v1/projects/{ref.project_id}/locations/{ref.region}:signSshPublicKey"
        return await self._rest.call("POST", path, body=body)

    async def provision(self, account: str, facts: InstanceFacts) -> HttpReply:
        """Call ``provisionPosixAccount``, waiting for the VM's region, and return any response."""
        path = f"/v1/{_user(account)}/projects/{facts.ref.project_id}"
        return await self._rest.call("POST", path, body={"regions": [facts.ref.region]})

    async def profile(self, account: str, facts: InstanceFacts) -> LoginProfile | None:
        """Return the login profile as the VM's project sees it; None if there is none yet."""
        query = {"projectId": facts.ref.project_id}
        answer = await self._rest.call("GET", f"/v1/{_user(account)}/loginProfile", query=query)
        return None if answer.status == 404 else _profile(_checked(answer, facts))

    async def import_key(
        self, account: str, facts: InstanceFacts, public_key: str, expires_at: datetime
    ) -> HttpReply:
        """Import a key, waiting until the VM's region has it, and return any response."""
        return await self._rest.call(
            "POST",
            f"/v1/{_user(account)}:importSshPublicKey",
            query={"projectId": facts.ref.project_id, "regions": facts.ref.region},
            body={"key": public_key, "expirationTimeUsec": str(int(expires_at.timestamp() * 1_000_000))},
        )

    async def delete_key(self, account: str, fingerprint: str) -> None:
        """Remove a key from the profile, if it is there."""
        path = f"/v1/{_user(account)}/sshPublicKeys/{quote(fingerprint, safe='')}"
        answer = await self._rest.call("DELETE", path)
        if not answer.ok and answer.status != 404:
            raise answer.error()

    async def aclose(self) -> None:
        """Release connections."""
        await self._rest.aclose()


def provisioned(answer: HttpReply, facts: InstanceFacts) -> str | None:
    """Return the username in the response to ``provision``."""
    return _username([_checked(answer, facts)])


def imported(answer: HttpReply) -> LoginProfile:
    """Return the profile in the response to a successful import."""
    return _profile((answer.json or {}).get("loginProfile") or {})


def details(answer: HttpReply) -> str:
    """Return the details of an import's 200 response, which may say why the key was not accepted."""
    return one_line(said) if (said := str((answer.json or {}).get("details") or "")) else ""


def _user(account: str) -> str:
    return f"users/{quote(account, safe='@')}"


def _checked(answer: HttpReply, facts: InstanceFacts) -> JsonObject:
    if not answer.ok or answer.json is None:
        raise answer.error(needs=login_roles(facts))
    return answer.json


def _profile(document: JsonObject) -> LoginProfile:
    try:
        accounts = document.get("posixAccounts") or []
        keys = tuple(
            ProfileKey(
                _matching(_FINGERPRINT, entry.get("fingerprint") or name),
                str(entry.get("key", "")),
                _time(entry.get("expirationTimeUsec")),
            )
            for name, entry in (document.get("sshPublicKeys") or {}).items()
        )
        return LoginProfile(_username(accounts), keys)
    except (AttributeError, TypeError, ValueError, OverflowError) as exc:
        raise Transient("api_protocol_error", "a login profile that cannot be read") from exc


def _username(accounts: Sequence[JsonObject]) -> str | None:
    """Return the username that gcloud would choose: the primary account's, else the first. Not Windows'."""
    linux = [
        each for each in accounts if each.get("operatingSystemType") != "WINDOWS" and each.get("username")
    ]
    chosen = next((each for each in linux if each.get("primary")), linux[0] if linux else None)
    return _matching(_USERNAME, str(chosen["username"])) if chosen else None


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise Transient("api_protocol_error", f"{text[:40]!r} in a login profile")
    return text


def _time(microseconds: str | float | None) -> datetime | None:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC) if microseconds else None
