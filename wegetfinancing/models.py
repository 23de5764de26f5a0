"""The models of requests and answers: frozen values, named as in the API.

The models of requests accept any value and never raise; ``problems()`` returns every problem at once,
and ``create_request`` checks it before anything is sent. Facts about the API are from
https://docs.wegetfinancing.com unless a docstring says otherwise.
"""

import datetime as dt
import decimal
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import attrs

from . import _rules as rules
from ._dicts import DictModel
from ._rules import rule
from .enums import Country, Currency, PostbackVersion, ShippingState

# The two-letter codes of the US Postal Service, including territories and military mail, and of
# Canada Post.
_US_STATES: Final = (
    "AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY"
    " NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY AS GU MP PR VI FM MH PW AA AE AP"
)
_PROVINCES: Final = "AB BC MB NB NL NS NT NU ON PE QC SK YT"
# The rules for fields of an address that depend on the country.
_IN_COUNTRY: Final[Mapping[Country, Mapping[str, rules.Rule]]] = MappingProxyType(
    {
        Country.US: {
            "state": rules.among(_US_STATES.split(), "must be the two letters of a US state, such as NY"),
            "zipcode": rules.matching(
                re.compile(r"[0-9]{5}(-[0-9]{4})?"), "must be a ZIP code such as 12345 or 12345-6789"
            ),
        },
        Country.CA: {
            "state": rules.among(
                _PROVINCES.split(), "must be the two letters of a Canadian province, such as ON"
            ),
            # The docs say "postal code" and nothing about its form; this is that of Canada Post.
            "zipcode": rules.matching(
                re.compile(r"[A-Za-z][0-9][A-Za-z] ?[0-9][A-Za-z][0-9]"),
                "must be a postal code such as A1A 1A1",
            ),
        },
    }
)


_TEXT: Final = rule(rules.text())
_NAME: Final = rule(rules.text(at_least=2))
_OPTIONAL_TEXT: Final = rule(rules.text(), required=False)
_OPTIONAL_LINES: Final = rule(rules.text(lines=True), required=False)
_LIST_OF_TEXT: Final = rules.several(_TEXT)
_OPTIONAL_URL: Final = rule(rules.url, required=False)
_OPTIONAL_MONEY: Final = rule(rules.money(), required=False)


# Type checkers read the types of a model's parameters from its converters. Each is a function with
# annotations, because pyright sees Any where attrs.converters.optional wraps one.
def _optional_money(value: Decimal | int | str | None) -> Decimal | None:
    return None if value is None else rules.to_decimal(value)


def _state(value: str) -> str:
    is_code = isinstance(value, str) and len(value) == 2 and value.isascii()  # noqa: PLR2004 - letters of a state
    return value.upper() if is_code else value


def _country(value: Country | str) -> Country:
    return rules.to_member(Country, value)


def _optional_currency(value: Currency | str | None) -> Currency | None:
    return None if value is None else rules.to_member(Currency, value)


def _version(value: PostbackVersion | str) -> PostbackVersion:
    return rules.to_member(PostbackVersion, value)


def _shipping_state(value: ShippingState | str) -> ShippingState:
    return rules.to_member(ShippingState, value)


def _us_dollars(value: object) -> str | None:
    if value is Currency.CAD:
        return "must be USD: CAD is reserved and rejected today; loans are in USD in Canada too"
    return None if value is Currency.USD else "must be USD"


def _texts(value: Sequence[str] | None) -> Sequence[str]:
    return rules.to_tuple(value)


@attrs.frozen(kw_only=True)
class Address(rules.Checked, DictModel):
    """A postal address in the US or in Canada.

    Attributes:
        street1: street and number, 2 characters or more (seen in the official clients). The API has no
            second line; the official clients append it to the first with a space.
        city: 2 characters or more (seen in the official clients).
        state: two letters in either case, kept and sent in capitals: a US state, or a province if
            ``country`` is ``CA``.
        zipcode: ``12345`` or ``12345-6789``; in Canada ``A1A 1A1``.
        country: ``US`` by default, or ``CA``.

    """

    street1: str = attrs.field(repr=False, metadata=_NAME)
    city: str = attrs.field(repr=False, metadata=_NAME)
    state: str = attrs.field(repr=False, converter=_state, metadata=_TEXT)
    zipcode: str = attrs.field(repr=False, metadata=_TEXT)
    country: Country = attrs.field(
        default=Country.US, converter=_country, metadata=rule(rules.member(Country))
    )

    def _problems_between_fields(self) -> Iterable[tuple[str, str]]:
        if not isinstance(self.country, Country):
            return ()
        checks = _IN_COUNTRY[self.country].items()
        return [(name, problem) for name, check in checks if (problem := check(getattr(self, name)))]


