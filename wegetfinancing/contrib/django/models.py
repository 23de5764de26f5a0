"""The ledger's tables, those of ``contrib.sqlalchemy``, and what the vendor was told about shipments.

Amounts and lists are texts, times epoch seconds.

Read them, join them, and leave the writing to the ledger, whose rules are not in the database.
"""

from django.db import models
from django.db.models import Q

from ..._ledger import rows
from ...postbacks.events import Preapproved

_IN_DOUBT = Q(state__in=[rows.SENDING, rows.UNKNOWN])
_WAITING = Q(state=rows.WAITING)
UNDECIDED = Q(state=rows.CREATED) & (Q(status__isnull=True) | Q(status=Preapproved.status))
_UNMATCHED = Q(state=rows.UNMATCHED)


class Version(models.Model):
    """The version of the tables and the environment that they belong to; one row."""

    id = models.IntegerField(primary_key=True)
    version = models.IntegerField()
    compatible_with = models.IntegerField()
    environment = models.CharField(max_length=20)

    class Meta:
        db_table = "wgf_meta"

    def __str__(self) -> str:
        """Name the environment."""
        return self.environment


class Loan(models.Model):
    """One order of one merchant, and what is known of its loan."""

    merchant_id = models.CharField(max_length=64)
    order_id = models.TextField()
    state = models.CharField(max_length=20)
    token = models.CharField(max_length=64, null=True)
    fingerprint = models.CharField(max_length=64, null=True)
    expected_amount = models.CharField(max_length=40, null=True)
    taxes = models.CharField(max_length=40, null=True)
    inv_id = models.TextField(null=True)
    href = models.TextField(null=True)
    amount = models.CharField(max_length=40, null=True)
    deadline = models.FloatField()
    created_at = models.FloatField()
    updated_at = models.FloatField()
    status = models.CharField(max_length=20, null=True)
    signed_at = models.FloatField(null=True)
    refunded = models.CharField(max_length=40)
    noted = models.TextField()
    accepted = models.TextField()
    forgotten = models.BooleanField()
    may_ship = models.BooleanField()
    holds = models.TextField()

    class Meta:
        db_table = "wgf_loan"
        constraints = [
            models.UniqueConstraint(fields=["merchant_id", "order_id"], name="wgf_loan_order"),
        ]
        indexes = [
            models.Index(fields=["order_id"], name="wgf_loan_order_id"),
            models.Index(fields=["merchant_id", "inv_id"], name="wgf_loan_inv_id"),
            models.Index(fields=["deadline"], name="wgf_loan_in_doubt", condition=_IN_DOUBT),
            models.Index(fields=["id"], name="wgf_loan_held", condition=~Q(holds="[]")),
            models.Index(fields=["created_at"], name="wgf_loan_undecided", condition=UNDECIDED),
            models.Index(fields=["updated_at"], name="wgf_loan_updated_at"),
        ]

    def __str__(self) -> str:
        """Name the order."""
        return self.order_id


class Inv(models.Model):
    """One ID of the vendor's, and the loan that it belongs to."""

    merchant_id = models.CharField(max_length=64)
    inv_id = models.TextField()
    loan = models.ForeignKey(Loan, models.PROTECT, null=True, db_index=False, related_name="+")

    class Meta:
        db_table = "wgf_inv"
        constraints = [
            models.UniqueConstraint(fields=["merchant_id", "inv_id"], name="wgf_inv_key"),
        ]

    def __str__(self) -> str:
        """Show the ID."""
        return self.inv_id


class Decision(models.Model):
    """One delivery of a postback: parsed fields and hashes, never the body."""

    merchant_id = models.CharField(max_length=64)
    inv_id = models.TextField()
    order_id = models.TextField(null=True)
    loan = models.ForeignKey(Loan, models.PROTECT, null=True, db_index=False, related_name="decisions")
    state = models.CharField(max_length=20)
    status = models.CharField(max_length=20)
    reported_status = models.TextField(null=True)
    amount = models.CharField(max_length=40, null=True)
    version = models.TextField()
    key = models.TextField()
    digest = models.CharField(max_length=64)
    signed_at = models.FloatField(null=True)
    received_at = models.FloatField()
    attempts = models.IntegerField()
    due = models.FloatField()
    lease = models.CharField(max_length=64, null=True)
    lease_until = models.FloatField()
    error = models.TextField(null=True)
    handled_at = models.FloatField(null=True)

    class Meta:
        db_table = "wgf_decision"
        constraints = [
            models.UniqueConstraint(fields=["merchant_id", "digest"], name="wgf_decision_delivery"),
        ]
        indexes = [
            models.Index(fields=["loan", "id"], name="wgf_decision_loan"),
            models.Index(fields=["merchant_id", "due", "id"], name="wgf_decision_due", condition=_WAITING),
            models.Index(fields=["merchant_id", "inv_id"], name="wgf_decision_inv", condition=_UNMATCHED),
            models.Index(fields=["merchant_id", "order_id"], name="wgf_decision_order", condition=_UNMATCHED),
            models.Index(
                fields=["id"], name="wgf_decision_lost", condition=Q(state=rows.HELD, loan__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        """Say what was decided, and of which ID."""
        return f"{self.status}: {self.inv_id}"


class Shipment(models.Model):
    """One shipping update by ``get_client()``: what the vendor was told, and with which result."""

    loan = models.ForeignKey(Loan, models.PROTECT, null=True, related_name="shipments")
    inv_id = models.TextField()
    state = models.CharField(max_length=20)
    date = models.DateField()
    outcome = models.CharField(max_length=20)
    error = models.CharField(max_length=60, null=True)
    told_at = models.FloatField()

    class Meta:
        db_table = "wgf_shipment"

    def __str__(self) -> str:
        """Say what was told, and of which ID."""
        return f"{self.state}: {self.inv_id}"


class Worker(models.Model):
    """When a worker was last alive."""

    id = models.CharField(max_length=64, primary_key=True)
    seen_at = models.FloatField()

    class Meta:
        db_table = "wgf_worker"

    def __str__(self) -> str:
        """Name the worker."""
        return self.id
