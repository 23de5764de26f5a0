"""Transports that break one rule each, on top of one that keeps them all."""

import math
from typing import Any

import anyio
import attrs
import httpx

from wegetfinancing import DeadlineExceededError, HttpxTransport, Outcome, Transport, TransportError
from wegetfinancing.http import Request, Response
from wegetfinancing.testing import FakeTransport


class Good:
    """Keeps every rule. The others change one thing."""

    def __init__(self) -> None:
        self.inner: Transport = HttpxTransport()

    async def send(self, request: Request) -> Response:
        return await self.inner.send(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


def elsewhere(request: Request, path: str) -> Request:
    return attrs.evolve(request, url=str(httpx.URL(request.url).join(path)))


class ClosesOnce(Good):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError
        self.closed = True
        await super().aclose()


class TurnsCancellationIntoAnError(Good):
    async def send(self, request: Request) -> Response:
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except anyio.get_cancelled_exc_class():
            raise TransportError("cancelled") from None
        return await super().send(request)


class TurnsCancellationIntoAnAnswer(Good):
    async def send(self, request: Request) -> Response:
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except anyio.get_cancelled_exc_class():
            return Response(200)
        return await super().send(request)


class RenamesThePath(Good):
    async def send(self, request: Request) -> Response:
        return await super().send(attrs.evolve(request, url=request.url + "/"))


class ChangesAHeader(Good):
    async def send(self, request: Request) -> Response:
        headers = {**request.headers, "user-agent": "mine"}
        return await super().send(attrs.evolve(request, headers=headers))


class ChangesTheBody(Good):
    async def send(self, request: Request) -> Response:
        return await super().send(attrs.evolve(request, body=request.body.replace(b"\0", b"")))


class KeepsCookies(Good):
    cookie = ""

    async def send(self, request: Request) -> Response:
        headers = {**request.headers, **({"cookie": self.cookie} if self.cookie else {})}
        response = await super().send(attrs.evolve(request, headers=headers))
        self.cookie = response.headers.get("set-cookie", "")
        return response


class SendsAgain(Good):
    async def send(self, request: Request) -> Response:
        try:
            return await super().send(request)
        except DeadlineExceededError:
            raise
        except TransportError:
            return await super().send(request)


class KeepsAConnectionForCreates(Good):
    async def send(self, request: Request) -> Response:
        return await super().send(attrs.evolve(request, repeatable=True))


class MixesUpCalls(Good):
    async def send(self, request: Request) -> Response:
        self.request = request
        await anyio.lowlevel.checkpoint()
        return await super().send(self.request)


class IgnoresTheDeadline(Good):
    async def send(self, request: Request) -> Response:
        soon = request.deadline - anyio.current_time() < 10
        with anyio.CancelScope(shield=soon):
            response = await self.inner.send(attrs.evolve(request, deadline=math.inf) if soon else request)
        return response  # noqa: RET504 - mypy holds that a scope may swallow


class FinishesCancelledCalls(Good):
    async def send(self, request: Request) -> Response:
        await anyio.lowlevel.checkpoint_if_cancelled()
        with anyio.CancelScope(shield=True):
            response = await self.inner.send(request)
        return response  # noqa: RET504 - mypy holds that a scope may swallow


class KeepsConnectionsAfterClosing(Good):
    async def aclose(self) -> None:
        pass


class DropsHeaders(Good):
    async def send(self, request: Request) -> Response:
        return attrs.evolve(await super().send(request), headers={})


class ChangesTheStatus(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        return attrs.evolve(response, status=202 if "x-extra" in response.headers else response.status)


class DecodesText(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        return attrs.evolve(response, body=response.body.decode("utf-8", "replace").encode())


class TakesAnInterimAnswer(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        return Response(103) if "transfer-encoding" in response.headers else response


class RaisesForStatus(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if response.status >= 400:
            raise TransportError("an error status")
        return response


class ReturnsOtherStatuses(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        return attrs.evolve(response, status=500 if response.status == 503 else response.status)


class FollowsRedirects(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if "location" in response.headers:
            return await super().send(elsewhere(request, response.headers["location"]))
        return response


class RaisesForRedirects(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if "location" in response.headers:
            raise TransportError("redirected")
        return response


class PassesHalfABodyAsWhole(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        cut = response.body_error == "was cut short"
        return attrs.evolve(response, body_error=None) if cut else response


class ReadsWithoutEnd(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if response.body_error == "is larger than 1 MiB":
            url = httpx.URL(request.url)
            async with await anyio.connect_tcp(url.host, url.port or 80) as stream:
                await stream.send(b"POST / HTTP/1.1\r\n\r\n")
                async for _ in stream:
                    pass
        return response


class PassesABoundedBodyAsWhole(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        cut = response.body_error == "is larger than 1 MiB"
        return attrs.evolve(response, body_error=None) if cut else response


class Unpacks(Good):
    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if response.headers.get("content-encoding") == "gzip":
            return Response(200, response.headers, b'{"a":1}')
        return response


class LetsTheLibrarysErrorsOut(Good):
    async def send(self, request: Request) -> Response:
        try:
            return await super().send(request)
        except TransportError:
            raise OSError from None


class SaysNotSent(Good):
    async def send(self, request: Request) -> Response:
        try:
            return await super().send(request)
        except TransportError:
            raise TransportError("failed", outcome=Outcome.NOT_SENT) from None


class ShowsTheBody(Good):
    async def send(self, request: Request) -> Response:
        try:
            return await super().send(request)
        except TransportError:
            raise TransportError("lost " + request.body.decode()) from None


class ShowsItsCause(Good):
    async def send(self, request: Request) -> Response:
        try:
            return await super().send(request)
        except TransportError:
            raise TransportError("lost") from ValueError(request.headers["authorization"])


class ReturnsText(FakeTransport):
    async def send(self, request: Request) -> Any:
        await super().send(request)
        return "OK"


class NeverEnds(Good):
    async def send(self, request: Request) -> Response:
        await anyio.sleep(math.inf)
        return await super().send(request)


class CannotBeClosed(Good):
    async def aclose(self) -> None:
        raise RuntimeError


class RaisesInMemory(FakeTransport):
    async def send(self, request: Request) -> Response:
        await super().send(request)
        raise ValueError


class RaisesForBodies(Good):
    """Allowed: a body that cannot be used may also be raised, as UNKNOWN."""

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if response.body_error is not None:
            raise TransportError(response.body_error)
        return response
