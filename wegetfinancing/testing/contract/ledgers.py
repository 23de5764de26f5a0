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
from .checking import checks_in
from .ledger_checking import LedgerCheck, MakeLedger

LEDGER_CHECKS: Final[tuple[LedgerCheck, ...]] = checks_in(
    LedgerCheck, application_checks, decision_checks, order_checks, hold_checks
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
