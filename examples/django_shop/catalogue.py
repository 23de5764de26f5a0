"""What the shop sells. A shop of yours has models for that."""

from decimal import Decimal

import attrs

SHIPPING = Decimal("9.50")


@attrs.frozen(kw_only=True)
class Product:
    sku: str
    name: str
    price: Decimal

    @property
    def total(self) -> Decimal:
        return self.price + SHIPPING


PRODUCTS = {
    product.sku: product
    for product in (
        Product(sku="sofa", name="Three-seat sofa", price=Decimal("899.00")),
        Product(sku="table", name="Oak dining table", price=Decimal("649.50")),
        Product(sku="bike", name="City bicycle", price=Decimal("540.00")),
        Product(sku="lamp", name="Floor lamp", price=Decimal("129.90")),
    )
}
