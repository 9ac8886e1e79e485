"""``runbook try --machine`` where no machine can be made: it says what is missing, and nothing is run."""

import os

import pytest
from tests.unit.cli.conftest import Run, run

from logmend_cli.machine import roots, slots, throwaway
from logmend_cli.runbook.on_machine import MachineRecipe

__all__ = ["run"]

TRY = ("runbook", "try", "workload-cert-refresh")


def test_all_that_is_missing_is_named_with_its_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and with what installs it; whoever is not root is told so beside it."""
    monkeypatch.setenv("PATH", "/nowhere")
    ran = run(*TRY, "--machine")
    assert (ran.exit_code, ran.stdout) == (2, "")
    for command, package in throwaway.NEEDED.items():
        assert command in ran.stderr
        assert package in ran.stderr.rpartition("apt-get install")[2]
    assert ("--machine takes root" in ran.stderr) == (os.geteuid() != 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prepare", __file__], "go with --machine"),
        (["--package", "chrony"], "go with --machine"),
    ],
)
def test_what_only_a_real_machine_has_is_not_asked_of_a_pretend_one(
    run: Run, words: list[str], said: str
) -> None:
    """It would be left out in silence."""
    ran = run(*TRY, *words)
    assert (ran.exit_code, ran.stdout, said in ran.stderr) == (2, "", True), ran.stderr


@pytest.mark.parametrize(
    ("wanted", "option"),
    [
        (MachineRecipe("-o"), "--release"),
        (MachineRecipe("trixie", ("chrony", "a,b")), "--package"),
        (MachineRecipe("trixie", ("-o=Dir::Etc=/",)), "--package"),
        (MachineRecipe("trixie", archive="copy:///"), "--archive"),
        (MachineRecipe("trixie", archive="--help"), "--archive"),
    ],
)
def test_what_is_no_name_or_address_reaches_no_installer(wanted: MachineRecipe, option: str) -> None:
    """An option of the installer's least of all."""
    (said,) = wanted.problems()
    assert said.startswith(option)
    assert not MachineRecipe("trixie", ("libc6", "g++-12"), "http://deb.debian.org/debian").problems()


def test_a_root_is_kept_for_its_very_packages_and_archive() -> None:
    """One that was made from others is not taken for it."""
    places = {
        roots.place("trixie"),
        roots.place("bookworm"),
        roots.place("trixie", (*roots.PACKAGES, "chrony")),
        roots.place("trixie", archive="http://mirror.example/debian"),
    }
    assert len(places) == 4
    assert roots.place(*MachineRecipe("trixie").root) == roots.place("trixie"), "the lab's own is used again"


def test_a_slot_whose_lock_was_taken_away_meanwhile_is_taken_anew(tmp_path, monkeypatch) -> None:
    """Two machines never share one: the lock that counts is the one that is still there."""
    monkeypatch.setattr(slots, "_FOLDER", tmp_path)
    monkeypatch.setattr(slots.Slot, "clear", lambda _: None)
    first, second = slots.take(), slots.take()
    assert first.number != second.number
    first.release()
    assert [each.name for each in tmp_path.iterdir()] == [str(second.number)]
    third = slots.take()
    assert third.number == first.number
    second.release()
    third.release()
