"""What an attempt amounts to: every combination of evidence, and no fix is claimed without it."""

import itertools

from tests.fakes import REF, START, evidence
from tests.unit.test_pipeline import operator

from logmend.model.enums import Action, Finding, Result
from logmend.model.state import Record, State
from logmend.model.values import Attempt, Defer, Evidence, Park, Refuse, Skip, Stop, Trouble
from logmend.outcome import ack
from logmend.stages import verify

INTENT = operator()
SEEN: list[Evidence | None] = [
    None,
    *(evidence(code) for code in (100, 101, 102, 1)),
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
HALTS: list[Stop | None] = [None, Skip("a"), Refuse("b"), Park("c"), Defer("d")]


def test_no_combination_of_evidence_is_called_fixed_but_the_one_that_proves_it() -> None:
    """Before: the fault, on the VM that is meant, or on record from before. After: not, on that VM."""
    ours = REF.instance_id
    for prior, before, enforcement, after, trouble, halted, enforced, detached in itertools.product(
        [None, evidence(101)], SEEN, SEEN[:5], SEEN, TROUBLES, HALTS, (False, True), (False, True)
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
        said = verify.attempt(INTENT, done, prior, detached=detached)
        if said.result is not Result.REMEDIATED:
            continue
        saw = prior or before
        last = after if enforced else before
        assert saw is not None
        assert last is not None
        assert saw.finding is Finding.FAULTY
        assert (last.finding, last.instance_id) == (Finding.DESIRED, ours)
        assert enforced or prior is not None


def test_a_revert_is_called_reverted_and_never_remediated() -> None:
    """The word follows the action."""
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=evidence(100))
    assert verify.attempt(operator(Action.REVERT), done, None).result is Result.REVERTED


def test_enforcing_that_says_no_is_refused_with_its_reason() -> None:
    """A revert without a recorded previous state changes nothing."""
    done = Attempt(
        "ssh",
        before=evidence(101),
        enforced=True,
        enforcement=evidence(102, reason="no_previous_state"),
        after=evidence(101),
    )
    said = verify.attempt(INTENT, done, None)
    assert (said.result, said.reason) == (Result.REFUSED, "no_previous_state")


def test_enforcing_that_says_no_is_refused_whatever_a_second_check_says_or_does_not() -> None:
    """Exit 102 changed nothing: neither a clean look after it nor its absence makes more of it."""
    said_no = evidence(102, reason="certificates_in_use")
    for after, trouble, detached in itertools.product(SEEN, TROUBLES, (False, True)):
        done = Attempt(
            "ssh", before=evidence(101), enforced=True, enforcement=said_no, after=after, trouble=trouble
        )
        for prior in (None, evidence(101)):
            said = verify.attempt(INTENT, done, prior, detached=detached)
            assert (said.result, said.reason) == (Result.REFUSED, "certificates_in_use")


def test_detached_work_is_requested_until_it_is_done() -> None:
    """Still faulty right after starting it is no failure."""
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=evidence(101))
    assert verify.attempt(INTENT, done, None, detached=True).result is Result.REQUESTED
    look = Attempt("ssh", before=evidence(101))
    assert verify.attempt(INTENT, look, evidence(101), detached=True).result is Result.REQUESTED


def test_detached_work_that_has_failed_already_is_a_failure_with_its_words() -> None:
    """Its own check says why: there is nothing to look for later."""
    over = Evidence(1, {}, START, "curl: (7) Failed to connect")
    done = Attempt("ssh", before=evidence(101), enforced=True, enforcement=evidence(100), after=over)
    said = verify.attempt(INTENT, done, None, detached=True)
    assert (said.result, said.reason) == (Result.FAILED, "script_error")
    assert "Failed to connect" in said.detail
    assert verify.attempt(INTENT, done, None).result is Result.UNVERIFIED


def test_trouble_after_enforcing_is_unverified_whatever_it_is() -> None:
    """Nothing is known of the VM any more."""
    for trouble in TROUBLES[1:]:
        done = Attempt("ssh", before=evidence(101), enforced=True, trouble=trouble)
        assert verify.attempt(INTENT, done, None).result is Result.UNVERIFIED


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
        if enforced:
            assert enforcement is not None
            assert before is not None
            assert before.finding is Finding.FAULTY
            assert enforcement.finding is not Finding.DESIRED or enforcement.values
        else:
            assert known_before == evidence(101)  # seen live by us, and committed to
