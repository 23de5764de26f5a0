"""What a check of the ledger contract is made of."""

import secrets
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, TypeAlias

import attrs

from ..._loan import Application, Loan, Verdict
from ...emulator.responses import INV_ID
from ...ledger import Decision, Ledger
from ...models import CreatedRequest
from ...postbacks.decisions import ClaimedDecision, Recorded
from ...postbacks.dialects import parse_postback
from ...postbacks.events import Postback
from ..fakes import credentials, signed_postback
from .checking import Check, require

MakeLedger: TypeAlias = Callable[..., Ledger]
"""``make_ledger(**settings)`` returns a ledger of the sandbox with nothing in it."""

ORDER: Final = "ORDER-123"
MERCHANT: Final = credentials().merchant_id
EXPECTED: Final = Decimal("499.00")
MAX_CLAIMS: Final = 20


def require_refusal(action: Callable[[], object], error: type[Exception], what: str) -> None:
    """Fail a check unless the action raises this error."""
    try:
        action()
    except error:
        return
    raise AssertionError(what)


def application(order_id: str = ORDER, **changes: Any) -> Application:  # noqa: ANN401 - the fields of the value
    """Make the intent of a new attempt; keywords replace fields."""
    intent = Application(
        merchant_id=MERCHANT,
        order_id=order_id,
        token=secrets.token_hex(16),
        fingerprint="contents",
        expected_amount=EXPECTED,
        taxes=Decimal(0),
        seconds=30.0,
    )
    return attrs.evolve(intent, **changes)


def created(inv_id: str = INV_ID, amount: Decimal | None = EXPECTED) -> CreatedRequest:
    """Make the vendor's answer."""
    return CreatedRequest(inv_id=inv_id, href=f"https://emulator.invalid/{inv_id}", amount=amount, raw={})


def postback(status: str = "approved", *, signed: int | str = 1, **settings: Any) -> Postback:  # noqa: ANN401 - those of signed_postback
    """Make a verified postback, signed so many seconds after another one; a text is the timestamp."""
    timestamp = signed if isinstance(signed, str) else str(1_700_000_000 + signed)
    delivery = signed_postback(status, timestamp=timestamp, **settings)
    return parse_postback(delivery.body, delivery.headers, settings.get("credentials", credentials()))


def begin(ledger: Ledger, order_id: str = ORDER, **changes: Any) -> Application:  # noqa: ANN401 - the fields of the value
    """Begin an attempt that has to be allowed."""
    intent = application(order_id, **changes)
    verdict = ledger.begin(intent).verdict
    require(verdict is Verdict.SEND, f"a first attempt was answered {verdict.value}, not send")
    return intent


def apply_for(
    ledger: Ledger,
    order_id: str = ORDER,
    inv_id: str = INV_ID,
    *,
    amount: Decimal | None = EXPECTED,
    **changes: Any,  # noqa: ANN401 - the fields of the value
) -> Application:
    """Begin an attempt and record the vendor's answer to it."""
    intent = begin(ledger, order_id, **changes)
    ledger.record_answer(intent, created(inv_id, amount))
    return intent


def loan_of(ledger: Ledger, order_id: str = ORDER) -> Loan:
    """Read a loan that has to be there."""
    loan = ledger.loan(order_id, merchant_id=MERCHANT)
    if loan is None:
        msg = f"loan({order_id!r}) is None, and the order was applied for"
        raise AssertionError(msg)
    return loan


def claim_of(ledger: Ledger, recorded: Recorded) -> ClaimedDecision:
    """Claim a decision that has to be due."""
    claim = ledger.claim(recorded.id)
    if claim is None:
        msg = "claim() returned nothing although a decision waits"
        raise AssertionError(msg)
    return claim


def handle_all(ledger: Ledger) -> int:
    """Let the ledger's apply handle whatever is due, and count the attempts."""
    attempts = 0
    while (claim := ledger.claim()) is not None:
        ledger.apply(claim)
        attempts += 1
        require(attempts < MAX_CLAIMS, "claim() never runs out of decisions")
    return attempts


def handle(ledger: Ledger, recorded: Recorded) -> list[bool]:
    """Let the ledger's apply handle the decisions of a loan up to this one, due or not."""
    results: list[bool] = []
    while (claim := ledger.claim(recorded.id)) is not None:
        results.append(ledger.apply(claim))
        if not results[-1] or len(results) >= MAX_CLAIMS:
            break
    return results


class Shop:
    """An ``apply`` that keeps what it was told, and fails as often as it was asked to."""

    def __init__(self, failures: int = 0) -> None:
        """Start with nothing told."""
        self.told: list[Decision] = []
        self.failures: int = failures

    def __call__(self, _connection: object, decision: Decision) -> None:
        """Keep a decision, or fail."""
        if self.failures:
            self.failures -= 1
            msg = "the shop's handler fails"
            raise RuntimeError(msg)
        self.told.append(decision)

    @property
    def statuses(self) -> list[str]:
        """What it was told, in order."""
        return [each.postback.status for each in self.told]


Body: TypeAlias = Callable[[MakeLedger], None]


@attrs.frozen
class LedgerCheck(Check[Body]):
    """One rule that every ``Ledger`` keeps: call it with what makes one.

    Attributes:
        name: such as ``an_order_is_sent_once``; ``str()`` of the check too.
        rule: the rule in a sentence or two.

    """

    def __call__(self, make_ledger: MakeLedger) -> None:
        """Run the check.

        Args:
            make_ledger: ``make_ledger(**settings)`` returns a ledger of the sandbox with nothing in it.

        Raises:
            AssertionError: the ledger breaks the rule; the text says how.

        """
        with self._stating_the_rule():
            self._body(make_ledger)


ledger_check: Final = LedgerCheck.of
