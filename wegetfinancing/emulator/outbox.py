"""The postbacks of a served emulator: deliveries, and what the shop answered."""

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

import anyio
import attrs

from .._checks import is_loopback
from ..client.transport import Transport
from ..errors import TransportError
from .core import Application
from .postbacks import SignedPostback, delivery, forged
from .report import delivery_line, order_of

LATE_SECONDS: Final = 10.0
"""Seconds before a late delivery."""

_DELIVERY_SECONDS: Final = 10.0
_MAX_CHARACTERS: Final = 1000


@attrs.frozen(kw_only=True)
class Attempt:
    """One delivery.

    Attributes:
        at: seconds since the epoch.
        how: what was special about it, such as ``late``; empty for an ordinary delivery.
        answer: the shop's status, or why the postback was not sent.
        body: the beginning of what the shop answered.
        seconds: until the answer; ``None`` if nothing was sent.

    """

    at: float
    how: str
    answer: str
    body: str = attrs.field(default="", repr=False)
    seconds: float | None = None


@attrs.frozen(kw_only=True)
class OutgoingPostback:
    """A decision to be delivered to the shop.

    Attributes:
        number: from 1, in the order of the decisions.
        inv_id: of the request.
        order: the shop's order ID, or the ``inv_id`` if there is none.
        status: the decision.
        url: the request's ``postback_url``.
        signed: headers and body.
        attempts: oldest first.

    """

    number: int
    inv_id: str
    order: str
    status: str
    url: str | None
    signed: SignedPostback = attrs.field(repr=False)
    attempts: list[Attempt] = attrs.field(factory=list)


class Outbox:
    """Delivers postbacks: once, again, twice at once, late, forged, out of order.

    Args:
        transport: sends them.
        hosts: where they may go besides loopback addresses.
        report: receives one line for each delivery.
        clock: seconds since the epoch.
        sleep: waits for a number of seconds.

    Attributes:
        postbacks: all that were not cleared, oldest first.

    """

    def __init__(
        self,
        transport: Transport,
        *,
        hosts: Iterable[str] = (),
        report: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        """Start empty."""
        self.postbacks: list[OutgoingPostback] = []
        self._added = 0
        self._transport = transport
        self._hosts = frozenset(host.lower() for host in hosts)
        self._report = report
        self._clock = clock
        self._sleep = sleep

    def add(self, application: Application, signed: SignedPostback) -> OutgoingPostback:
        """Add the postback of a decision, without delivering it."""
        self._added += 1
        postback = OutgoingPostback(
            number=self._added,
            inv_id=application.inv_id,
            order=order_of(application),
            status=str(application.status),
            url=application.request.postback_url,
            signed=signed,
        )
        self.postbacks.append(postback)
        return postback

    def find(self, number: int) -> OutgoingPostback | None:
        """Return the postback of that number, if it was not cleared."""
        return next((each for each in self.postbacks if each.number == number), None)

    def clear(self) -> None:
        """Forget all postbacks; the numbers go on. What is to be delivered late still is."""
        self.postbacks.clear()

    async def deliver(self, postback: OutgoingPostback, how: str = "") -> None:
        """Deliver it unchanged."""
        await self._attempt(postback, postback.signed, how)

    async def deliver_twice(self, postback: OutgoingPostback) -> None:
        """Deliver it twice at once."""
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(self.deliver, postback, "twice at once")

    async def deliver_late(self, postback: OutgoingPostback) -> None:
        """Deliver it after ``LATE_SECONDS``."""
        await self._sleep(LATE_SECONDS)
        await self.deliver(postback, "late")

    async def deliver_forged(self, postback: OutgoingPostback) -> None:
        """Deliver it with a signature that is well formed and wrong."""
        await self._attempt(postback, forged(postback.signed), "wrong signature")

    async def deliver_out_of_order(self, inv_id: str) -> None:
        """Deliver all postbacks of a request, the newest first."""
        for postback in reversed([each for each in self.postbacks if each.inv_id == inv_id]):
            await self.deliver(postback, "out of order")

    async def _attempt(self, postback: OutgoingPostback, signed: SignedPostback, how: str) -> None:
        began = anyio.current_time()
        refusal = self._refusal(postback.url)
        answer, body = (
            (refusal, "") if postback.url is None or refusal else await self._send(postback.url, signed)
        )
        seconds = anyio.current_time() - began
        self._report(delivery_line(postback.status, postback.order, answer, seconds, how))
        attempt = Attempt(
            at=self._clock(), how=how, answer=answer, body=body, seconds=None if refusal else seconds
        )
        postback.attempts.append(attempt)

    def _refusal(self, url: str | None) -> str:
        """Return why nothing may be sent to that address; empty if it may."""
        if url is None:
            return "discarded: the request has no postback_url"
        host = urlsplit(url).hostname or ""
        if not is_loopback(host) and host not in self._hosts:
            return f"discarded: {host} is not loopback; start the emulator with --allow-host {host}"
        return ""

    async def _send(self, url: str, signed: SignedPostback) -> tuple[str, str]:
        request = delivery(signed, url, anyio.current_time() + _DELIVERY_SECONDS)
        try:
            answer = await self._transport.send(request)
        except TransportError as error:
            return str(error), ""
        return f"HTTP {answer.status}", answer.body.decode("utf-8", "replace")[:_MAX_CHARACTERS]
