"""What an attempt amounts to: every combination of evidence, and no fix is claimed without it."""

import itertools

from tests.fakes import REF, START, evidence
from tests.unit.test_pipeline import operator

from logmend.model.enums import Action, Finding, Result
from logmend.model.state import Record, State
from logmend.model.struct import replace
from logmend.model.values import Attempt, Evidence, Trouble, Verdict
from logmend.outcome import ack
from logmend.outcome.reasons import ABOUT, About
from logmend.settings import Settings
from logmend.stages import outcomes, verify

INTENT = operator()
SEEN: list[Evidence | None] = [
    None,
    *(evidence(code) for code in (100, 101, 102, 103, 1)),
    evidence(100, instance_id="999"),
    evidence(101, instance_id="999"),
    evidence(100, instance_id=None),
    evidence(101, instance_id=None),
]
TROUBLES = [
    None,
    Trouble(transient=True, reason="unreachable"),
    Trouble(transient=False, reason="not_permitted"),
]
MARK = "0123456789abcdef0123456789abcdef"
NEW = Record(INTENT, State.RUNNING)
BEGUN = Record(INTENT, State.RUNNING, before=evidence(101), committed=True)
KNOWN = [
    NEW,
    BEGUN,
    replace(BEGUN, mark=MARK),
    replace(BEGUN, mark="f" * 32),
    replace(BEGUN, enforcement=evidence(100)),
]
ENFORCEMENTS = [*SEEN[:6], evidence(100, changed="no")]
HALTS: list[Verdict | None] = [
    None,
    Verdict(Result.SKIPPED, "a"),
    Verdict(Result.REFUSED, "b"),
    Verdict(Result.PARKED, "c"),
    Verdict(Result.DEFERRED, "d"),
]


def test_no_combination_of_evidence_is_called_fixed_but_the_one_that_proves_it() -> None:
    """Before: the fault, on that VM or on record. After: not, there. Between: proved enforcing."""
    ours = REF.instance_id
    marked = evidence(100, mark=MARK)
    for known, before, enforcement, after, trouble, halted, enforced, detached in itertools.product(
        KNOWN,
        [*SEEN, marked],
        ENFORCEMENTS,
        [*SEEN, marked],
        TROUBLES,
        HALTS[:2],
        (False, True),
        (False, True),
    ):
        done = Attempt(
            "ssh",
            before=before,
            enforced=enforced,
            enforcement=enforcement,
            after=after if enforced else None,
            halted=halted,
            trouble=trouble,
        )
        said = verify.result_of(INTENT, done, known, detached=detached)
        if said.result is not Result.REMEDIATED:
            continue
        saw = known.before if known.committed else before
        last = after if enforced else before
        assert saw is not None
        assert last is not None
        assert saw.finding is Finding.FAULTY
        assert (last.finding, last.instance_id) == (Finding.DESIRED, ours)
        told = known.enforcement is not None or (known.mark == MARK and last is marked)
        changed = enforced and not (enforcement and enforcement.values.get("changed") == "no")
        assert changed or (known.committed and told)


def test_a_fault_that_is_still_seen_is_a_failed_fix_only_if_enforcing_began() -> None:
    """Without a proof of that it is what kept us from knowing, or the revert that came meanwhile."""
    look = Attempt("ssh", before=evidence(101, mark=MARK))
    late = Verdict(Result.UNVERIFIED, "deadline_exceeded")
    outcome = outcomes.of_intent(INTENT, late, Settings(), START)
    known = Record(INTENT, State.RUNNING, outcome, before=evidence(101), committed=True, mark=MARK)
    said = verify.result_of(INTENT, look, known)
    assert (said.result, said.reason) == (Result.FAILED, "still_faulty")
    unproved = replace(known, mark="f" * 32)
    for held, expected in (
        (False, (Result.FAILED, "deadline_exceeded")),
        (True, (Result.SKIPPED, "reverted")),
    ):
        said = verify.result_of(INTENT, look, unproved, held=held)
        assert (said.result, said.reason) == expected
        said = verify.result_of(INTENT, look, unproved, held=held, detached=True)
        assert (said.result, said.reason) == expected, "and is not awaited for ever"


def test_a_fix_that_will_not_last_says_so() -> None:
    """The check knows how long what it sees will last."""
    after = evidence(100, lasts="until_reboot")
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=after)
    assert verify.result_of(INTENT, done, NEW).detail.endswith("; lasts until reboot")


def test_a_revert_is_called_reverted_and_never_remediated() -> None:
    """The word follows the action."""
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=evidence(100))
    assert verify.result_of(operator(Action.REVERT), done, NEW).result is Result.REVERTED


def test_enforcing_that_says_no_is_refused_with_its_reason() -> None:
    """A revert without a recorded previous state changes nothing."""
    done = Attempt(
        "ssh",
        before=evidence(101),
        enforced=True,
        enforcement=evidence(102, reason="no_previous_state"),
        after=evidence(101),
    )
    said = verify.result_of(INTENT, done, NEW)
    assert (said.result, said.reason) == (Result.REFUSED, "no_previous_state")


