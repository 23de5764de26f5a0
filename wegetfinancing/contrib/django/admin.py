"""Admin pages: loans, decisions, shipments, and what needs review.

Nothing is edited; actions go through the ledger.
"""

import datetime as dt
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import connections, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from ..._ledger import rules
from ..._ledger.rows import WAITING, loan_from_columns
from ...errors import WeGetFinancingError
from .conf import get_ledger
from .models import Decision, Loan, Shipment
from .storage import decisions_to_review, loans_to_review

_MAX_MERCHANTS: Final = 20  # to choose from: a platform may have thousands
_TEMPLATE: Final = "admin/wegetfinancing/confirm.html"


class _NeedsReview(admin.SimpleListFilter):
    title = "review"
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ANN401, ARG002 - Django's signature
        return [("yes", "needs review")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002 - the same
        if self.value() != "yes":
            return queryset
        select = loans_to_review if queryset.model is Loan else decisions_to_review
        return queryset.filter(select(time.time()))


class _Merchant(admin.SimpleListFilter):
    """Offers the merchants, if they are few; any other is found by the search, which knows whole IDs."""

    title = "merchant"
    parameter_name = "merchant_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - Django's signature
        name = _merchant_of(model_admin.model)
        rows = model_admin.get_queryset(request).filter(**{f"{name}__isnull": False}).order_by(name)
        found = list(rows.values_list(name, flat=True).distinct()[: _MAX_MERCHANTS + 1])
        chosen = self.value()
        if not 1 < len(found) <= _MAX_MERCHANTS:
            found = [] if chosen is None else [chosen]  # a filter without a choice would not be applied
        return [(each, each) for each in found]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002 - the same
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(**{_merchant_of(queryset.model): chosen})


def _merchant_of(model: type[Model]) -> str:
    return "loan__merchant_id" if model is Shipment else "merchant_id"


def _moment(name: str, title: str) -> Callable[[Any], Any]:
    @admin.display(description=title, ordering=name)
    def show(row: Model) -> dt.datetime | None:
        seconds = getattr(row, name)
        return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)

    return show


_RECEIVED: Final = _moment("received_at", "received")
_TOLD: Final = _moment("told_at", "told")
_DUE: Final = _moment("due", "tried again")


