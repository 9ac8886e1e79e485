"""Credentials from OS Login, against an API on loopback and SSH servers that trust its authority."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.contract import oslogin_fake, relay
from tests.contract.machines import HOST_KEY, OTHER_KEY, Pinned, Shell, executor, runbook, served
from tests.contract.oslogin_fake import ACCOUNT, USERNAME, FakeOsLogin

from logmend.adapters.google.oslogin import OsLogin
from logmend.adapters.google.oslogin_api import OsLoginApi
from logmend.adapters.google.rest import Rest
from logmend.adapters.ssh.credential import StaticKey
from logmend.adapters.ssh.routes import Iap
from logmend.adapters.stores.memory import MemoryStore
from logmend.errors import Permanent, Transient
from logmend.ledger import Contacts
from logmend.model.enums import Action, Finding
from logmend.model.struct import replace
from logmend.model.values import InstanceFacts, InstanceRef

FACTS = InstanceFacts(
    InstanceRef("my-project", "us-west1-a", "4775836342981993096"),
    "my-vm",
    "RUNNING",
    service_account="vm@my-project.iam.gserviceaccount.com",
)


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def fake() -> Iterator[FakeOsLogin]:
    """Run an OS Login API in which the account is provisioned."""
    with oslogin_fake.running() as running:
        running.provisioned.add("my-project")
        yield running


@pytest.fixture
def clock() -> Clock:
    """Give the real time, until turned."""
    return Clock()


@pytest.fixture
async def oslogin(fake: FakeOsLogin, clock: Clock) -> AsyncIterator[OsLogin]:
    """Give the adapter under test."""
    adapter = OsLogin(OsLoginApi(Rest(fake.url)), ACCOUNT, clock)
    yield adapter
    await adapter.aclose()


async def refused(oslogin: OsLogin, facts: InstanceFacts = FACTS) -> Transient | Permanent:
    """Give the error instead of a credential."""
    with pytest.raises((Transient, Permanent)) as caught:
        await oslogin.credential(facts)
    assert isinstance(caught.value, Transient | Permanent)
    return caught.value


async def test_a_certificate_is_for_one_vm_and_minutes(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """The best credential: nothing is stored, it ends by itself, and the request names the VM."""
    credential = await oslogin.credential(FACTS)
    assert (credential.kind, credential.username) == ("certificate", USERNAME)
    assert credential.certificate is not None
    assert timedelta() < credential.expires_at - datetime.now(UTC) <= timedelta(minutes=5)
    assert fake.calls == ["profile", "sign"]
    assert fake.keys == {}
    assert fake.bodies[-1] == {
        "sshPublicKey": credential.private_key.export_public_key().decode().strip(),
        "computeInstance": "projects/my-project/zones/us-west1-a/instances/4775836342981993096",
        "serviceAccount": "vm@my-project.iam.gserviceaccount.com",
    }


async def test_a_vm_without_a_service_account_is_signed_for_without_one(
    fake: FakeOsLogin, oslogin: OsLogin
) -> None:
    """A wrong account would spoil the certificate, so none is named."""
    await oslogin.credential(replace(FACTS, service_account=None))
    assert "serviceAccount" not in fake.bodies[-1]


async def test_each_attempt_gets_a_fresh_certificate_and_the_profile_is_read_once(
    fake: FakeOsLogin, oslogin: OsLogin
) -> None:
    """Many VMs, one look at the profile."""
    first, second = await oslogin.credential(FACTS), await oslogin.credential(FACTS)
    assert fake.calls == ["profile", "sign", "sign"]
    assert first.certificate != second.certificate or first.certificate is not second.certificate


async def test_a_new_account_is_provisioned_first(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """The first login ever works without a person's help, and waits for the VM's region."""
    fake.provisioned.clear()
    credential = await oslogin.credential(FACTS)
    assert (credential.kind, credential.username) == ("certificate", USERNAME)
    assert fake.calls == ["profile", "provision", "sign"]
    assert fake.bodies[1] == {"regions": ["us-west1"]}


async def test_a_404_when_signing_is_answered_by_provisioning_and_asking_again(
    fake: FakeOsLogin, oslogin: OsLogin
) -> None:
    """The account may vanish after its name was learnt."""
    await oslogin.credential(FACTS)
    fake.provisioned.clear()
    assert (await oslogin.credential(FACTS)).kind == "certificate"
    assert fake.calls == ["profile", "sign", "sign", "provision", "sign"]


@asynccontextmanager
async def serve(
    folder: Path, fake: FakeOsLogin | None = None, key: asyncssh.SSHKey | None = None
) -> AsyncIterator[int]:
    """Run an SSH server that trusts the fake's authority, or one key, for the OS Login user alone."""
    options = f'cert-authority,principals="{USERNAME}" ' if fake else ""
    trusted = (fake.ca if fake else key or HOST_KEY).export_public_key().decode()
    keys = asyncssh.import_authorized_keys(options + trusted)
    async with served(Shell(folder), authorized_client_keys=keys) as port:
        yield port