def test_enforcing_that_says_no_is_refused_whatever_a_second_check_says_or_does_not() -> None:
    """Exit 102 changed nothing: neither a clean look after it nor its absence makes more of it."""
    said_no = evidence(102, reason="certificates_in_use")
    for after, trouble, detached in itertools.product(SEEN, TROUBLES, (False, True)):
        done = Attempt(
            "ssh", before=evidence(101), enforced=True, enforcement=said_no, after=after, trouble=trouble
        )
        for known in (NEW, BEGUN):
            said = verify.result_of(INTENT, done, known, detached=detached)
            assert (said.result, said.reason) == (Result.REFUSED, "certificates_in_use")


def test_a_script_on_a_vm_cannot_give_a_reason_that_only_logmend_has() -> None:
    """Whoever is root there could print it, and call a person, or have it told as a doing of ours."""
    mine = [reason for reason, about in ABOUT.items() if about is About.LOGMEND]
    for reason in (*mine, "line_goes_on"):
        no, nameless = evidence(102, reason=reason), evidence(101, instance_id=None, reason=reason)
        enforced = Attempt("ssh", before=evidence(101), enforced=True, enforcement=no)
        second = replace(enforced, enforcement=evidence(100), after=no)
        for attempt, becomes in (
            (Attempt("ssh", before=no), (Result.REFUSED, "leave_alone")),
            (Attempt("ssh", before=nameless), (Result.FAILED, "no_evidence")),
            (enforced, (Result.REFUSED, "leave_alone")),
            (second, (Result.UNVERIFIED, "leave_alone")),
        ):
            said = verify.result_of(INTENT, attempt, NEW)
            assert (said.result, said.reason) == becomes
            assert f"it gave {reason}," in said.detail
    said = verify.result_of(INTENT, Attempt("ssh", before=evidence(102, reason="own_word")), NEW)
    assert (said.result, said.reason) == (Result.REFUSED, "own_word")


def test_detached_work_is_requested_until_it_is_done() -> None:
    """Still faulty right after starting it is no failure."""
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=evidence(101))
    assert verify.result_of(INTENT, done, NEW, detached=True).result is Result.REQUESTED
    look = Attempt("ssh", before=evidence(101))
    assert (
        verify.result_of(INTENT, look, replace(BEGUN, enforcement=evidence(100)), detached=True).result
        is Result.REQUESTED
    )


def test_detached_work_that_has_failed_already_is_a_failure_with_its_words() -> None:
    """Its own check says why: there is nothing to look for later."""
    over = Evidence(1, {}, START, "curl: (7) Failed to connect")
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=over)
    said = verify.result_of(INTENT, done, NEW, detached=True)
    assert (said.result, said.reason) == (Result.FAILED, "script_error")
    assert "Failed to connect" in said.detail
    assert verify.result_of(INTENT, done, NEW).result is Result.UNVERIFIED


def test_detached_work_after_which_the_fault_is_back_is_still_faulty_with_its_words() -> None:
    """By the check's own word, right after enforcing as at a later look."""
    over = Evidence(1, {"reason": "still_faulty"}, START, "bind: address already in use")
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=over)
    look = Attempt("ssh", before=over)
    for attempt, known in ((done, NEW), (look, replace(BEGUN, enforcement=evidence(100)))):
        said = verify.result_of(INTENT, attempt, known, detached=True)
        assert (said.result, said.reason) == (Result.FAILED, "still_faulty")
        assert "address already in use" in said.detail


def test_trouble_after_enforcing_is_unverified_whatever_it_is() -> None:
    """Nothing is known of the VM any more."""
    for trouble in TROUBLES[1:]:
        done = Attempt("ssh", before=evidence(101), enforced=True, trouble=trouble)
        assert verify.result_of(INTENT, done, NEW).result is Result.UNVERIFIED


def test_every_result_has_an_answer_to_pubsub() -> None:
    """Only what must come again is not acknowledged."""
    assert set(ack.STATUS) == set(Result)
    again = {result for result in Result if ack.status(result) >= 300}
    assert again == {Result.DEFERRED, Result.INTERRUPTED}


def test_no_report_is_called_fixed_without_enforcing_our_output_and_a_clean_check_after_it() -> None:
    """In every combination of a report with what an earlier one of the same request showed."""
    earlier = [None, evidence(101, seen_by="osconfig_agent"), evidence(101)]
    for known_before, before, enforcement, after, trouble, asked in itertools.product(
        earlier, SEEN, SEEN, SEEN, TROUBLES, (Action.CHECK, Action.ENFORCE)
    ):
        known = Record(INTENT, State.RUNNING, before=known_before, committed=known_before is not None)
        enforced = enforcement is not None
        done = Attempt(
            "osconfig",
            before=before,
            enforced=enforced,
            enforcement=enforcement,
            after=after if enforced else None,
            trouble=trouble,
            asked=asked,
        )
        said = verify.report(INTENT, done, known, None)
        if said.result is not Result.REMEDIATED:
            continue
        last = done.after if enforced else before
        assert last is not None
        assert (last.finding, last.instance_id) == (Finding.DESIRED, REF.instance_id)
        assert enforcement is not None, "that the agent sees no fault proves no enforcing"
        assert before is not None
        assert before.finding is Finding.FAULTY
        assert enforcement.finding is not Finding.DESIRED or enforcement.values
