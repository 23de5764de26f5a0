"""Who bought what, and what has left. The loans are the ledger's, in the same database."""

from django.db import models
from django.urls import reverse


class Order(models.Model):
    """One order. It is saved, and committed, before the vendor is called."""

    number = models.CharField(max_length=40, unique=True)  # the merchant_transaction_id
    sku = models.CharField(max_length=20)
    amount = models.DecimalField("amount in USD", max_digits=9, decimal_places=2)
    first_name = models.CharField(max_length=100)
    last_name = models.CharField(max_length=100)
    email = models.EmailField("e-mail")
    phone = models.CharField(max_length=20, blank=True)
    street1 = models.CharField("street", max_length=100)
    city = models.CharField(max_length=100)
    state = models.CharField(max_length=2)
    zipcode = models.CharField("ZIP code", max_length=10)
    status = models.CharField("decision", max_length=20, default="none")
    created_at = models.DateTimeField(auto_now_add=True)
    shipping_until = models.DateTimeField(null=True, editable=False)  # the vendor is being told until then
    shipped_at = models.DateTimeField("shipped", null=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.number

    def get_absolute_url(self) -> str:
        return reverse("order", args=[self.number])


class Event(models.Model):
    """What has happened to an order."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="events")
    text = models.CharField(max_length=200)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text
