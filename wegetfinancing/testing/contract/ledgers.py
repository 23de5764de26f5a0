"""The contract of a ``Ledger``, as checks that any of them can run.

Pass each check to a test of your own::

    @pytest.mark.parametrize("check", LEDGER_CHECKS, ids=str)
    def test_my_ledger_keeps_the_contract(check):
        check(make_ledger)

where ``make_ledger(**settings)`` returns a ledger of the sandbox with nothing in it, made with ``settings``:
``apply``, ``lease`` and ``grace``, as ``MemoryLedger`` accepts them.
"""

from collections.abc import Iterable
from typing import Final

from . import application_checks, decision_checks, hold_checks, order_checks
from .ledger_checking import LedgerCheck, MakeLedger

LEDGER_CHECKS: Final[tuple[LedgerCheck, ...]] = (
    application_checks.an_order_is_sent_once,
    application_checks.of_many_at_once_one_sends,
    application_checks.an_answer_is_stored,
    application_checks.other_contents_conflict,
    application_checks.what_was_not_done_may_be_tried_again,
    application_checks.what_may_exist_is_not_tried_again,
    application_checks.only_its_own_attempt_changes_an_application,
    application_checks.an_answer_to_an_older_attempt_replaces_no_application,
    application_checks.a_late_answer_is_recorded,
    application_checks.an_absent_order_is_closed,
    application_checks.merchants_are_kept_apart,
    application_checks.an_adopted_application_is_known,
    application_checks.a_forgotten_order_does_not_become_new,
    application_checks.creating_inside_a_handler_is_refused,
    decision_checks.a_repeat_is_recognised,
    decision_checks.an_unverified_postback_is_refused,
    decision_checks.a_decision_is_matched_by_order_or_by_id,
    decision_checks.an_early_decision_is_matched_by_the_answer,
    decision_checks.a_decision_that_named_an_order_forbids_a_new_attempt,
    decision_checks.an_id_of_another_order_is_applied_to_neither,
    decision_checks.another_merchants_postback_is_not_matched,
    order_checks.a_decision_is_handled_once,
    order_checks.decisions_are_handled_in_order,
    order_checks.merchants_take_turns,
    order_checks.a_failed_handler_is_tried_again,
    order_checks.an_attempt_is_counted_before_it_runs,
    order_checks.a_lost_lease_completes_nothing,
    order_checks.a_lease_can_be_renewed,
    order_checks.a_worker_is_seen_while_it_lives,
    order_checks.a_failing_decision_can_be_tried_now,
    order_checks.a_dismissed_decision_is_not_handled,
    hold_checks.only_an_approval_may_ship,
    hold_checks.an_amount_has_to_be_seen,
    hold_checks.an_amount_has_to_be_as_expected,
    hold_checks.the_same_decision_signed_again_is_held,
    hold_checks.contradicting_decisions_are_held,
    hold_checks.a_newer_decision_counts,
    hold_checks.a_late_preapproval_changes_nothing,
    hold_checks.a_refund_is_a_fact_to_accept,
    hold_checks.exactly_the_named_holds_are_accepted,
    hold_checks.a_held_decision_can_be_let_count,
    hold_checks.what_waits_is_listed,
    hold_checks.what_stays_undecided_is_listed,
    hold_checks.what_is_old_is_erased,
    hold_checks.operators_see_one_merchant_or_all,
)


def check_ledger_contract(make_ledger: MakeLedger, checks: Iterable[LedgerCheck] = LEDGER_CHECKS) -> None:
    """Run all checks, and name every rule that is broken.

    Args:
        make_ledger: ``make_ledger(**settings)`` returns a ledger of the sandbox with nothing in it.
        checks: by default all.

    Raises:
        AssertionError: rules are broken; the text has a line for each.

    """
    broken = []
    for check in checks:
        try:
            check(make_ledger)
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))