async def look(port: int, credentials: Any, **changes: Any) -> dict[str, str]:
    """Log in with the executor and run a script."""
    facts = replace(FACTS, internal_ip="127.0.0.1")
    book = runbook("echo shell=ran\nexit 100\n")
    async with executor(port, credentials=credentials, **changes).open(facts, book, Action.CHECK) as session:
        evidence = await session.check()
    assert evidence.finding is Finding.DESIRED
    return dict(evidence.values)


async def test_the_executor_logs_in_with_a_certificate_through_iap(
    fake: FakeOsLogin, oslogin: OsLogin, tmp_path: Path
) -> None:
    """Signed by the authority, over the relay, against a pinned host key: the way production goes."""

    async def token() -> str:
        return "ya29.x"

    async with serve(tmp_path, fake) as port, relay.running({"my-vm": ("127.0.0.1", port)}) as running:
        assert await look(22, oslogin, route=Iap(token, url=running.url)) == {"shell": "ran"}
        await running.idle()
    assert running.faults == []


async def test_the_executor_logs_in_with_the_key_in_the_profile(
    fake: FakeOsLogin, oslogin: OsLogin, tmp_path: Path
) -> None:
    """Where signing is not to be had, the imported key opens the VM."""
    fake.fail("sign", 501, times=9)
    key = (await oslogin.credential(FACTS)).private_key
    async with serve(tmp_path, key=key) as port:
        assert await look(port, oslogin) == {"shell": "ran"}


async def test_a_certificate_of_another_authority_opens_nothing(
    fake: FakeOsLogin, oslogin: OsLogin, tmp_path: Path
) -> None:
    """The test's server really checks: a stranger's signature is refused, and the roles are named."""
    stranger = FakeOsLogin()
    async with serve(tmp_path, stranger) as port:
        with pytest.raises(Permanent, match=r"not_permitted.*roles/compute\.osLogin"):
            await look(port, oslogin)


@pytest.mark.parametrize("status", [400, 405, 501])
async def test_where_signing_is_not_offered_a_short_lived_key_is_imported(
    fake: FakeOsLogin, oslogin: OsLogin, status: int
) -> None:
    """The fallback: one key, with an expiry, whatever the number of attempts."""
    fake.fail("sign", status, times=3)
    credentials = [await oslogin.credential(FACTS) for _ in range(3)]
    assert {each.kind for each in credentials} == {"imported_key"}
    assert {each.username for each in credentials} == {USERNAME}
    assert all(each.certificate is None for each in credentials)
    assert fake.calls.count("import_key") == 1
    [imported] = fake.keys.values()
    assert imported["key"] == credentials[0].private_key.export_public_key().decode().strip()
    assert timedelta() < credentials[0].expires_at - datetime.now(UTC) <= timedelta(hours=1)
    assert abs(int(imported["expirationTimeUsec"]) / 1e6 - credentials[0].expires_at.timestamp()) < 1


