"""What a setting names, by the grammar of whoever named it: a value that can name nothing is a ValueError.

Each parser takes the text of one variable and gives the value without white space around it. No error
repeats the text: it could be a secret that landed in the wrong variable. Standard library only.
"""

import re
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from logmend.model.enums import PROJECT_PATTERN, ZONE_PATTERN

T = TypeVar("T")

LONGEST_PATH = 4096
"""Bytes of a path (``PATH_MAX`` in linux/limits.h)."""

LONGEST_LABEL = 63
"""Characters of a label's key or value (cloud.google.com/compute/docs/labeling-resources)."""

MOST_LABELS = 8
"""Labels that are told of a VM: each is kept in the ledger and in every outcome."""

_DATABASE = re.compile(r"\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOPIC = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9.-]*@(?:[a-z0-9-]+\.)+gserviceaccount\.com")
_USER = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,31}")
_HERE = ("localhost", "127.0.0.1", "::1")


def text(value: str) -> str:
    """Parse a text that is there and can be printed in one line."""
    if not value.strip():
        raise ValueError("expected a value; leave the variable unset for the default")
    if not value.strip().isprintable():
        raise ValueError("expected one line of text")
    return value.strip()


def listed(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Parse a comma-separated list with at least one part and no empty one; the parts differ."""

    def parts(value: str) -> tuple[T, ...]:
        items = []
        for number, part in enumerate(value.split(","), 1):
            if not part.strip():
                raise ValueError(f"part {number} of the list is empty; leave the variable unset for no limit")
            try:
                items.append(parse(part))
            except ValueError as error:
                raise ValueError(f"part {number} of the list: {error}") from None
        if len(set(items)) < len(items):
            raise ValueError("the list contains a duplicate")
        return tuple(items)

    return parts


def project(value: str) -> str:
    """Parse a project id, with its domain if it has one (``example.com:shop``); numbers are none."""
    return _matching(PROJECT_PATTERN, value, "a project id such as web-prod")


def zone(value: str) -> str:
    """Parse a zone."""
    return _matching(ZONE_PATTERN, value, "a zone such as us-west1-a")


def label(value: str) -> tuple[str, str]:
    """Parse ``KEY=VALUE`` as Compute Engine allows labels; the value may be empty.

    At most 63 characters each: lower-case or international letters, digits, ``_`` and ``-``; a key begins
    with a letter. (cloud.google.com/compute/docs/labeling-resources; the same in gcloud's ``labels_util``)
    """
    key, equals, worth = text(value).partition("=")
    if not equals:
        raise ValueError("expected KEY=VALUE")
    if not (key and _is_lower(key[0]) and _is_label_word(key)):
        raise ValueError(
            "no VM can carry this label: a key begins with a lower-case letter and has at most 63 lower-case"
            " letters, digits, _ and -"
        )
    if not _is_label_word(worth):
        raise ValueError(
            "no VM can carry this label: a value has at most 63 lower-case letters, digits, _ and -"
        )
    return key, worth


def label_key(value: str) -> str:
    """Parse the key of a label."""
    return label(f"{value}=")[0]


def label_keys(value: str) -> tuple[str, ...]:
    """Parse a list of at most :data:`MOST_LABELS` keys of labels."""
    if len(keys := listed(label_key)(value)) > MOST_LABELS:
        raise ValueError(f"expected at most {MOST_LABELS}")
    return keys


def labels(value: str) -> tuple[tuple[str, str], ...]:
    """Parse a list of labels that one VM can carry all of: no key twice."""
    pairs = listed(label)(value)
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("no VM can carry these labels: a key is there twice")
    return pairs


def topic(value: str) -> str:
    """Parse ``projects/PROJECT/topics/TOPIC`` (``Topic.name`` in google.pubsub.v1)."""
    match value.strip().split("/"):
        case ["projects", owner, "topics", name] if PROJECT_PATTERN.fullmatch(owner) and _TOPIC.fullmatch(
            name
        ):
            return value.strip()
        case _:
            raise ValueError("expected projects/PROJECT/topics/TOPIC")


def state(value: str) -> str:
    """Parse ``memory:``, ``sqlite:PATH`` or ``firestore:PROJECT[/DATABASE]``.

    A database is ``(default)``, or 4 to 63 lower-case letters, digits and hyphens and nothing like a UUID
    (``CreateDatabaseRequest.database_id`` in google.firestore.admin.v1).
    """
    expected = "memory:, sqlite:PATH or firestore:PROJECT/DATABASE"
    kind, colon, where = value.strip().partition(":")
    if not colon or kind not in ("memory", "sqlite", "firestore") or (kind == "memory" and where):
        raise ValueError(f"expected {expected}")
    if kind == "sqlite":
        path(where)
    if kind == "firestore":
        owner, slash, database = where.partition("/")
        project(owner)
        if slash and (not _DATABASE.fullmatch(database) or _UUID.fullmatch(database)):
            raise ValueError("expected a database id of 4 to 63 lower-case letters, digits and hyphens")
    return value.strip()


def outcomes(value: str) -> str:
    """Parse ``stdout``, ``cloud``, ``none`` or ``file:PATH``."""
    if value.strip() in ("stdout", "cloud", "none"):
        return value.strip()
    return _with_path(value, "file", "stdout, cloud, file:PATH or none")


def host_keys(value: str) -> str:
    """Parse ``auto``, ``published``, ``pinned``, ``insecure`` or ``known-hosts:PATH``."""
    if value.strip() in ("auto", "published", "pinned", "insecure"):
        return value.strip()
    return _with_path(value, "known-hosts", "auto, published, pinned, known-hosts:PATH or insecure")


def path(value: str) -> str:
    """Parse a path in one line, as long as a path may be."""
    if len(text(value).encode()) > LONGEST_PATH:
        raise ValueError("expected a path")
    return value.strip()


def secret_path(value: str) -> str:
    """Parse the path of a file with a secret: it begins with ``/``, ``./`` or ``../``, as no key does."""
    if not value.strip().isprintable() or not value.strip().startswith(("/", "./", "../")):
        raise ValueError("expected the path of a file, from / on: do not put the key itself into a variable")
    return path(value)


def user(value: str) -> str:
    """Parse a Linux user's name, as OS Login's guest takes it (``kUserNameRegex``, google/guest-oslogin)."""
    return _matching(_USER, value, "a user name of at most 32 letters, digits, . _ and -")


def service_account(value: str) -> str:
    """Parse a service account's email address (cloud.google.com/iam/docs/service-account-types)."""
    return _matching(_ACCOUNT, value, "a service account's address, NAME@….gserviceaccount.com")


def url(value: str) -> str:
    """Parse the address of an API: ``https`` or ``http``, no user, query or fragment."""
    return _url(value, ("https", "http"), "expected a URL such as https://compute.example")


def relay(value: str) -> str:
    """Parse the address of an IAP relay. It gets a token: ``wss``, or ``ws`` on this machine only."""
    expected = "has to be wss://… (ws:// only on this machine): it gets a token"
    url = _url(value, ("wss", "ws"), expected)
    if urlsplit(url).scheme == "ws" and urlsplit(url).hostname not in _HERE:
        raise ValueError(expected)
    return url


def _url(value: str, schemes: tuple[str, ...], expected: str) -> str:
    if not text(value).isascii() or " " in text(value):
        raise ValueError(expected)
    try:
        parts = urlsplit(text(value))
        _ = parts.port  # raises if it is invalid
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(expected)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a URL here has no user, password, query or fragment")
    return text(value)


def _matching(pattern: re.Pattern[str], value: str, expected: str) -> str:
    if pattern.fullmatch(value.strip()) is None:
        raise ValueError(f"expected {expected}")
    return value.strip()


def _with_path(value: str, kind: str, expected: str) -> str:
    found, colon, where = value.strip().partition(":")
    if found != kind or not colon or not where:
        raise ValueError(f"expected {expected}")
    path(where)
    return value.strip()


def _is_lower(character: str) -> bool:
    return character.isalpha() and (character.islower() or not character.isupper())


def _is_label_word(word: str) -> bool:
    return len(word) <= LONGEST_LABEL and all(
        each in "_-" or each.isdigit() or _is_lower(each) for each in word
    )
