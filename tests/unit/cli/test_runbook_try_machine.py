"""``runbook try --machine`` where no machine can be made: it says what is missing, and nothing is run."""

import io
import os
import signal
import stat
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Run, run

from logmend_cli.machine import roots, slots, throwaway
from logmend_cli.machine.hardware import Hardware
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
    assert ("--machine needs root" in ran.stderr) == (os.geteuid() != 0)


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


def test_a_link_of_that_name_that_somebody_else_made_is_left_alone(tmp_path, monkeypatch) -> None:
    """A machine of the workstation's own may be called lm2; ours have a hardware address of theirs."""
    monkeypatch.setattr(slots, "_LINKS", tmp_path)
    slot = slots.Slot(2, io.StringIO())
    assert not slot.has_link()
    (tmp_path / "ve-lm2").mkdir()
    address = tmp_path / "ve-lm2/address"
    address.write_text("9e:11:22:33:44:55\n")
    assert not slot.has_link()
    address.write_text(f"{slot.host_mac}\n")
    assert slot.has_link()


def test_nobody_else_reaches_a_roots_setuid_programs(tmp_path, monkeypatch) -> None:
    """They belong to root and are never updated, so the folder that holds the roots is closed."""
    monkeypatch.setenv("LOGMEND_LAB_CACHE", str(tmp_path / "var/cache"))
    monkeypatch.setattr(roots, "_build", lambda *words: words[-1].mkdir())
    roots.root("trixie", archive="http://mirror.example/debian")
    assert stat.S_IMODE((tmp_path / "var/cache").stat().st_mode) == 0o700


def test_a_machines_files_do_not_depend_on_who_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the umask of a hardened workstation nobody but root could enter the machine's root."""
    monkeypatch.setattr(throwaway, "inside", lambda _: [])
    before = os.umask(0o077)
    try:
        ran = throwaway.Throwaway(Pretended()).run(["sh", "-c", "umask"], root=True, timeout=60)
    finally:
        os.umask(before)
    assert (ran.code, ran.out.strip()) == (0, b"0022")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_does_not_cut_the_taking_away_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A closed terminal sends SIGHUP, and its shell another."""
    machine, before = Pretended(number), signal.getsignal(number)
    monkeypatch.setattr(slots, "take", lambda: slots.Slot(2, (tmp_path / "2").open("w")))
    monkeypatch.setattr(throwaway, "Hardware", lambda *_: machine)
    with pytest.raises(KeyboardInterrupt), throwaway.booted(roots.place("trixie")):
        pass
    assert machine.gone
    assert signal.getsignal(number) == before


def test_what_a_machine_wrote_does_nothing_to_a_terminal(tmp_path, monkeypatch) -> None:
    """Its console is told if it goes down, and whatever runs there may write to it."""
    monkeypatch.setattr(slots, "_FOLDER", tmp_path)
    machine = Pretended()
    monkeypatch.setattr(machine, "leader", lambda: None)
    machine.slot.folder.mkdir()
    (machine.slot.folder / "console").write_bytes(b"\x1b[31mpanic\x1b[0m\r\n\x1b]0;title\x07\x9b2J")
    with pytest.raises(roots.UnavailableError) as said:
        throwaway.Throwaway(machine).run(["true"], root=True, timeout=60)
    assert str(said.value).startswith("the machine stopped: panic")
    assert str(said.value).isprintable()


class Pretended(Hardware):
    """Hardware whose maker is sent a signal as it is switched on, and another as it is taken away."""

    def __init__(self, number: signal.Signals | None = None) -> None:
        super().__init__(slots.Slot(2, io.StringIO()), roots.place("trixie"), b"")
        self.number = number
        self.gone = False

    def leader(self) -> int:
        return os.getpid()

    def launch(self) -> None:
        assert self.number is not None
        signal.raise_signal(self.number)

    def take_away(self) -> None:
        assert self.number is not None
        signal.raise_signal(self.number)
        self.gone = True