class _ReadOnly:
    """Shows what was written to those who may view it, from the ledger's database."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(get_ledger().using)  # type: ignore[misc,no-any-return] # of the admin class beside it

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401, ARG002 - the same
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401, ARG002 - the same
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ANN401, ARG002 - the same
        return False


class _LedgerAdmin(_ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg] # generic in its stubs only
    """Actions need the right to change what is shown."""

    ordering = ("-id",)
    list_filter: ClassVar[Any] = (_Merchant, "state", "status", _NeedsReview)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tell who may run the actions; Django asks by this name."""
        return bool(request.user.has_perm(f"wegetfinancing.change_{self.opts.model_name}"))  # type: ignore[union-attr] # never AnonymousUser in the admin

    def changelist_view(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Django's own response
        return super().changelist_view(*args, **kwargs)

    def _try(self, request: HttpRequest, row: Model, done: str, operation: Callable[[], object]) -> None:
        """Run one operation of the ledger's, and tell what became of it."""
        try:
            operation()
        except (ValueError, WeGetFinancingError) as error:
            self.message_user(request, f"{row}: {error}", messages.ERROR)
        else:
            self.message_user(request, f"{row}: {done}", messages.SUCCESS)
            self.log_change(request, row, done)

    def _confirm(
        self, request: HttpRequest, queryset: QuerySet[Any], title: str, explanation: str, *, may_apply: bool
    ) -> HttpResponse:
        ledger = get_ledger()
        shown = []
        for row in queryset:
            loan = ledger.loan(row.order_id, merchant_id=row.merchant_id) if may_apply else None
            shown.append((row, () if loan is None else loan.held))
        context = {
            **self.admin_site.each_context(request),
            "action": request.POST["action"],
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "explanation": explanation,
            "rows": shown,
            "may_apply": may_apply,
            "title": title,
        }
        return TemplateResponse(request, _TEMPLATE, context)


# The ledger commits by itself, which it refuses to do inside the transaction of ATOMIC_REQUESTS.
for _alias in connections:
    transaction.non_atomic_requests(_alias)(_LedgerAdmin.changelist_view)


class _OfLoan(_ReadOnly, admin.TabularInline):  # type: ignore[type-arg] # generic in its stubs only
    """A list on the page of a loan, the oldest first."""

    can_delete = False
    extra = 0
    ordering = ("id",)


class _DecisionsOfLoan(_OfLoan):
    model = Decision
    fields = ("status", "amount", "state", "attempts", "error", "received")
    readonly_fields = ("received",)
    received = staticmethod(_RECEIVED)


class _ShipmentsOfLoan(_OfLoan):
    model = Shipment
    fields = ("state", "date", "outcome", "error", "told")
    readonly_fields = ("told",)
    told = staticmethod(_TOLD)


@admin.register(Loan)
class LoanAdmin(_LedgerAdmin):
    """Loans."""

    list_display = (
        "order_id",
        "merchant_id",
        "state",
        "status",
        "may_ship",
        "amount",
        "expected_amount",
        "held",
        _moment("updated_at", "changed"),
    )
    search_fields = ("order_id", "inv_id", "=merchant_id")
    fields = (
        "merchant_id",
        "order_id",
        "inv_id",
        "state",
        "status",
        "may_ship",
        "amount",
        "expected_amount",
        "refunded",
        "held",
        "forgotten",
    )
    readonly_fields = ("held",)
    list_filter = (_Merchant, "state", "status", "may_ship", _NeedsReview)
    inlines = (_DecisionsOfLoan, _ShipmentsOfLoan)
    actions = ("accept", "resolve")

    @admin.display(description="holds")
    def held(self, row: Loan) -> str:
        """Say what speaks against shipping."""
        columns = {each.attname: getattr(row, each.attname) for each in self.opts.concrete_fields}
        return " ".join(text for _, text in rules.open_facts(loan_from_columns(columns)))

    @admin.action(description="Accept holds ...", permissions=["operate"])
    def accept(self, request: HttpRequest, queryset: QuerySet[Loan]) -> HttpResponse | None:
        """Accept the holds that are ticked, of those that the operator has seen."""
        if "confirmed" not in request.POST:
            text = "Tick what you have looked into. What arrives meanwhile stays open."
            return self._confirm(request, queryset, "Accept", text, may_apply=True)
        for row in queryset:
            if holds := request.POST.getlist(f"hold-{row.pk}"):
                accept = partial(
                    get_ledger().accept,
                    row.order_id,
                    holds,
                    apply="apply" in request.POST,
                    merchant_id=row.merchant_id,
                )
                self._try(request, row, f"accepted {', '.join(holds)}", accept)
        return None

    @admin.action(description="Resolve as absent ...", permissions=["operate"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[Loan]) -> HttpResponse | None:
        """Say that the vendor has no application of these orders."""
        if "confirmed" not in request.POST:
            text = (
                "Only where the vendor's back-office has no application: these order IDs are closed for ever."
            )
            return self._confirm(request, queryset, "Resolve as absent", text, may_apply=False)
        for row in queryset:
            resolve = partial(get_ledger().resolve, row.order_id, merchant_id=row.merchant_id)
            self._try(request, row, "resolved as absent", resolve)
        return None


@admin.register(Decision)
class DecisionAdmin(_LedgerAdmin):
    """Decisions."""

    list_display = (
        "status",
        "inv_id",
        "order_id",
        "merchant_id",
        "state",
        "attempts",
        "error",
        _RECEIVED,
        "tried_again",
    )
    search_fields = ("order_id", "inv_id", "=merchant_id")
    fields = (
        "merchant_id",
        "inv_id",
        "order_id",
        "loan",
        "state",
        "status",
        "reported_status",
        "amount",
        "version",
        "attempts",
        "error",
    )
    actions = ("retry", "dismiss")

    @admin.display(description="tried again", ordering="due")
    def tried_again(self, row: Decision) -> dt.datetime | None:
        """Say when it is handed over next, if it is at all."""
        return _DUE(row) if row.state == WAITING and row.due > 0 else None

    @admin.action(description="Retry now", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Decision]) -> None:
        """Match again, and have handled now what waits."""
        for row in queryset:
            self._retry(request, row)

    def _retry(self, request: HttpRequest, row: Decision) -> None:
        ledger = get_ledger()
        if not ledger.applies:
            done = "due now; manage.py wegetfinancing_worker hands it to 'HANDLER'"
            self._try(request, row, done, partial(ledger.retry, row.pk))
            return

        def retry() -> None:
            ledger.match_again()
            is_handled = False
            while (claim := ledger.claim(row.pk)) is not None and ledger.apply(claim):
                is_handled = is_handled or claim.decision.id == row.pk
            if not is_handled:
                msg = "not handled; see its state and error"
                raise ValueError(msg)

        self._try(request, row, "handled", retry)

    @admin.action(description="Dismiss: handle no more ...", permissions=["operate"])
    def dismiss(self, request: HttpRequest, queryset: QuerySet[Decision]) -> HttpResponse | None:
        """Let decisions be handled no more."""
        if "confirmed" not in request.POST:
            text = "What is dismissed is never handled, and cannot be taken back: an approval would be lost."
            return self._confirm(request, queryset, "Dismiss", text, may_apply=False)
        for row in queryset:
            self._try(request, row, "dismissed", partial(get_ledger().dismiss, row.pk))
        return None


@admin.register(Shipment)
class ShipmentAdmin(_LedgerAdmin):
    """Shipments: what the vendor was told."""

    list_display = ("loan", "merchant", "inv_id", "state", "date", "outcome", "error", _TOLD)
    list_filter = (_Merchant, "state", "outcome")
    list_select_related = ("loan",)
    search_fields = ("loan__order_id", "inv_id", "=loan__merchant_id")
    fields = ("loan", "merchant", "inv_id", "state", "date", "outcome", "error")
    readonly_fields = ("merchant",)

    @admin.display(description="merchant id", ordering="loan__merchant_id")
    def merchant(self, row: Shipment) -> str | None:
        """Say whose order it is, where that is known."""
        return None if row.loan is None else row.loan.merchant_id