@attrs.frozen(kw_only=True)
class CartItem(rules.Checked, DictModel):
    """One line of the cart.

    Attributes:
        display_name: 2 characters or more (seen in the official clients).
        unit_price: USD, more than 0, at most two decimals (seen in the official clients).
        quantity: a whole number of 1 or more.
        sku: the shop's article number.
        unit_tax: USD, 0 or more. In the only recorded answer it is not part of the total.
        category: the shop's own category.

    """

    display_name: str = attrs.field(metadata=_NAME)
    unit_price: Decimal = attrs.field(converter=rules.to_decimal, metadata=rule(rules.money(above_zero=True)))
    quantity: int = attrs.field(metadata=rule(rules.count))
    sku: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)
    unit_tax: Decimal | None = attrs.field(
        default=None,
        converter=_optional_money,
        metadata=_OPTIONAL_MONEY,
    )
    category: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)


_LIST_OF_ITEMS: Final = rules.several(rules.model(CartItem))


def _cart_items(value: Sequence[CartItem] | None) -> Sequence[CartItem]:
    return rules.to_tuple(value)


@attrs.frozen(kw_only=True)
class FinancingRequest(rules.Checked, DictModel):
    """A customer's application for a loan that pays for a cart.

    ``cart_items`` or ``amount`` is required; both are allowed. Amounts are ``Decimal``, ``int`` or ``str``
    in US dollars, and two decimals must hold them exactly: ``"499.0000"`` is accepted, ``"499.005"`` and
    floats are not. Fields that are ``None`` are not sent.

    Attributes:
        first_name: 2 characters or more (seen in the official clients).
        last_name: 2 characters or more (seen in the official clients).
        email: the customer's e-mail address.
        phone: the customer's; 10 digits, ``2125551234``.
        billing_address: its country decides the loan's country.
        shipping_address: the server uses the billing address if omitted.
        cart_items: what the customer buys.
        shipping_amount: USD, 0 or more; the server's default is 0.
        tax_amount: USD, 0 or more; overrides the server's own computation.
        amount: the total in USD; the server computes it from ``cart_items`` if omitted.
        currency: the server's default is ``USD``; ``CAD`` is refused.
        version: the dialect of the postbacks, ``1.9`` by default. Always sent.
        merchant_transaction_id: your order id, echoed in postbacks. The server does not refuse or
            merge repeats (seen in the official clients).
        postback_url: overrides the address set in the vendor's back-office. **With neither, postbacks are
            silently discarded.**
        success_url: where the customer's browser goes afterwards. Its arrival proves nothing.
        failure_url: where the customer's browser goes if the application fails.
        sent_to_consumer: send the application to the customer by e-mail or phone.
        software_name: name of the shop's software, for the shop's own tracking.
        software_version: its version.
        software_plugin_version: the version of its plugin.

    """

    first_name: str = attrs.field(repr=False, metadata=_NAME)
    last_name: str = attrs.field(repr=False, metadata=_NAME)
    email: str = attrs.field(repr=False, metadata=rule(rules.email))
    phone: str | None = attrs.field(default=None, repr=False, metadata=rule(rules.phone, required=False))
    billing_address: Address = attrs.field(repr=False, metadata=rules.model(Address))
    shipping_address: Address | None = attrs.field(
        default=None, repr=False, metadata=rules.model(Address, required=False)
    )
    cart_items: Sequence[CartItem] = attrs.field(default=(), converter=_cart_items, metadata=_LIST_OF_ITEMS)
    shipping_amount: Decimal | None = attrs.field(
        default=None, converter=_optional_money, metadata=_OPTIONAL_MONEY
    )
    tax_amount: Decimal | None = attrs.field(
        default=None, converter=_optional_money, metadata=_OPTIONAL_MONEY
    )
    amount: Decimal | None = attrs.field(default=None, converter=_optional_money, metadata=_OPTIONAL_MONEY)
    currency: Currency | None = attrs.field(
        default=None,
        converter=_optional_currency,
        metadata=rule(_us_dollars, required=False),
    )
    version: PostbackVersion = attrs.field(
        default=PostbackVersion.V1_9,
        converter=_version,
        metadata=rule(rules.member(PostbackVersion)),
    )
    merchant_transaction_id: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)
    postback_url: str | None = attrs.field(default=None, metadata=_OPTIONAL_URL)
    success_url: str | None = attrs.field(default=None, metadata=_OPTIONAL_URL)
    failure_url: str | None = attrs.field(default=None, metadata=_OPTIONAL_URL)
    sent_to_consumer: bool | None = attrs.field(default=None, metadata=rule(rules.boolean, required=False))
    software_name: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)
    software_version: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)
    software_plugin_version: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)

    def _problems_between_fields(self) -> Iterable[tuple[str, str]]:
        if isinstance(self.cart_items, tuple) and not self.cart_items and self.amount is None:
            return [("cart_items", f"{rules.REQUIRED} unless an amount is given")]
        return ()

    @property
    def expected_amount(self) -> Decimal:
        """The amount that the shop expects to be financed, in USD, to compare with the server's answer.

        It is ``amount`` if set, else the sum of the items and ``shipping_amount``. Taxes are not included, as
        in the only recorded answer, so the answer to a request with taxes may differ. The server's
        ``amount`` is the one that counts: if it differs, review it before the customer sees ``href``.

        Raises:
            ValueError: the request has ``problems()``.

        """
        if problems := self.problems():
            msg = f"the request has problems: {', '.join(problems)}"
            raise ValueError(msg)
        if self.amount is not None:
            return self.amount
        with decimal.localcontext(rules.EXACT):
            items = sum((item.unit_price * item.quantity for item in self.cart_items), Decimal(0))
            return items + (self.shipping_amount or 0)


