"""Types of arguments that several commands have."""

import argparse
from decimal import Decimal

from ._rules import money, to_decimal


def dollars(text: str) -> Decimal:
    """Read an amount in US dollars.

    Raises:
        ArgumentTypeError: it is none; the text says what one looks like.

    """
    amount = to_decimal(text)
    if not isinstance(amount, Decimal):
        msg = "must be US dollars such as 499.00, without a currency sign or thousands separators"
        raise argparse.ArgumentTypeError(msg)
    if problem := money()(amount):
        raise argparse.ArgumentTypeError(problem)
    return amount
