"""What the vendor was told about shipments, kept for the admin pages."""

import logging
import time
from typing import Final

from django.db import DEFAULT_DB_ALIAS, Error, transaction

from ..._tracebacks import clears_locals
from ...client.hooks import DONE
from ...client.sync import Client
from ...errors import CallError
from ...models import ShippingEvent, ShippingReceipt
from .._sql.failures import description
from .transactions import left_as_found

_LOGGER: Final = logging.getLogger("wegetfinancing")


class RecordingClient(Client):
    """A ``Client`` that keeps the day, the state and the result of each shipping update.

    Nothing of the customer is kept. A record that cannot be written changes nothing about the call.

    Attributes:
        using: the alias of the database.

    """

    using: str = DEFAULT_DB_ALIAS

    @clears_locals  # customer data, as in Client
    def update_shipping(
        self, inv_id: str, event: ShippingEvent, *, timeout: float | None = None
    ) -> ShippingReceipt:
        """Tell the vendor what happened to the goods, as ``Client`` does, and record it."""
        try:
            receipt = super().update_shipping(inv_id, event, timeout=timeout)
        except CallError as error:
            self._record(inv_id, event, error.outcome.value, type(error).__name__)
            raise
        self._record(inv_id, event, DONE, None)
        return receipt

    def _record(self, inv_id: str, event: ShippingEvent, outcome: str, error: str | None) -> None:
        from .models import Inv, Shipment  # noqa: PLC0415 - models need the apps to be ready

        if not isinstance(event, ShippingEvent) or event.problems():
            return  # the vendor was told nothing, and there may be nothing to tell it by
        try:
            with left_as_found(self.using), transaction.atomic(using=self.using):
                known = Inv.objects.using(self.using).filter(inv_id=inv_id, loan__isnull=False)
                loans = list(known.values_list("loan_id", flat=True)[:2])  # several merchants' at most
                Shipment.objects.using(self.using).create(
                    loan_id=loans[0] if len(loans) == 1 else None,
                    inv_id=inv_id,
                    state=event.state.value,
                    date=event.date,
                    outcome=outcome,
                    error=error,
                    told_at=time.time(),
                )
        except Error as failure:
            _LOGGER.warning(
                "the shipping update %s of %s (%s) could not be recorded: %s",
                event.state.value,
                inv_id,
                outcome,
                description(failure),
            )
