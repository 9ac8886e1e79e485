"""What servers, PAM and sudo say when they refuse, and what each refusal means.

The texts come from OpenSSH's auth.c and session.c, Linux-PAM's pam_unix, pam_nologin and systemd's nologin
text, and sudo's own messages (sudo runs with LC_ALL=C, so they are in English). tests/lab/test_refusals.py
gets them from the real programs. A text that is not listed is passed on unchanged.
"""

import re
from collections.abc import Mapping

from logmend.adapters.error_table import ErrorRow, error_of, one_line, permanent, transient
from logmend.errors import Permanent, Transient
from logmend.model.values import CredentialKind

LOGIN: Mapping[CredentialKind, str] = {
    "certificate": "the VM refused the certificate of OS Login; guest agents older than May 2023 and OS Login"
    " older than September 2023 accept only imported keys (LOGMEND_SSH_IMPORT_KEYS=true)",
    "imported_key": "the VM refused the login: grant roles/compute.osLogin (observe) or"
    " roles/compute.osAdminLogin and roles/iam.serviceAccountUser; check that enable-oslogin is TRUE",
    "static": "the VM refused the static key: check that LOGMEND_SSH_USER exists there and has the public key"
    " in its authorized_keys",
}
"""What a refused public key means, depending on its source."""

SUDO_REFUSED = (
    "sudo without a password was refused: grant roles/compute.osAdminLogin to logmend's service account"
    " (or, with LOGMEND_SSH_KEY, allow it in sudoers)"
)

_TABLE: tuple[tuple[str, ErrorRow], ...] = (
    (r"Your account has expired|account (?:has )?expired", permanent("account_expired")),
    (
        r"password has expired|[Pp]assword change required|[Aa]ccount or password is expired",
        permanent("password_expired"),
    ),
    (
        r"System is booting up|System is going down|Unprivileged users are not permitted to log in",
        transient("not_accepting_logins"),
    ),
    (r"must have a tty to run sudo", permanent("sudo_requires_tty")),
    (r"sudo\W{0,3}: (?:command not found|not found|No such file)", permanent("no_sudo")),
    (r"is managed by|account validation failure", permanent("account_expired")),
)


_NO_CURL = re.compile(r"curl\W{0,3}: (?:No such file|not found|command not found)")
"""The message of a shell, or of the ``timeout`` (coreutils, busybox) that should have run curl."""


def listed(text: str) -> Transient | Permanent | None:
    """Return what a known refusal means, including its text; None if it is not listed."""
    for pattern, row in _TABLE:
        if re.search(pattern, text):
            return error_of(row, one_line(text))
    return None


def at_login(output: str) -> Transient | Permanent:
    """Return what it means that the server closed the connection during the login.

    An unlisted message, or none, can mean anything from /etc/nologin to a PAM policy: the VM is tried again,
    and fails with that message after ``LOGMEND_UNREACHABLE_TRIES``.
    """
    words = one_line(output) if output.strip() else "without a word"
    return listed(output) or Transient(
        "login_closed", f"the server closed the connection during the login: {words}"
    )


def not_begun(stderr: str, *, as_root: bool) -> Transient | Permanent:
    """Return why a script did not start."""
    why = SUDO_REFUSED if as_root else "the login shell did not run the script"
    return listed(stderr) or Permanent("not_permitted", one_line(f"{why} ({stderr})"))


def told_of_check(
    values: Mapping[str, str], stderr: str, credential: CredentialKind | None
) -> Mapping[str, str]:
    """Return a script's values, adding why the VM's metadata server did not answer, if that is known.

    ``credential`` is the credential that was accepted, None for root. OS Login's guest component queries the
    metadata server as root at each login (guest-oslogin, oslogin_utils.cc). If that worked but the user gets
    no answer, the VM blocks users from the server.
    """
    unnamed = values.get("instance_id") == ""
    if values.get("reason") != "config_status_unknown" and (not unnamed or "reason" in values):
        return values
    if _NO_CURL.search(stderr):
        return {**values, "reason": "no_curl"}
    silent = unnamed and not values.get("config_status", "").strip("0")  # 000 is curl's "no answer"
    if silent and credential in ("certificate", "imported_key"):
        return {**values, "reason": "metadata_root_only"}
    return values


def torn(stderr: str, *, as_root: bool) -> Transient | Permanent:
    """Return why a script did not arrive whole, and so was not run.

    A shell that may not start ``cat`` reads nothing. Under sudo the cause is ``noexec`` in sudoers, which
    keeps a command from running others (sudoers(5)).
    """
    if as_root and re.search(r"cat: .*(?:Permission denied|Operation not permitted)", stderr):
        return Permanent("sudo_noexec", one_line(stderr))
    said = f": {one_line(stderr)}" if stderr else ""
    return Transient("connection_lost", f"the script did not arrive completely{said}")
