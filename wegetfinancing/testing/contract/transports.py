"""The contract of a ``Transport``, as checks that any of them can run.

Give each check to a test of your own::

    @pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=str)
    @pytest.mark.anyio
    async def test_my_transport_keeps_the_contract(check):
        await check(MyTransport)

or await ``check_transport_contract(MyTransport)`` for all of them at once. A server on a loopback port
plays the vendor. A transport that answers from memory runs ``IN_MEMORY_TRANSPORT_CHECKS``.

A passing transport keeps the rules as far as they can be seen from outside; what a proxy or a TLS layer
does in between is its author's to test.
"""

from collections.abc import Callable, Iterable
from typing import Final

from ...client.transport import Transport
from . import answer_checks, sending_checks
from .checking import checks_in
from .transport_checking import PATIENCE, TransportCheck

TRANSPORT_CHECKS: Final[tuple[TransportCheck, ...]] = tuple(
    each
    for each in checks_in(TransportCheck, sending_checks, answer_checks)
    if each is not sending_checks.every_operation_is_answered
)
"""For a transport on a network."""

IN_MEMORY_TRANSPORT_CHECKS: Final[tuple[TransportCheck, ...]] = (
    sending_checks.closing_twice_is_harmless,
    sending_checks.a_cancelled_call_ends_cancelled,
    sending_checks.every_operation_is_answered,
)
"""For a transport that answers by itself, whatever the URL. They open no socket."""


async def check_transport_contract(
    make_transport: Callable[[], Transport],
    checks: Iterable[TransportCheck] = TRANSPORT_CHECKS,
    *,
    patience: float = PATIENCE,
) -> None:
    """Run all checks, and name every rule that is broken.

    Args:
        make_transport: makes the transport, inside the event loop. Each check closes the one it made.
        checks: ``IN_MEMORY_TRANSPORT_CHECKS`` for a transport without a network.
        patience: seconds to wait for what should happen before it counts as never happening.

    Raises:
        AssertionError: rules are broken; the text has a line for each.

    """
    broken = []
    for check in checks:
        try:
            await check(make_transport, patience=patience)
        except AssertionError as error:
            broken.append(str(error))
    if broken:
        raise AssertionError("\n".join(broken))
