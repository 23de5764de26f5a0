"""What the shop sells, and the cart, which lives in a cookie: quantities only, never prices."""

import re
from collections.abc import Mapping
from decimal import Decimal

import attrs

from wegetfinancing import CartItem

SHIPPING = Decimal("9.50")
MOST = 99


@attrs.frozen(kw_only=True)
class Product:
    sku: str
    name: str
    price: Decimal


PRODUCTS = {
    product.sku: product
    for product in (
        Product(sku="sofa", name="Three-seat sofa", price=Decimal("899.00")),
        Product(sku="table", name="Oak dining table", price=Decimal("649.50")),
        Product(sku="bike", name="City bicycle", price=Decimal("540.00")),
        Product(sku="lamp", name="Floor lamp", price=Decimal("129.90")),
    )
}

Cart = Mapping[str, int]


def total(items: list[CartItem]) -> Decimal:
    return sum((item.unit_price * item.quantity for item in items), SHIPPING)


def read_cart(cookie: str) -> dict[str, int]:
    """Read ``sofa.1-lamp.2``; what is not in the catalogue is left out."""
    entries = re.findall(r"([a-z]+)\.([0-9]{1,2})", cookie)
    return {sku: int(quantity) for sku, quantity in entries if sku in PRODUCTS and int(quantity) > 0}


def write_cart(cart: Cart) -> str:
    return "-".join(f"{sku}.{quantity}" for sku, quantity in cart.items() if quantity > 0)


def cart_items(cart: Cart) -> list[CartItem]:
    return [
        CartItem(display_name=PRODUCTS[sku].name, unit_price=PRODUCTS[sku].price, quantity=quantity, sku=sku)
        for sku, quantity in cart.items()
    ]
