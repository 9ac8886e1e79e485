"""Every result and every reason: what it means and what to do next (docs/outcomes.md has the same table).

:func:`next_step` fills in the words in braces: ``{instance}`` is ``PROJECT/ZONE/INSTANCE_ID``, ``{vm}``
the same in gcloud's form, ``{command}`` is ``run`` or ``revert``, ``{runbook}`` the runbook's name,
``{approval}`` the approval's id. No text of an event ever gets here.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from logmend.model.enums import Action, Finding, Mode, Result
from logmend.model.struct import Struct
from logmend.model.values import InstanceRef, Lineage, Outcome

FIRST_NEEDS_HUMAN = "first_needs_human"
"""Note on the one ``skipped: needs_human`` that alerts people; later ones are INFO."""


IRREVERSIBLE = "irreversible: nothing can put back what this runbook changes"
"""Note on every outcome of a runbook that declares itself irreversible."""


class Meaning(NamedTuple):
    """What a result or reason means, and what a person does about it; ``next_step`` may be empty."""

    meaning: str
    next_step: str = ""


_EXPLAIN = "logmend explain FILE shows how the entry is judged, offline"
_LOOK = "logmend {command} {instance} --runbook {runbook}"
_AGAIN = f"{_LOOK} --enforce"
_MEND = f"to remediate it: {_AGAIN}"
_UNDO = "logmend revert {instance} --runbook {runbook} --enforce"
_RELEASE = "logmend resume --instance {instance}"
_REVERT = f"to put it back: {_UNDO}"
_DECIDE = "logmend approvals approve {approval}, or: logmend approvals reject {approval}"
_DOCTOR = "logmend doctor names the step between sink and VM that fails, and the command that repairs it"

_GROUP = (
    "group the condition by project_id, zone, instance_id: the series in the alert policy have to keep these"
    " labels of gce_instance (groupByFields resource.label.project_id, resource.label.zone,"
    " resource.label.instance_id)"
)
"""An incident carries the resource labels of its series, and an aggregation keeps only those it groups by."""

RESULTS: Mapping[Result, Meaning] = MappingProxyType(
    {
        Result.UNMATCHED: Meaning("No runbook's filter matches the event.", _EXPLAIN),
        Result.REJECTED: Meaning(
            "The event cannot be decoded or identified, and never will be.",
            "pull the copy from the dead-letter topic, if one is set; " + _EXPLAIN,
        ),
        Result.REFUSED: Meaning("A guard, the line's variant or the VM itself forbids acting."),
        Result.SKIPPED: Meaning("No action taken; if the fault persists, it is logged again."),
        Result.PARKED: Meaning("Blocked for now; the intent waits in the ledger for the tick."),
        Result.PLANNED: Meaning(
            "The VM has the fault. The current mode does not allow an automatic remediation.",
            f"{_MEND}; for every VM: set LOGMEND_MODE=enforce",
        ),
        Result.NOTHING_TO_DO: Meaning("The check on the VM found the desired state."),
        Result.REQUESTED: Meaning(
            "The work was handed over; the tick records how it ended.", "logmend status"
        ),
        Result.REMEDIATED: Meaning(
            "The check saw the fault, enforcing ran, and the check no longer sees it.",
            f"to undo: {_UNDO}",
        ),
        Result.REVERTED: Meaning(
            "The previous state is restored and verified. A hold keeps automatic work of that runbook off"
            " this VM; other runbooks continue.",
            f"to let logmend act on it again: {_RELEASE}",
        ),
        Result.UNVERIFIED: Meaning(
            "Enforced, but there is no evidence that it helped; the tick checks again.",
            f"nothing; or to check now: {_LOOK}",
        ),
        Result.FAILED: Meaning("Retrying at once cannot help.", f"to check again: {_LOOK}"),
        Result.INTERRUPTED: Meaning(
            "An earlier attempt died while acting; it is being taken over.",
            "nothing; the next attempt records the result under the same intent_id",
        ),
        Result.DEFERRED: Meaning("Infrastructure is not ready; the message is delivered again."),
        Result.CONTROLLED: Meaning(
            "A person, or logmend itself, changed what logmend may do; the reason says how."
        ),
    }
)

_GRANT_LOOKUP = (
    "grant roles/compute.viewer (compute.instances.get and compute.projects.get) to logmend's service account"
)
_GRANT_LOGIN = (
    "grant logmend's service account roles/compute.osLogin (observe) or roles/compute.osAdminLogin (approve,"
    " enforce) on the VM's project, and roles/iam.serviceAccountUser on the VM's service account;"
    " with LOGMEND_SSH_KEY, check the key and LOGMEND_SSH_USER on the VM"
)
_ASK_METADATA = "curl -H 'Metadata-Flavor: Google' 169.254.169.254/computeMetadata/v1/instance/id on the VM"
_UNREACHABLE = (
    "check that the VM runs sshd and that a firewall rule lets the route in (direct: from the function's"
    " subnet; iap: from 35.235.240.0/20 to tcp/22)"
)
PUBLISH = (
    "sudo sh -c 'for f in /etc/ssh/ssh_host_*_key.pub; do read -r t k c <$f; curl -sS --noproxy \\* -X PUT"
    " -H Metadata-Flavor:Google -d $k"
    " http://169.254.169.254/computeMetadata/v1/instance/guest-attributes/hostkeys/$t; done'"
)
"""What publishes a running VM's host keys as its guest agent does on the first boot, and never again
(guest-agent, instance_setup.go). Metadata ``enable-guest-attributes`` has to be TRUE."""
_ACCOUNT = "repair the account on the VM (chage -l USER shows what has expired), or let OS Login make it"
TICK = "nothing; the tick tries again"
WAIT = "nothing; Pub/Sub delivers the message again"
"""The next step if the obstacle passes by itself; only true for ``deferred``, see :func:`next_step`."""
_BY_ITSELF = {
    Result.DEFERRED: WAIT,
    Result.PARKED: TICK,
    Result.REQUESTED: "nothing; the tick checks again",
}
_ENFORCED_IN_VAIN = frozenset({"still_faulty", "unverifiable"})
AT_HAND = frozenset({"no_credentials", "credentials_unusable", "api_disabled"})
"""Reasons whose next step applies whichever store or API gave them."""

REASONS: Mapping[str, Meaning] = MappingProxyType(
    {
        # rejected
        "malformed": Meaning(
            "The message is not JSON, or does not have the form that it claims; detail says where."
        ),
        "not_an_event": Meaning("Neither a log entry, nor an incident, nor a tick."),
        "no_data": Meaning("The body, or the Pub/Sub message in it, contains no data."),
        "too_large": Meaning("The body is larger than any log entry may be."),
        "bad_identity": Meaning("project_id, zone or instance_id of the resource is missing or invalid."),
        "unknown_runbook": Meaning("This version has no runbook of that name.", "see logmend runbook list"),
        # refused: the facts
        "opted_in": Meaning(
            "The VM's metadata or configuration asks for workload certificates, or the line comes from an"
            " agent that logs it only if they are asked for: the owner wants them.",
            "for the VM's owner: configure the certificates, or remove what detail names",
        ),
        "opt_in_unknown": Meaning(
            "Whether the VM uses workload certificates could not be looked up, so it is left alone.",
            _GRANT_LOOKUP,
        ),
        "certificates_configured": Meaning(
            "Workload certificates are configured for this VM.",
            "for the VM's owner: the line says that the configuration is not valid",
        ),
        "certificates_in_use": Meaning(
            "The VM itself shows that workload certificates are in use: config_status is 200 or 412, or"
            " there is a certificate behind /run/secrets/workload-spiffe-credentials."
        ),
        "config_status_unknown": Meaning(
            "The VM's metadata server did not say whether certificates are configured (config_status) or"
            " asked for (opt_in). A 404 would mean no.",
            f"as logmend's login user (a firewall on the VM may allow only root): {_ASK_METADATA}",
        ),
        "no_curl": Meaning(
            "The VM has no curl, which the check needs to ask the metadata server.", "install curl on the VM"
        ),
        "metadata_root_only": Meaning(
            "The VM's metadata server answers root (OS Login used it when logmend logged in), but not"
            " logmend's login user.",
            "let that user reach 169.254.169.254 (a firewall rule on the VM with an owner match blocks"
            " it), or set LOGMEND_EXECUTOR=osconfig, whose agent is root",
        ),
        "systemd_silent": Meaning(
            "systemd on the VM (PID 1, or the bus to it) does not answer, so the state of its units is"
            " unknown.",
            "on the VM: systemctl is-system-running; if that hangs or cannot connect, repair D-Bus or restart"
            " the VM",
        ),
        "unreadable": Meaning(
            "logmend's login user may not read files that the check needs: certificates in /run/secrets,"
            " or logmend's own record in /var/lib/logmend.",
            "for the VM's owner: chmod 755 /run/secrets /var/lib/logmend",
        ),
        "irreversible": Meaning(
            "The timer's unit file does not belong to a package: it is a link, an alias or a copy, and"
            " disabling it could delete it.",
            "for the VM's owner: remove the link or copy (systemctl cat shows it), or disable it by hand",
        ),
        "not_this_timer": Meaning(
            "The line comes from the guest agent's core plugin; the timer is not its cause.",
            "for the VM's owner: the VM asks for certificates that are not configured",
        ),
        "metadata_server_trouble": Meaning(
            "The line is about the VM's metadata server, not about certificates.",
            f"if it persists: {_ASK_METADATA}",
        ),
        "unknown_variant": Meaning("No variant of the runbook recognises this form of the line.", _EXPLAIN),
        "exempt": Meaning(
            "The VM carries the exempt label.", "remove the label to let logmend act on the VM"
        ),
        "out_of_scope": Meaning(
            "The VM is outside LOGMEND_SCOPE_PROJECTS, LOGMEND_SCOPE_ZONES or LOGMEND_SCOPE_LABELS, or the"
            " runbook's own scope.",
            "widen the scope if logmend should look after it",
        ),
        "project_mismatch": Meaning(
            "The entry's log belongs to a different project than the VM it names.",
            "find out who writes to that log: the entry may be forged",
        ),
        "masked_by_others": Meaning("Someone masked the unit. logmend never removes a mask."),
        "unit_absent": Meaning("The unit no longer exists on the VM, so there is nothing to restore."),
        "legacy_agent_present": Meaning(
            "A legacy agent is installed that conflicts with the Ops Agent.",
            "remove stackdriver-agent and google-fluentd from the VM once their owner agrees",
        ),
        "managed_by_plugin": Meaning(
            "The VM Extension Manager or the guest agent's plugin manager installed the Ops Agent, which"
            " does not start beside a package.",
            "check the extension: gcloud compute instances vm-extensions list, or the extension policy",
        ),
        "managed_by_policy": Meaning(
            "An Ops Agent policy governs the VM (label goog-ops-agent-policy).",
            "see what the policy reports: gcloud compute os-config os-policy-assignment-reports list",
        ),
        "excluded_by_runbook": Meaning(
            "The runbook leaves VMs like this one alone (`unless` in its runbook.yaml).",
            "logmend runbook list {runbook} --format json shows the conditions; detail names the one"
            " that holds",
        ),
        "not_for_this_vm": Meaning(
            "The runbook is only for other VMs (`only` in its runbook.yaml).",
            "logmend runbook list {runbook} --format json shows the conditions; detail names the one"
            " that fails",
        ),
        "facts_unknown": Meaning(
            "A fact that a guard needs could not be looked up, so the VM is left alone.",
            _GRANT_LOOKUP,
        ),
        "no_previous_state": Meaning("logmend never changed this VM, so there is nothing to restore."),
        "conffile_prompt": Meaning(
            "dpkg would ask what to do with a configuration file that was changed on the VM and by"
            " its package.",
            "for the VM's owner: dpkg --configure -a, and answer the question",
        ),
        "managed_by_plugin_manager": Meaning(
            "The guest agent's plugin manager runs on the VM, and starts its plugins itself."
        ),
        "missing_key": Meaning(
            "A repository is signed with a key that the VM does not have, or that has expired. logmend never"
            " adds trust.",
            "for the VM's owner: install the repository's current key, as its documentation says",
        ),
        "agent_cannot_write": Meaning(
            "When it started, the Ops Agent on the VM reported that it cannot write everything to Cloud"
            " Logging or Cloud Monitoring; the cause is the one that it reported. A report alone changes"
            " nothing.",
            "to ask the VM itself: logmend diagnose --runbook ops-agent {instance}",
        ),
        "other_source": Meaning(
            "The missing source is not one that the runbook knows.",
            "for the VM's owner: correct or remove the source in /etc/apt",
        ),
        "other_format": Meaning(
            "The missing source is not a line in a .list file.",
            "for the VM's owner: correct or remove the source in /etc/apt",
        ),
        "repository_unknown": Meaning(
            "The VM could not ask the repository whether the source is gone (perhaps only apt knows"
            " the proxy).",
            "for the VM's owner: apt-get update",
        ),
        "dpkg_at_work": Meaning("The OS Config agent is installing something: a restart would cut it off."),
        "needs_ssh": Meaning(
            "The runbook runs over SSH only, for example because it restarts the agent that would run it.",
            f"{_AGAIN}, with LOGMEND_EXECUTOR=ssh",
        ),
        "other_cause": Meaning(
            "The disk is full, but not because of the file that the runbook knows.",
            "for the VM's owner: make room, or grow the disk",
        ),
        "record_does_not_fit": Meaning(
            "There is no room for the part of the log to keep and for logmend's own record.",
            "for the VM's owner: make room in /run, which is in memory",
        ),
        "no_way_back": Meaning("The runbook is irreversible: nothing can put back what it changed."),
        "observe_mode": Meaning(
            "The function, or this runbook, only observes.",
            "deploy it with LOGMEND_MODE=approve or LOGMEND_MODE=enforce; `logmend runbook list` shows each"
            " runbook's mode",
        ),
        # skipped
        "duplicate": Meaning(
            "The same runbook and action is already in progress on this VM, or the incident was seen before."
        ),
        "cooling_down": Meaning(
            "This VM was checked recently.", f"to act now: {_AGAIN}; to end the cooldown: {_RELEASE}"
        ),
        "stale": Meaning(
            "The entry is older than LOGMEND_MAX_EVENT_AGE.",
            "logmend replay FILE --allow-stale acts on it anyway; if every event is stale, check the clock",
        ),
        "not_running": Meaning(
            "The VM is not running.", "nothing; if the fault is still there, it is logged again"
        ),
        "instance_gone": Meaning("The VM no longer exists."),
        "already_requested": Meaning(
            "The VM already carries this request; the tick records how it ends.", "logmend status"
        ),
        "needs_human": Meaning(
            "Remediation failed too often, or the fault came back too often: logmend leaves this VM"
            " to a person.",
            f"see what was tried (logmend status), repair the VM, then: {_RELEASE}",
        ),
        "own_entry": Meaning("logmend itself or the OS Config agent wrote the entry."),
        "incident_closed": Meaning("The incident is over."),
        "test_notification": Meaning("A test message from the notification channel arrived."),
        "reverted": Meaning(
            "A revert set a hold: no automatic work of that runbook on this VM.",
            f"to allow it again: {_RELEASE}",
        ),
        "superseded_by_revert": Meaning(
            "A revert of the VM was requested after this, or this request does not name that revert.",
            f"to undo the revert: {_AGAIN}",
        ),
        "replayed": Meaning("The message was dead-lettered; its replay is done (detail names it)."),
        # skipped: what the log said after a fix (LOGMEND_CONFIRM_SILENCE)
        "confirmed_silent": Meaning(
            "After the fix the line stopped in Cloud Logging too, while other lines from the VM"
            " still arrived."
        ),
        "silence_unknown": Meaning(
            "Cloud Logging does not show whether the line stopped; the check on the VM still holds.",
            "if detail names a permission, grant it; if nothing else arrives from the VM, check its agent",
        ),
        "confirmed": Meaning(
            "After the fix a sign that only a repaired VM sends, such as the Ops Agent's own ping, arrived in"
            " Cloud Logging: the VM's logs arrive."
        ),
        "not_confirmed": Meaning(
            "The check on the VM saw the fix, but the sign that a repaired VM sends by itself did not arrive"
            " in Cloud Logging within an hour. Ops Agents before 2.46 never send it.",
            "logmend diagnose --runbook {runbook} {instance}",
        ),
        "goes_first": Meaning(
            "Another runbook goes first (detail says which), since it remediates the cause, or this runbook"
            " names it in `after`. This runbook runs after it.",
            "nothing; if the other runbook does not help, another outcome says so",
        ),
        "first_failed": Meaning(
            "The runbook that goes first did not help; detail says how it ended. This runbook was not begun.",
            f"resolve what detail describes, then: {_AGAIN}",
        ),
        # skipped or parked
        "frozen": Meaning(
            "The fleet, the runbook or the VM is frozen.",
            "ask the person who froze it (detail, logmend status); to lift it: logmend resume, with"
            " --runbook or"
            " --instance if only that is frozen",
        ),
        "budget_exhausted": Meaning(
            "The disruption budget of this window is used up.",
            "nothing; places become free when the window has passed. To go faster, raise"
            " LOGMEND_DISRUPTION_BUDGET",
        ),
        "group_of_one": Meaning(
            "It is the only VM of its managed instance group, so a person decides (LOGMEND_GROUPS_OF_ONE).",
            _DECIDE,
        ),
        "last_healthy": Meaning(
            "The VM is the last healthy one of its managed instance group.",
            "find out why the others are not healthy: gcloud compute instance-groups managed list-instances;"
            " the work continues when one of them is",
        ),
        "outside_window": Meaning(
            "No maintenance window is open for the VM, or there is a blackout (detail says until when).",
            "nothing; the work continues when the window opens. logmend status shows what is closed. To act"
            f" sooner: {_AGAIN} --outside-window --why TEXT",
        ),
        "breaker_open": Meaning(
            "Too many VMs failed: the breaker is open.",
            "find the common cause (logmend status), then: logmend resume --runbook {runbook}",
        ),
        "busy": Meaning(
            "Another attempt is working on this VM, or something on the VM itself blocks it, such as a"
            " package manager's lock (detail says what).",
            f"find out on the VM what keeps it busy, then: {_AGAIN}",
        ),
        "retry": Meaning(
            "Infrastructure is not ready; the tick tries again.", "nothing; the tick processes it"
        ),
        # approvals
        "no_such_approval": Meaning("There is no such approval.", "logmend approvals list"),
        "approval_decided": Meaning("This approval has already been decided.", "logmend approvals list"),
        "approval_expiring": Meaning("Nobody has decided on the plan yet, and it expires soon.", _DECIDE),
        "approval_expired": Meaning("Nobody decided on the plan in time.", f"if you still want it: {_AGAIN}"),
        "approval_differs": Meaning(
            "The VM or the runbook has changed since the approval (detail says what differs), so"
            " nothing was done.",
            "logmend approvals list, and decide again",
        ),
        # control by a person
        "declined": Meaning(
            "A person rejected a plan for this VM; a hold keeps automatic work of that runbook off it.",
            f"to plan again: {_RELEASE}",
        ),
        "cancelled": Meaning("A person cancelled it before it was begun (detail says who and why)."),
        "no_such_order": Meaning("There is no such request.", "logmend status"),
        "order_in_hand": Meaning(
            "The request is in progress or done, so it cannot be cancelled.", "logmend status"
        ),
        # controlled
        "freeze_set": Meaning("A freeze was set (detail says for what).", "to lift it: logmend resume NAME"),
        "freeze_lifted": Meaning("A person lifted a freeze (detail says which)."),
        "freeze_over": Meaning(
            "A freeze reached its end and was lifted (detail says which, whose and why).",
            "nothing, or to freeze again: logmend freeze",
        ),
        "vm_resumed": Meaning("A person released a VM (detail says from what)."),
        "host_key_forgotten": Meaning(
            "A person removed a VM's pinned host key; the next contact is a first contact."
        ),
        "wave_begun": Meaning(
            "A wave of a runbook began: the changes of the one before have lasted long enough.",
            "nothing; to keep it there: logmend freeze --wave --runbook {runbook}",
        ),
        "wave_held": Meaning(
            "A person keeps a runbook's wave where it is.",
            "to let it go on: logmend resume --wave --runbook {runbook}",
        ),
        "wave_released": Meaning("A person let a runbook's waves continue."),
        "breaker_opened": Meaning(
            "Too many VMs failed, so the runbook enforces nothing.",
            "find the common cause (logmend status), then: logmend resume --runbook {runbook}",
        ),
        "breaker_closed": Meaning("A person closed the breaker; earlier failures no longer count."),
        "diagnosed_as_root": Meaning("A person had a VM diagnosed as root; nothing was changed."),
        "plan_approved": Meaning("A person approved a plan."),
        "plan_rejected": Meaning(
            "A person rejected a plan; no new one is made for this VM.", f"to plan again: {_RELEASE}"
        ),
        # failed: the way to the VM
        "no_route": Meaning(
            "No executor can reach the VM.",
            "set LOGMEND_SSH_ROUTE=iap, or enable OS Config on the VM (metadata enable-osconfig=TRUE)",
        ),
        "unreachable": Meaning("Nothing answers on the VM's SSH port.", _UNREACHABLE),
        "connection_lost": Meaning("The connection was lost while a script ran.", WAIT),
        "deadline_exceeded": Meaning(
            "The attempt did not end within LOGMEND_ATTEMPT_DEADLINE.",
            "check the VM's load; if it is just slow, raise LOGMEND_ATTEMPT_DEADLINE",
        ),
        "ssh_busy": Meaning("The VM's SSH server accepts no more logins at the moment.", WAIT),
        "ssh_protocol_error": Meaning("What answers on the SSH port does not speak valid SSH.", _UNREACHABLE),
        "ssh_incompatible": Meaning(
            "No common algorithm with the VM's SSH server.",
            "allow a current algorithm in the VM's sshd_config",
        ),
        "session_refused": Meaning(
            "Logged in, but the SSH server opened no session.", "check MaxSessions in sshd_config"
        ),
        "not_permitted": Meaning("A login, sudo or an API call was refused.", _GRANT_LOGIN),
        "key_type_refused": Meaning(
            "The VM's SSH server does not accept keys of this type; hosts in FIPS mode refuse Ed25519.",
            "use a key of a type that detail names; for LOGMEND_SSH_KEY, ecdsa-sha2-nistp256 suits all hosts",
        ),
        "account_expired": Meaning("The account that logmend logs in as has expired on the VM.", _ACCOUNT),
        "password_expired": Meaning(
            "The password of the account that logmend logs in as has expired, so the VM runs no"
            " commands for it.",
            _ACCOUNT,
        ),
        "not_accepting_logins": Meaning(
            "Only root may log in to the VM at the moment: it is booting, going down, or has /etc/nologin.",
            WAIT,
        ),
        "login_closed": Meaning(
            "The VM's SSH server closed the connection during the login.",
            "read its journal (journalctl -u ssh -u sshd): PAM refuses accounts without giving a reason",
        ),
        "sudo_requires_tty": Meaning(
            "sudo on the VM requires a terminal (requiretty).",
            "in its sudoers: Defaults:USER !requiretty",
        ),
        "sudo_noexec": Meaning(
            "sudo on the VM does not let a command start others (noexec), so no script can work.",
            "in its sudoers: Defaults:USER !noexec",
        ),
        "no_sudo": Meaning("The VM has no sudo.", "install sudo on the VM"),
        "bad_credential": Meaning(
            "logmend's own key or certificate cannot be used.", "check LOGMEND_SSH_KEY"
        ),
        "host_key_mismatch": Meaning(
            "The server's host key is not the known one: another machine, or the VM's keys were renewed.",
            "find out why it changed. Then, for a pinned key: logmend resume --instance {instance}"
            " --forget-host-key; for published keys, on the VM: " + PUBLISH,
        ),
        "host_key_unknown": Meaning(
            "The VM's host keys are not known, so its server is not trusted.",
            "LOGMEND_SSH_ROUTE=iap with LOGMEND_SSH_HOST_KEYS=auto pins the key at first contact (pinned: on"
            " the direct route as well); or publish the VM's keys: gcloud compute instances add-metadata {vm}"
            " --metadata=enable-guest-attributes=TRUE, then on the VM: " + PUBLISH + "; or"
            " LOGMEND_EXECUTOR=osconfig, which needs none",
        ),
        "guest_attributes_disabled": Meaning(
            "An organization policy forbids guest attributes, and with them published host keys.",
            "LOGMEND_SSH_ROUTE=iap with LOGMEND_SSH_HOST_KEYS=auto, or known-hosts:PATH; or"
            " LOGMEND_EXECUTOR=osconfig",
        ),
        "out_of_files": Meaning("The function ran out of file descriptors.", "lower its concurrency"),
        "no_posix_account": Meaning(
            "OS Login has no account for logmend's service account in the VM's project.",
            "gcloud compute os-login describe-profile, as that account, shows its profile",
        ),
        "login_profile_full": Meaning(
            "The OS Login profile of logmend's service account has no room for a key.",
            "gcloud compute os-login ssh-keys list and remove, as that account",
        ),
        "key_not_imported": Meaning(
            "OS Login reported that it imported logmend's key, but it did not.",
            "detail has Google's reason; an organization policy may forbid keys in login profiles",
        ),
        "iap_not_authorized": Meaning(
            "IAP does not let logmend open a tunnel to the VM.",
            "grant roles/iap.tunnelResourceAccessor to logmend's service account",
        ),
        "iap_instance_lookup_failed": Meaning(
            "IAP knows no running VM of that name in that zone.",
            "gcloud compute instances describe {vm} shows whether it runs; the function's account needs"
            " roles/iap.tunnelResourceAccessor on it",
        ),
        "iap_request_refused": Meaning(
            "IAP refused the request to open a tunnel.",
            "check LOGMEND_IAP_ENDPOINT, and that IAP is enabled",
        ),
        "iap_reauthenticate": Meaning("IAP asks for a fresh access token.", WAIT),
        "iap_unavailable": Meaning("IAP's relay is not working properly.", WAIT),
        "iap_protocol_error": Meaning("IAP's relay sent something that its protocol does not allow.", WAIT),
        "iap_unknown_close": Meaning("IAP closed the tunnel with an unrecognised code.", WAIT),
        # failed: the way through the OS Config agent
        "osconfig_api_disabled": Meaning(
            "The OS Config API is not enabled in the VM's project.",
            "gcloud services enable osconfig.googleapis.com, in that project",
        ),
        "osconfig_disabled": Meaning(
            "The VM's metadata does not enable its OS Config agent.",
            "gcloud compute instances add-metadata {vm} --metadata=enable-osconfig=TRUE, or for its project",
        ),
        "no_service_account": Meaning(
            "The VM has no service account, which its OS Config agent needs to report.",
            "attach a service account to the VM (gcloud compute instances set-service-account)",
        ),
        "scripts_too_long": Meaning(
            "The runbook's scripts are too long for an OS policy, so it runs over SSH only.",
            "set LOGMEND_EXECUTOR=ssh or auto, or shorten the scripts (logmend runbook lint)",
        ),
        "assignment_missing": Meaning(
            "The VM's zone has no OS policy assignment for this runbook and action.",
            "logmend policy apply, or add the zone to the Terraform variable zones",
        ),
        "assignment_outdated": Meaning(
            "The zone's OS policy assignment was not made from this version's scripts.",
            "logmend policy apply, or terraform apply",
        ),
        "rollout_in_progress": Meaning(
            "An OS policy assignment is still being rolled out.", "logmend policy status"
        ),
        "revert_not_checked": Meaning(
            "The OS Config agent cannot check a revert without enforcing it.",
            f"check over SSH: {_LOOK} with LOGMEND_EXECUTOR=ssh",
        ),
        "no_agent_detected": Meaning(
            "No OS Config agent has reported from this VM.",
            "install google-osconfig-agent and check that the VM reaches osconfig.googleapis.com",
        ),
        "agent_too_old": Meaning(
            "The VM's OS Config agent does not know OS policies.", "update google-osconfig-agent on the VM"
        ),
        # requested or unverified: what the OS Config agent reported, or did not
        "no_report": Meaning(
            "The OS Config agent has not reported since it was asked.",
            "check that google-osconfig-agent runs on the VM (the runbook os-config-agent checks"
            " it); a report"
            " may take an hour",
        ),
        "not_enforced": Meaning("The OS Config agent sees the fault and has not reported enforcing it."),
        "task_timeout": Meaning("The OS Config agent did not finish in time; it tries again by itself."),
        "unexpected_agent_state": Meaning(
            "The VM or its OS Config agent restarted in the meantime; it tries again by itself."
        ),
        "internal_service_errors": Meaning("The OS Config service had an internal error."),
        "resource_execution_errors": Meaning("The OS Config agent reported errors without details."),
        # failed: what was seen there
        "wrong_instance": Meaning(
            "Another machine answers on the VM's address; nothing was changed.",
            "check the VM's addresses and routes: gcloud compute instances describe {vm}",
        ),
        "script_error": Meaning(
            "A script of the runbook ended with an error.",
            f"on the VM, repair what detail describes (the script's last output), then: {_AGAIN}",
        ),
        "still_faulty": Meaning(
            "Enforced, but the check still sees the fault.",
            f"find out on the VM what brings the fault back, then: {_LOOK}",
        ),
        "line_goes_on": Meaning(
            "A fix was verified, but the line continued, and a new check sees the fault again.",
            f"stop (logmend freeze), find out on the VM what brings the fault back, then: {_LOOK}",
        ),
        "unverifiable": Meaning(
            "Enforced, but no later check gave evidence.",
            f"check the VM by hand, then: {_LOOK}",
        ),
        "no_evidence": Meaning(
            "The check ran, but did not report what it saw, or on which VM.",
            "check that the VM reaches its metadata server",
        ),
        "no_second_check": Meaning("Enforced, but the second check did not run."),
        "check_failed": Meaning("The check after enforcing ended with an error."),
        "leave_alone": Meaning("The check on the VM asked to leave the VM alone, without a valid reason."),
        # deferred or failed: logmend itself and Google's APIs
        "in_hand": Meaning("An earlier delivery of the same message is still in progress.", WAIT),
        "superseded": Meaning("A newer attempt took the lease; this one stopped.", WAIT),
        "internal_error": Meaning("An unexpected error.", "please report it, with the function's log"),
        "ledger_missing": Meaning("The ledger's store does not exist.", "check LOGMEND_STATE"),
        "ledger_forbidden": Meaning(
            "logmend may not write to the ledger.",
            "grant roles/datastore.user on the ledger's project, or correct the file's permissions",
        ),
        "ledger_schema": Meaning(
            "The ledger was written by a newer version.", "use that version of logmend, or another file"
        ),
        "ledger_rejected": Meaning("The ledger's store refused a document.", "please report it, with detail"),
        "compute_unavailable": Meaning("The Compute Engine API gives no usable answer at the moment.", WAIT),
        "ledger_unavailable": Meaning("The ledger cannot be reached at the moment.", WAIT),
        "ledger_replaced": Meaning(
            "The ledger's file was removed or replaced while in use; this process has made no change since.",
            "put the file back; or stop every process that uses it, and start them with the file to keep",
        ),
        "ledger_contention": Meaning("Too many attempts write the same part of the ledger.", WAIT),
        "ledger_corrupt": Meaning(
            "A document in the ledger has an unexpected form; perhaps another version wrote it.",
            "compare the versions that share the ledger",
        ),
        "outcome_log_unavailable": Meaning(
            "The outcome could not be recorded yet; the ledger keeps it.", WAIT
        ),
        "dead_letter_unavailable": Meaning("The dead-letter topic could not be reached.", WAIT),
        "api_unavailable": Meaning("A Google API gives no usable answer at the moment.", WAIT),
        "api_unreachable": Meaning("A Google API cannot be reached.", WAIT),
        "api_protocol_error": Meaning("A Google API gave an unreadable answer.", WAIT),
        "api_disabled": Meaning("A Google API is not enabled.", "gcloud services enable, as detail says"),
        "rate_limited": Meaning(
            "A Google API's quota is used up for now; events that repeat are skipped.", TICK
        ),
        "unauthenticated": Meaning("A Google API did not accept the token.", WAIT),
        "credentials_unavailable": Meaning("No access token is available at the moment.", WAIT),
        "no_credentials": Meaning(
            "There are no Google credentials.", "gcloud auth application-default login"
        ),
        "credentials_unusable": Meaning(
            "The Google credentials cannot be used.", "gcloud auth application-default login"
        ),
        "invalid_request": Meaning("A Google API rejected the request as invalid.", _DOCTOR),
        "failed_precondition": Meaning("A Google API requires something else first.", "do what detail says"),
        "not_found": Meaning("A named resource does not exist.", _DOCTOR),
        "already_exists": Meaning("The resource to create already exists."),
        "conflict": Meaning("Someone else changed the same thing at the same time.", WAIT),
        "unexpected_error": Meaning("An unexpected error.", "please report it, with detail"),
    }
)


class About(StrEnum):
    """What a reason is about. Only what was learned from the VM itself may be remembered for it."""

    EVENT = "event"
    """The entry, incident or message: anyone who may write logs can have written it."""
    VM = "vm"
    """The VM, as reported by Compute, its OS Config agent, or the server at its address."""
    LOGMEND = "logmend"
    """Neither: logmend's own controls, intents and queue, its ledger and identity, and Google's APIs."""


_OF_THE_EVENT = (
    "malformed not_an_event no_data too_large bad_identity unknown_runbook certificates_configured"
    " missing_key other_source agent_cannot_write"
    " not_this_timer metadata_server_trouble unknown_variant project_mismatch duplicate stale own_entry"
    " incident_closed test_notification"
)
_OF_THE_VM = (
    "opted_in opt_in_unknown certificates_in_use config_status_unknown exempt out_of_scope masked_by_others"
    " unit_absent legacy_agent_present managed_by_plugin managed_by_policy"
    " excluded_by_runbook not_for_this_vm facts_unknown"
    " no_previous_state not_running instance_gone no_route unreachable"
    " connection_lost deadline_exceeded ssh_busy ssh_protocol_error ssh_incompatible session_refused"
    " not_permitted host_key_mismatch host_key_unknown no_posix_account iap_not_authorized"
    " iap_instance_lookup_failed osconfig_disabled no_service_account assignment_missing assignment_outdated"
    " no_agent_detected agent_too_old no_report not_enforced task_timeout unexpected_agent_state"
    " resource_execution_errors wrong_instance script_error still_faulty unverifiable no_evidence"
    " no_second_check check_failed leave_alone unreadable irreversible no_curl no_sudo sudo_requires_tty"
    " metadata_root_only systemd_silent"
    " sudo_noexec password_expired account_expired login_closed not_accepting_logins key_type_refused"
    " conffile_prompt managed_by_plugin_manager other_format repository_unknown"
    " dpkg_at_work other_cause record_does_not_fit"
    " line_goes_on confirmed_silent silence_unknown confirmed not_confirmed guest_attributes_disabled"
    " approval_differs group_of_one"
)
_OF_LOGMEND = (
    "observe_mode cooling_down already_requested needs_human reverted superseded_by_revert replayed"
    " freeze_set freeze_lifted freeze_over vm_resumed host_key_forgotten breaker_opened breaker_closed"
    " wave_begun wave_held wave_released"
    " diagnosed_as_root goes_first first_failed plan_approved plan_rejected declined cancelled"
    " no_such_order order_in_hand last_healthy outside_window"
    " frozen budget_exhausted breaker_open busy retry no_such_approval approval_decided"
    " approval_expiring approval_expired bad_credential out_of_files login_profile_full"
    " iap_request_refused iap_reauthenticate"
    " iap_unavailable iap_protocol_error iap_unknown_close osconfig_api_disabled rollout_in_progress"
    " revert_not_checked internal_service_errors in_hand superseded internal_error ledger_missing"
    " ledger_forbidden ledger_schema ledger_rejected compute_unavailable ledger_unavailable"
    " ledger_contention ledger_corrupt outcome_log_unavailable dead_letter_unavailable api_unavailable"
    " api_unreachable api_protocol_error api_disabled rate_limited unauthenticated credentials_unavailable"
    " no_credentials credentials_unusable invalid_request failed_precondition not_found already_exists"
    " no_way_back conflict unexpected_error ledger_replaced scripts_too_long key_not_imported"
    " needs_ssh"
)
ABOUT: Mapping[str, About] = MappingProxyType(
    {
        reason: about
        for about, reasons in (
            (About.EVENT, _OF_THE_EVENT),
            (About.VM, _OF_THE_VM),
            (About.LOGMEND, _OF_LOGMEND),
        )
        for reason in reasons.split()
    }
)
"""What each reason of :data:`REASONS` is about; a test keeps it complete."""

UNREACHED = frozenset(
    {
        "unreachable",
        "no_route",
        "connection_lost",
        "deadline_exceeded",
        "ssh_busy",
        "ssh_protocol_error",
        "session_refused",
        "no_report",
        "no_agent_detected",
    }
)
"""Reasons about the way to a VM or its agent, not about a change there; counted by project and zone."""


class _Blank(Struct, frozen=True):
    """Values for the words in braces, each its own placeholder if the outcome has none."""

    instance: str = "PROJECT/ZONE/ID"
    vm: str = "NAME --zone=ZONE --project=PROJECT"
    runbook: str = "RUNBOOK"
    approval: str = "APPROVAL"


def meaning(result: Result, reason: str | None) -> str:
    """Return what an outcome means: its reason's meaning, else its result's."""
    entry = REASONS.get(reason or "")
    return entry.meaning if entry else RESULTS[result].meaning


def next_step(outcome: Outcome) -> str:
    """Return what a person does next, with the command ready to paste; empty if there is nothing to do."""
    entry = REASONS.get(outcome.reason or "")
    step = (entry.next_step if entry else "") or RESULTS[outcome.result].next_step
    if outcome.reason == "bad_identity" and outcome.source and outcome.source.kind == "incident":
        step = _GROUP
    if outcome.result is Result.PLANNED and outcome.approval_id:
        step = _DECIDE
    elif outcome.result is Result.PLANNED and outcome.action is Action.REVERT:
        step = _REVERT
    elif outcome.result is Result.PLANNED and outcome.mode is Mode.ENFORCE:
        step = _MEND
    if outcome.reason == "busy" and outcome.result is not Result.FAILED:
        step = WAIT
    if step in (WAIT, TICK):
        step = _BY_ITSELF.get(outcome.result) or RESULTS[outcome.result].next_step
    elif outcome.result is Result.UNVERIFIED and step != RESULTS[outcome.result].next_step:
        step = f"nothing yet; the tick checks again. If it stays so: {step}"
    if IRREVERSIBLE in outcome.notes:
        step = "" if outcome.result is Result.REMEDIATED else step
    elif outcome.action is Action.ENFORCE and (
        outcome.result is Result.UNVERIFIED or outcome.reason in _ENFORCED_IN_VAIN
    ):
        step = f"{step}; to undo: {_UNDO}".removeprefix("; ")
    return _of_group(outcome, _of_cause(outcome, _formatted(outcome, step)))


def _formatted(outcome: Outcome, step: str) -> str:
    if "{" not in step:
        return step
    blank, ref = _Blank(), outcome.instance
    return step.format(
        instance=ref or blank.instance,
        vm=_vm(ref) if ref else blank.vm,
        command="revert" if outcome.action is Action.REVERT else "run",
        runbook=outcome.runbook or blank.runbook,
        approval=outcome.approval_id or blank.approval,
    )


def _of_cause(outcome: Outcome, step: str) -> str:
    """Put what to do about the fault's cause first, unless this runbook remediates it."""
    diagnosis, ref = outcome.diagnosis, outcome.instance
    if diagnosis is None or not diagnosis.next_step or ref is None or diagnosis.runbook == outcome.runbook:
        return step
    return f"{filled(diagnosis.next_step, ref)}; then: {step}".removesuffix("; then: ")


def _of_group(outcome: Outcome, step: str) -> str:
    if outcome.before is None or outcome.before.finding is not Finding.FAULTY:
        return step
    return for_good(outcome.lineage, step)


def for_good(made: Lineage, step: str) -> str:
    """Add to a next step how to fix the fault of a group's VM for good: in what the VM is made from."""
    if made.group is None:
        return step
    place = " and ".join(
        [f"template {made.template}"] * bool(made.template) + [f"image {made.image}"] * bool(made.image)
    )
    text = f"for every VM of {made.group}: repair {place or 'its template'}, from which each new one is made"
    return f"{step}; {text}".removeprefix("; ")


def filled(step: str, ref: InstanceRef) -> str:
    """Put a VM into the next step of a cause, whose only placeholders are ``{vm}`` and ``{instance}``."""
    return step.replace("{vm}", _vm(ref)).replace("{instance}", str(ref))


def _vm(ref: InstanceRef) -> str:
    return f"{ref.instance_id} --zone={ref.zone} --project={ref.project_id}"