@attrs.frozen(kw_only=True)
class ShippingEvent(rules.Checked, DictModel):
    """What happened to the goods of one loan.

    Attributes:
        date: the day it happened. A date without a time.
        state: what happened.
        items: names of the articles concerned.
        message: free text, which may contain line breaks.
        expected_delivery_date: a date without a time.
        service_type: the carrier's service.
        shipment_company: the carrier.
        tracking_number: the carrier's number.

    """

    date: dt.date = attrs.field(metadata=rule(rules.day))
    state: ShippingState = attrs.field(converter=_shipping_state, metadata=rule(rules.member(ShippingState)))
    items: Sequence[str] = attrs.field(default=(), converter=_texts, metadata=_LIST_OF_TEXT)
    message: str | None = attrs.field(default=None, repr=False, metadata=_OPTIONAL_LINES)
    expected_delivery_date: dt.date | None = attrs.field(
        default=None, metadata=rule(rules.day, required=False)
    )
    service_type: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)
    shipment_company: str | None = attrs.field(default=None, metadata=_OPTIONAL_TEXT)
    tracking_number: str | None = attrs.field(default=None, repr=False, metadata=_OPTIONAL_TEXT)


@attrs.frozen
class CreatedRequest(DictModel):
    """A request that the vendor has accepted. Send the customer's browser to ``href``.

    Attributes:
        inv_id: the vendor's id of this request, used in postbacks and shipping updates.
        href: the URL of the application page. Opaque.
        amount: what the server will finance, in USD; ``None`` if it is not in the answer.
            Compare it with ``FinancingRequest.expected_amount``.
        raw: the whole answer, decoded.

    """

    inv_id: str
    href: str = attrs.field(repr=False)
    amount: Decimal | None
    raw: Mapping[str, Any] = attrs.field(repr=False, eq=False)


@attrs.frozen
class ShippingReceipt(DictModel):
    """A shipping event that the vendor has recorded.

    Attributes:
        loan: the document the event was recorded against.
        raw: the whole answer, decoded.

    """

    loan: str
    raw: Mapping[str, Any] = attrs.field(repr=False, eq=False)
