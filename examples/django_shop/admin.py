"""The staff's pages: orders, next to the loans and decisions that ``wegetfinancing.contrib.django`` shows."""

from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.db.models import BooleanField, CharField, OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from . import payments
from .models import Event, Order


class EventInline(admin.TabularInline):  # type: ignore[type-arg] # generic in its stubs only
    model = Event
    fields = ["at", "text"]
    readonly_fields = ["at", "text"]

    def has_add_permission(self, *_: Any) -> bool:
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        return False


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # the same
    """Orders are read here, and shipped."""

    list_display = ["number", "status", "loan", "may_ship", "amount", "last_name", "created_at", "shipped_at"]
    list_filter = ["status"]
    search_fields = ["number", "last_name", "email"]
    inlines = [EventInline]
    actions = ["ship"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        loans = apps.get_model("wegetfinancing.Loan").objects.filter(order_id=OuterRef("number"))
        return (
            super()
            .get_queryset(request)
            .annotate(
                loan_state=Subquery(loans.values("state")[:1], output_field=CharField()),
                loan_may_ship=Subquery(loans.values("may_ship")[:1], output_field=BooleanField()),
            )
        )

    def has_add_permission(self, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Order | None = None) -> bool:
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        return False

    def has_ship_permission(self, request: HttpRequest) -> bool:
        """Tell who may ship; Django asks by this name."""
        return bool(request.user.has_perm("django_shop.change_order"))  # type: ignore[union-attr] # never AnonymousUser in the admin

    @admin.display(description="application")
    def loan(self, order: Any) -> str:
        return order.loan_state or "none"

    @admin.display(boolean=True)
    def may_ship(self, order: Any) -> bool:
        return bool(order.loan_may_ship)

    @admin.action(description="Ship, and tell the vendor", permissions=["ship"])
    def ship(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        for order in queryset:
            try:
                payments.ship(order)
            except payments.ShippingError as error:
                self.message_user(request, f"{order}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{order}: shipped", messages.SUCCESS)
                self.log_change(request, order, "shipped")
