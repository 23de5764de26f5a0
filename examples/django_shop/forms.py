"""The checkout form."""

import re
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.core.validators import RegexValidator

from . import payments
from .catalogue import Product
from .models import Order

FIELDS = ["first_name", "last_name", "email", "phone", "street1", "city", "state", "zipcode"]


class CheckoutForm(forms.ModelForm):  # type: ignore[type-arg] # generic in its stubs only
    """Who buys. The order's number was generated when the form was first shown."""

    number = forms.CharField(validators=[RegexValidator(r"\AORDER-[0-9a-f]{16}\Z")], widget=forms.HiddenInput)

    class Meta:
        model = Order
        fields = FIELDS

    def __init__(self, product: Product, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.product = product

    def order(self) -> Order:
        """Return the order as the form says, not saved."""
        cleaned = {name: self.cleaned_data.get(name, "") for name in [*FIELDS, "number"]}
        cleaned["phone"] = re.sub(r"[ ().-]", "", cleaned["phone"])
        cleaned["state"] = cleaned["state"].upper()
        return Order(sku=self.product.sku, amount=self.product.total, **cleaned)

    def clean(self) -> dict[str, Any]:
        """Say beside each field what the vendor would refuse."""
        if not self.errors:
            self.add_problems(payments.financing_request(self.order()).problems())
        return self.cleaned_data

    def add_problems(self, problems: dict[str, str]) -> None:
        """Show ``problems()``, or the reasons of an ``InvalidRequestError``: ``billing_address.zipcode``."""
        for path, text in problems.items():
            field = path.rpartition(".")[2]
            self.add_error(field if field in FIELDS else NON_FIELD_ERRORS, f"{text}.")
