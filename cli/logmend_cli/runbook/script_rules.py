"""The rules for a runbook's script: both executors have to be able to run it on any Linux VM.

POSIX ``/bin/sh`` (dash, bash called sh, busybox), the exit codes of OS Config's exec contract, nothing that
can block without ``timeout``, every path below ``${LOGMEND_ROOT:-}``. Some rules read the text; this
machine's shells, and shellcheck if it is installed, check the rest.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from logmend.runbook import Problem

SHELLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"dash": ("dash",), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh")}
)
"""Shells that VMs have as ``/bin/sh``, by the command that has to be installed."""

_BLOCKING = (
    "apt|apt-get|curl|dnf|dpkg|flock|gcloud|gsutil|journalctl|mount|nc|ping|rpm|service|ssh|systemctl|systemd-run"
    "|umount|wget|yum|zypper"
)
_COMMAND = re.compile(
    r"(?:^|[;&|({!]|\b(?:if|elif|then|else|while|until|do|sudo|exec|nohup|env)[ \t\v])[ \t\v]*"
    rf"(?:[A-Za-z_]\w*=[^\s;|&]*[ \t\v]+)*({_BLOCKING})(?![\w=-])",
    re.MULTILINE,
)
_CHANGING = re.compile(
    r"\b(?:systemctl[ \t\v]+(?:--\S+[ \t\v]+)*(?:enable|disable|start|stop|restart|mask|unmask|reset-failed)"
    r"|sudo|systemd-run|apt-get(?![^\n;|&]*--print-uris)|yum|dnf|zypper|rm|mv|mkdir|tee|touch|chmod|chown"
    r"|ln)(?=[ \t\v])"
)
_BASHISMS: Mapping[str, str] = MappingProxyType(
    {
        r"\[\[": "[[ ]] is not POSIX; use [ ] or case",
        r"(?<!\$)\(\(": "(( )) is not POSIX; use [ ] and $(( ))",
        r"<<<": "<<< is not POSIX; use printf and a pipe",
        r"&>": "&> is not POSIX; use >FILE 2>&1",
        r"[<>]\(": "process substitution is not POSIX; use a pipe or a file",
        r"\$'": "$'…' is not POSIX; use printf",
        r"\$\{\w+(?:\^|,|//|/|:\d|@)": "this expansion is not POSIX; use sed, or # and %",
        r"\$\{!": "${!…} is not POSIX",
        r"\b\w+=\((?!\()": "arrays are not POSIX; use the positional parameters",
        r"(?:^|[;&|({]|\b(?:then|do|else)\s)\s*"
        r"(?:function|local|declare|typeset|source|pushd|popd|select)\s": "not POSIX; not in every /bin/sh",
        r"\becho\s+-[neE]+\s": "options of echo are not POSIX; use printf",
        r"\bset\s+-o\s+pipefail\b": "pipefail is not in every /bin/sh",
        r"\[\s[^\]]*\s==\s": "== is not POSIX; use =",
    }
)
_ABSOLUTE = re.compile(r"(?<![\w}.:/~$@-])/(?:bin|etc|home|lib|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)\b")


def check(file: str, text: str, kind: str) -> list[Problem]:
    """Check one rendered script: ``kind`` is validate, enforce or diagnose; problems name ``file``."""
    problems = [*_read(file, text, kind), *_parsed(file, text), *_shellcheck(file, text)]
    return sorted(set(problems), key=lambda each: (each.line or 0, each.message))


def unavailable() -> list[str]:
    """Name the checks that this machine cannot do."""
    lacks = [f"{name} -n: no {name} here" for name in SHELLS if shutil.which(name) is None]
    if shutil.which("shellcheck") is None:
        lacks.append("shellcheck: not installed")
    return lacks


def _read(file: str, text: str, kind: str) -> Iterator[Problem]:
    """Apply the rules that read the text."""
    plain = _plain(text)
    for found in _COMMAND.finditer(plain):
        yield Problem(
            file,
            _line(plain, found.start(1)),
            f"{found[1]} can block",
            f"write timeout SECONDS {found[1]} …: neither executor bounds a single command",
        )
    uncommented = _without_comments(text)
    for pattern, why in _BASHISMS.items():
        for found in re.finditer(pattern, uncommented, re.MULTILINE):
            yield Problem(file, _line(uncommented, found.start()), f"{found[0].strip()}: {why}")
    for found in _ABSOLUTE.finditer(uncommented):
        yield Problem(
            file,
            _line(uncommented, found.start()),
            f"{found[0]} is an absolute path",
            "begin it with ${LOGMEND_ROOT:-}, so that tests and demo run without root",
        )
    for found in re.finditer(r"\bexit[ \t]+0\b", plain):
        yield Problem(
            file,
            _line(plain, found.start()),
            "exit 0 is an error to both executors",
            "exit 100 when all is well",
        )
    if kind == "enforce":
        yield from _enforces(file, text)
        return
    codes = {"100": "the desired state", "101": "the fault"}
    if kind == "diagnose":
        codes = {"100": "a completed diagnosis"}
    else:
        yield from _mark(file, text, "prints no mark")
    for code, meaning in codes.items():
        if not re.search(rf"\b{code}\b", plain):
            yield Problem(file, None, f"never exits {code}", f"{code} stands for {meaning}")
    yield from _looks(file, text, plain)


def _looks(file: str, text: str, plain: str) -> Iterator[Problem]:
    """Apply the rules for every script that only looks."""
    if "instance_id=" not in text:
        yield Problem(
            file,
            None,
            "prints no instance_id",
            "ask the metadata server: without it the evidence may be another VM's",
        )
    for found in _CHANGING.finditer(plain):
        yield Problem(
            file,
            _line(plain, found.start()),
            f"{found[0].strip()} changes the VM",
            "validate and diagnose scripts only check",
        )


def _enforces(file: str, text: str) -> Iterator[Problem]:
    yield from _mark(file, text, "leaves no mark")
    if not re.search(r"\b100\b", text):
        yield Problem(file, None, "never exits 100", "100 is the only code for success in both executors")
    if not re.search(r"\bflock\b", text):
        yield Problem(
            file,
            None,
            "takes no lock",
            "two attempts may run at once: timeout 60 flock 9 on a file of its own",
        )
    if "var/lib/logmend/" not in text:
        yield Problem(
            file,
            None,
            "keeps no record",
            "note the previous state under /var/lib/logmend before changing anything",
        )


def _mark(file: str, text: str, lacks: str) -> Iterator[Problem]:
    if ".mark" not in text:
        why = "/var/lib/logmend/NAME.mark proves that an attempt enforced if its end was not seen"
        yield Problem(file, None, lacks, why)


def _parsed(file: str, text: str) -> Iterator[Problem]:
    """Let every installed shell parse the script."""
    for name, command in SHELLS.items():
        if shutil.which(name) is None:
            continue
        done = subprocess.run(
            [*command, "-n"],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=20,
            check=False,
        )
        if done.returncode or done.stderr:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            found = re.search(r"(?:line )?(\d+):", said[0])
            yield Problem(file, int(found[1]) if found else None, f"{name} -n: {said[0].rpartition(': ')[2]}")


def _shellcheck(file: str, text: str) -> Iterator[Problem]:
    """Ask shellcheck, if it is installed, for warnings and errors."""
    if shutil.which("shellcheck") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.sh"
        path.write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["shellcheck", "--norc", "-s", "sh", "-S", "warning", "-f", "json", str(path)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )
    for each in json.loads(done.stdout or "[]"):
        yield Problem(
            file,
            each["line"],
            f"shellcheck SC{each['code']}: {each['message']}",
            f"shellcheck.net/wiki/SC{each['code']}",
        )


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + text.count("\v", 0, position) + 1


def _without_comments(text: str) -> str:
    """Blank comments, at least outside single quotes; line numbers stay."""
    return _QUOTED.sub(lambda found: " " * len(found[0]) if found[0].startswith("#") else found[0], text)


def _plain(text: str) -> str:
    r"""Blank comments and single-quoted text (a detached script limits itself), and join continued lines.

    A joined line end becomes ``\v``, which keeps line numbers. Double quotes stay: they may hold ``$(…)``.
    """
    joined = text.replace("\\\n", " \v")
    return _QUOTED.sub(
        lambda found: found[0] if found[0][0] == '"' else re.sub(r"[^\n\v]", " ", found[0]), joined
    )


_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|\$\((?:[^()\"]|\"[^\"]*\")*\)|[^\"\\])*\"|(?<![^\s;|&(])#[^\n]*")
"""A singly quoted string, a doubly quoted one, or a comment."""