async def test_signing_that_stays_404_falls_back_too(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """After provisioning did not help."""
    fake.fail("sign", 404, times=2)
    assert (await oslogin.credential(FACTS)).kind == "imported_key"
    assert fake.calls == ["profile", "sign", "provision", "sign", "import_key"]


@pytest.mark.parametrize("status", [404, 501])
async def test_where_provisioning_is_not_offered_importing_makes_the_account(
    fake: FakeOsLogin, oslogin: OsLogin, status: int
) -> None:
    """A key in the profile brings its account with it."""
    fake.provisioned.clear()
    fake.fail("provision", status)
    credential = await oslogin.credential(FACTS)
    assert (credential.kind, credential.username) == ("imported_key", USERNAME)
    assert fake.calls == ["profile", "provision", "import_key"]


async def test_many_attempts_at_once_share_one_imported_key(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """The profile is small: two hundred VMs at once take one key of it."""
    fake.fail("sign", 501, times=200)
    credentials = await asyncio.gather(*(oslogin.credential(FACTS) for _ in range(200)))
    assert len({each.private_key.export_public_key() for each in credentials}) == 1
    assert fake.calls.count("import_key") == 1
    assert len(fake.keys) == 1


async def test_another_region_or_project_hears_of_the_same_key(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """A key is imported once a place, since the API waits only for the region that it is told."""
    fake.fail("sign", 501, times=9)
    elsewhere = replace(FACTS, ref=InstanceRef("my-project", "europe-west1-b", "7"))
    for facts in (FACTS, elsewhere, FACTS, elsewhere):
        await oslogin.credential(facts)
    places = [query for call, query in zip(fake.calls, fake.queries, strict=True) if call == "import_key"]
    assert places == [
        {"projectId": "my-project", "regions": "us-west1"},
        {"projectId": "my-project", "regions": "europe-west1"},
    ]
    assert len(fake.keys) == 1


async def test_the_imported_key_is_replaced_before_it_expires_and_deleted_after(
    fake: FakeOsLogin, oslogin: OsLogin, clock: Clock
) -> None:
    """An attempt never holds a key that is about to end; the old one stays until nobody can be using it."""
    fake.fail("sign", 501, times=9)
    first = await oslogin.credential(FACTS)
    clock.ahead = timedelta(minutes=45)
    assert (await oslogin.credential(FACTS)).private_key == first.private_key
    clock.ahead = timedelta(minutes=55)
    second = await oslogin.credential(FACTS)
    assert second.private_key != first.private_key
    assert len(fake.keys) == 2
    clock.ahead = timedelta(minutes=61)
    await oslogin.credential(FACTS)
    assert [each["key"] for each in fake.keys.values()] == [
        second.private_key.export_public_key().decode().strip()
    ]


async def test_shutting_down_deletes_every_imported_key(fake: FakeOsLogin, clock: Clock) -> None:
    """Nothing of a process stays in the profile, an older key included."""
    oslogin = OsLogin(OsLoginApi(Rest(fake.url)), ACCOUNT, clock)
    fake.fail("sign", 501, times=9)
    await oslogin.credential(FACTS)
    clock.ahead = timedelta(minutes=55)
    await oslogin.credential(FACTS)
    assert len(fake.keys) == 2
    await oslogin.aclose()
    assert fake.keys == {}


async def test_shutting_down_ends_the_threads(fake: FakeOsLogin, clock: Clock) -> None:
    """Nothing is left that could hold the process."""
    before = set(threading.enumerate())
    oslogin = OsLogin(OsLoginApi(Rest(fake.url)), ACCOUNT, clock)
    await oslogin.credential(FACTS)
    assert any(thread.name.startswith("rest") for thread in set(threading.enumerate()) - before)
    await oslogin.aclose()
    async with asyncio.timeout(60):
        while any(each.name.startswith("rest") for each in set(threading.enumerate()) - before):  # noqa: ASYNC110  # polled in a test
            await asyncio.sleep(0.01)


async def test_a_key_whose_import_was_not_answered_is_deleted_as_well(
    fake: FakeOsLogin, clock: Clock
) -> None:
    """What may be in the profile is looked for there."""
    oslogin = OsLogin(OsLoginApi(Rest(fake.url)), ACCOUNT, clock)
    fake.fail("sign", 501, times=9)
    original = fake.import_key

    def imports_and_fails(*arguments: Any, **more: Any) -> tuple[int, Any]:
        original(*arguments, **more)
        return 503, oslogin_fake.error(503, "after the fact")

    fake.import_key = imports_and_fails  # type: ignore[method-assign]
    assert (await refused(oslogin)).reason == "api_unavailable"
    assert len(fake.keys) == 1
    await oslogin.aclose()
    assert fake.keys == {}


async def test_shutting_down_survives_an_api_that_is_away(fake: FakeOsLogin, clock: Clock) -> None:
    """A key that cannot be deleted expires by itself."""
    oslogin = OsLogin(OsLoginApi(Rest(fake.url)), ACCOUNT, clock)
    fake.fail("sign", 501)
    await oslogin.credential(FACTS)
    fake.fail("delete_key", 503, times=9)
    await oslogin.aclose()
    assert len(fake.keys) == 1


def stale_key(fake: FakeOsLogin, *, expired: bool) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    usec = int((datetime.now(UTC) + timedelta(hours=-1 if expired else 1)).timestamp() * 1e6)
    body = {"key": key, "expirationTimeUsec": str(usec)}
    fake.import_key(ACCOUNT, query={}, body=body)


async def test_a_full_profile_is_cleared_of_expired_keys(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """What crashed processes left behind does not lock everybody out; keys in use are left alone."""
    for expired in (True, False, True):
        stale_key(fake, expired=expired)
    fake.capacity = 3
    fake.fail("sign", 501)
    assert (await oslogin.credential(FACTS)).kind == "imported_key"
    assert len(fake.keys) == 2


async def test_a_full_profile_that_cannot_be_cleared_just_now_is_transient(
    fake: FakeOsLogin, oslogin: OsLogin
) -> None:
    """The API's trouble is not taken for a full profile."""
    stale_key(fake, expired=True)
    fake.capacity = 1
    fake.fail("sign", 501)
    fake.fail("delete_key", 503)
    assert (await refused(oslogin)).reason == "api_unavailable"


async def test_a_profile_that_is_full_of_keys_in_use_says_so(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """Nothing of anyone else's is deleted; the operator reads the command that helps."""
    stale_key(fake, expired=False)
    fake.capacity = 1
    fake.fail("sign", 501)
    error = await refused(oslogin)
    assert (type(error), error.reason) == (Permanent, "login_profile_full")
    assert "gcloud compute os-login ssh-keys" in error.detail
    assert len(fake.keys) == 1


@pytest.mark.parametrize("call", ["profile", "provision", "sign", "import_key"])
@pytest.mark.parametrize(
    ("status", "message", "kind", "reason"),
    [
        (401, "", Transient, "unauthenticated"),
        (403, "Required 'compute.instances.osLogin' permission for 'x'", Permanent, "not_permitted"),
        (403, "OS Login API has not been used in project 1 before", Permanent, "api_disabled"),
        (429, "", Transient, "rate_limited"),
        (500, "", Transient, "api_unavailable"),
        (503, "", Transient, "api_unavailable"),
    ],
)
async def test_each_refusal_has_its_reason_at_each_call(
    fake: FakeOsLogin, oslogin: OsLogin, call: str, status: int, message: str, kind: type, reason: str
) -> None:
    """No call's refusal is taken for another's, and none is worked around by a weaker credential."""
    if call == "provision":
        fake.provisioned.clear()
    if call == "import_key":
        fake.fail("sign", 501)
    fake.fail(call, status, message, times=2)  # a read is tried once more by itself
    error = await refused(oslogin)
    assert (type(error), error.reason) == (kind, reason)
    if reason == "not_permitted":
        assert "permission compute.instances.osLogin is missing" in error.detail
        assert "roles/compute.osLogin" in error.detail
        assert "roles/iam.serviceAccountUser on vm@my-project.iam.gserviceaccount.com" in error.detail
    assert fake.keys == {}


async def test_an_account_that_cannot_be_provisioned_says_so(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """No username, no login, and a reason for it."""
    fake.accountless = True
    error = await refused(oslogin)
    assert (type(error), error.reason) == (Permanent, "no_posix_account")


OTHER = asyncssh.generate_private_key("ssh-ed25519")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"signedSshPublicKey": ""},
        {"signedSshPublicKey": "ssh-ed25519-cert-v01@openssh.com AAAA"},
        {"signedSshPublicKey": OTHER.export_public_key().decode()},
        {"signedSshPublicKey": OTHER.generate_user_certificate(OTHER, "x").export_certificate().decode()},
    ],
    ids=["nothing", "empty", "cut", "not-a-certificate", "for-another-key"],
)
async def test_an_answer_that_is_no_certificate_for_our_key_is_not_used(
    fake: FakeOsLogin, oslogin: OsLogin, answer: dict[str, str]
) -> None:
    """Whatever the API says, only a certificate for the key at hand leaves here."""
    fake.mangle = answer
    error = await refused(oslogin)
    assert (type(error), error.reason) == (Transient, "api_protocol_error")


async def test_a_certificate_that_has_expired_is_not_used(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """Better to try again than to be refused by the VM and blame its permissions."""
    fake.lifetime = -30
    error = await refused(oslogin)
    assert (type(error), error.reason) == (Transient, "api_protocol_error")


@pytest.mark.parametrize("username", ["root; reboot", "a b", "-oProxyCommand=x", "ü"])
async def test_a_username_that_is_none_is_not_used(
    fake: FakeOsLogin, oslogin: OsLogin, username: str
) -> None:
    """What comes from outside is checked even if Google sends it."""
    fake.profile = lambda *_, **__: (200, {"posixAccounts": [{"username": username}]})  # type: ignore[method-assign]
    error = await refused(oslogin)
    assert (type(error), error.reason) == (Transient, "api_protocol_error")


async def test_the_primary_linux_account_is_chosen(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """As gcloud chooses."""
    accounts = [
        {"username": "win", "primary": True, "operatingSystemType": "WINDOWS"},
        {"username": "second"},
        {"username": "first", "primary": True},
    ]
    fake.profile = lambda *_, **__: (200, {"posixAccounts": accounts})  # type: ignore[method-assign]
    assert (await oslogin.credential(FACTS)).username == "first"


async def test_a_key_file_works_for_fleets_without_os_login(tmp_path: Path) -> None:
    """The static key logs in, and a rotated one is picked up."""
    path = tmp_path / "key"
    OTHER.write_private_key(path)
    static = StaticKey(path, USERNAME)
    async with serve(tmp_path, key=OTHER) as port:
        assert await look(port, static) == {"shell": "ran"}
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    assert (await static.credential(FACTS)).private_key != OTHER
    await static.aclose()


async def test_a_certificate_beside_the_key_file_is_used(fake: FakeOsLogin, tmp_path: Path) -> None:
    """As OpenSSH does with KEY-cert.pub."""
    OTHER.write_private_key(tmp_path / "key")
    certificate = fake.ca.generate_user_certificate(OTHER, "x", principals=[USERNAME])
    certificate.write_certificate(tmp_path / "key-cert.pub")
    async with serve(tmp_path, fake) as port:
        assert await look(port, StaticKey(tmp_path / "key", USERNAME)) == {"shell": "ran"}


async def test_a_key_file_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    """Missing, rubbish, locked with a passphrase, or beside a certificate for another key.

    It names the setting. A key in the place of its path is refused at start, and not told here.
    """
    rubbish, locked, odd = tmp_path / "rubbish", tmp_path / "locked", tmp_path / "odd"
    rubbish.write_text("no key")
    OTHER.write_private_key(locked, "pkcs8-pem", passphrase="secret")
    OTHER.write_private_key(odd)
    OTHER.generate_user_certificate(HOST_KEY, "x").write_certificate(tmp_path / "odd-cert.pub")
    text = OTHER.export_private_key().decode()
    for path in (tmp_path / "missing", rubbish, locked, odd, Path(text)):
        with pytest.raises(Permanent, match="bad_credential") as caught:
            await StaticKey(path, USERNAME).credential(FACTS)
        assert "LOGMEND_SSH_KEY" in caught.value.detail
        assert path.name not in caught.value.detail


# A VM that refuses the certificate


@asynccontextmanager
async def old_guest(folder: Path, fake: FakeOsLogin) -> AsyncIterator[tuple[int, list[str]]]:
    """Run a server that takes keys of login profiles and no certificates; gives its port and its logins."""
    logins: list[str] = []

    class Guest(asyncssh.SSHServer):
        def public_key_auth_supported(self) -> bool:
            return True

        def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
            profile = [each["key"].split()[1] for each in fake.keys.values()]
            taken = username == USERNAME and key.export_public_key().decode().split()[1] in profile
            logins.append("taken" if taken else "refused")
            return taken

    async with served(Shell(folder), server_factory=Guest) as port:
        yield port, logins


def remembering(fake: FakeOsLogin, clock: Clock, contacts: Contacts, **more: Any) -> OsLogin:
    """Give the adapter of another process on the same ledger."""
    return OsLogin(OsLoginApi(Rest(fake.url)), ACCOUNT, clock, contacts=contacts, **more)


async def login_of(port: int, credentials: OsLogin) -> str:
    """Log in, and give what the VM took."""
    facts = replace(FACTS, internal_ip="127.0.0.1")
    async with executor(port, credentials=credentials).open(facts, runbook(), Action.CHECK) as session:
        return session.login.credential


async def test_a_refused_certificate_is_followed_by_an_imported_key_and_remembered(
    fake: FakeOsLogin, clock: Clock, tmp_path: Path
) -> None:
    """In the same attempt; for a week the next go straight to the key, then a certificate is tried."""
    contacts = Contacts(MemoryStore())
    fake.lifetime = 30 * 86400  # its clock is not turned
    async with old_guest(tmp_path, fake) as (port, _):
        for day, signed in ((0, 1), (0, 0), (6, 0), (8, 1)):
            clock.ahead = timedelta(days=day)
            fake.calls.clear()
            oslogin = remembering(fake, clock, contacts)
            assert await login_of(port, oslogin) == "imported_key"
            assert fake.calls.count("sign") == signed, f"day {day}"
            await oslogin.aclose()
    assert fake.keys == {}


async def test_a_guest_that_was_upgraded_to_certificates_alone_is_let_in_again(
    fake: FakeOsLogin, clock: Clock, tmp_path: Path
) -> None:
    """What is remembered is followed the other way as well, and corrected."""
    contacts = Contacts(MemoryStore())
    await contacts.takes_imported_key(FACTS.ref, clock.now() + timedelta(days=7))
    oslogin = remembering(fake, clock, contacts)
    async with serve(tmp_path, fake) as port:
        assert await login_of(port, oslogin) == "certificate"
    assert (await contacts.get(FACTS.ref)).imported_key_until is None
    await oslogin.aclose()


async def test_where_imported_keys_are_forbidden_a_refused_certificate_is_the_end(
    fake: FakeOsLogin, clock: Clock, tmp_path: Path
) -> None:
    """Nothing is imported, and the story says what would follow."""
    oslogin = remembering(fake, clock, Contacts(MemoryStore()), import_keys=False)
    async with old_guest(tmp_path, fake) as (port, _):
        with pytest.raises(Permanent, match=r"not_permitted.*LOGMEND_SSH_IMPORT_KEYS"):
            await login_of(port, oslogin)
    fake.fail("sign", 501)
    assert (await refused(oslogin)).reason == "invalid_request"
    assert "import_key" not in fake.calls
    await oslogin.aclose()


async def test_a_vm_that_takes_neither_names_the_roles_and_remembers_nothing(
    fake: FakeOsLogin, clock: Clock, tmp_path: Path
) -> None:
    """One certificate, one key, and no third try."""
    contacts = Contacts(MemoryStore())
    oslogin = remembering(fake, clock, contacts)
    async with serve(tmp_path, key=HOST_KEY) as port:
        with pytest.raises(Permanent, match=r"not_permitted.*roles/compute\.osLogin.*certificate"):
            await login_of(port, oslogin)
    assert (fake.calls.count("sign"), fake.calls.count("import_key")) == (1, 1)
    assert (await contacts.get(FACTS.ref)).imported_key_until is None
    await oslogin.aclose()


async def test_nothing_but_a_refused_key_leads_to_an_import(
    fake: FakeOsLogin, clock: Clock, tmp_path: Path
) -> None:
    """Neither a closed port nor another host key."""
    oslogin = remembering(fake, clock, Contacts(MemoryStore()))
    async with serve(tmp_path, fake) as port:
        with pytest.raises(Permanent, match="host_key_mismatch"):
            await look(port, oslogin, host_keys=Pinned((OTHER_KEY,)))
    with pytest.raises(Transient, match="unreachable"):
        await look(port, oslogin)
    assert "import_key" not in fake.calls
    await oslogin.aclose()


async def test_an_import_answered_200_without_our_key_is_told_with_googles_details(
    fake: FakeOsLogin, oslogin: OsLogin
) -> None:
    """The API says OK and why it did not; waiting does not help."""
    fake.fail("sign", 501)
    fake.ignores_keys = "Security keys are required for this project"
    error = await refused(oslogin)
    assert isinstance(error, Permanent)
    assert error.reason == "key_not_imported"
    assert "Security keys are required" in error.detail


async def test_every_key_is_one_that_fips_hosts_take(fake: FakeOsLogin, oslogin: OsLogin) -> None:
    """ECDSA P-256, signed or imported."""
    signed = await oslogin.credential(FACTS)
    fake.fail("sign", 501)
    imported = await oslogin.credential(FACTS)
    assert {each.private_key.get_algorithm() for each in (signed, imported)} == {"ecdsa-sha2-nistp256"}
    assert signed.certificate is not None
    assert signed.certificate.get_algorithm() == "ecdsa-sha2-nistp256-cert-v01@openssh.com"
