"""Clients of other APIs, each beside the same call posted by hand through the same stand-in."""

import hashlib
import hmac
import importlib.metadata
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import httpx2

from .harness import Row, compared, interleaved

_CHAT = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
_MESSAGE = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_ISSUE = {"number": 1, "title": "hello"}
_CUSTOMER = {"id": "cus_1", "object": "customer", "email": "jane@example.com"}
_ON_HTTPX2 = {"anthropic", "openai"}
_QUESTION: Any = [{"role": "user", "content": "hi"}]


def answering(value: object, library: Any = httpx) -> Any:
    return library.AsyncClient(transport=stand_in(value, library))


def stand_in(value: object, library: Any = httpx) -> Any:
    body = json.dumps(value).encode()
    headers = {"content-type": "application/json"}
    return library.MockTransport(lambda _: library.Response(200, headers=headers, content=body))


def openai_call() -> tuple[str, Any, object, Callable[[], Any]]:
    import openai  # noqa: PLC0415 - a peer that is not installed is left out

    client = openai.AsyncOpenAI(api_key="k", http_client=answering(_CHAT, httpx2))
    wire = {"model": "m", "messages": _QUESTION}
    return "openai", wire, _CHAT, lambda: client.chat.completions.create(model="m", messages=_QUESTION)


def anthropic_call() -> tuple[str, Any, object, Callable[[], Any]]:
    import anthropic  # noqa: PLC0415 - likewise

    client = anthropic.AsyncAnthropic(api_key="k", http_client=answering(_MESSAGE, httpx2))
    wire = {"model": "m", "max_tokens": 1, "messages": _QUESTION}
    return (
        "anthropic",
        wire,
        _MESSAGE,
        lambda: client.messages.create(model="m", max_tokens=1, messages=_QUESTION),
    )


def gidgethub_call() -> tuple[str, Any, object, Callable[[], Any]]:
    from gidgethub.httpx import GitHubAPI  # noqa: PLC0415 - likewise

    client = GitHubAPI(answering(_ISSUE), "me", oauth_token="t")  # noqa: S106 - invented
    wire = {"title": "hello"}
    return "gidgethub", wire, _ISSUE, lambda: client.post("/repos/a/b/issues", data=wire)


def githubkit_call() -> tuple[str, Any, object, Callable[[], Any]]:
    from githubkit import GitHub  # noqa: PLC0415 - likewise

    client: Any = GitHub("t", async_transport=stand_in(_ISSUE), http_cache=False)
    wire = {"title": "hello"}

    async def call() -> Any:
        return (await client.rest.issues.async_create("a", "b", data=wire)).json()

    return "githubkit", wire, _ISSUE, call


def stripe_call() -> tuple[str, Any, object, Callable[[], Any]]:
    import stripe  # noqa: PLC0415 - likewise

    http_client: Any = stripe.HTTPXClient()
    http_client._client_async = answering(_CUSTOMER)  # noqa: SLF001 - it takes no transport
    client = stripe.StripeClient("sk_test_k", http_client=http_client, max_network_retries=2)
    params: Any = {"email": "jane@example.com"}
    return "stripe", params, _CUSTOMER, lambda: client.v1.customers.create_async(params)


async def beside_by_hand(make: Callable[[], tuple[str, Any, object, Callable[[], Any]]]) -> Row:
    name, wire, answer, call = make()
    library = httpx2 if name in _ON_HTTPX2 else httpx
    hand = answering(answer, library)
    headers = {"authorization": "Bearer k"}

    async def by_hand() -> Any:
        return (await hand.post("https://api.example/x", json=wire, headers=headers)).json()

    await call()
    took = await interleaved({"peer": call, "hand": by_hand}, rounds=15)
    return compared(
        f"{version(name)}, a call",
        took["peer"],
        f"`post(json=…)` + `.json()`, {library.__name__}",
        took["hand"],
    )


def version(name: str) -> str:
    return f"{name} {importlib.metadata.version(name)}"


def stripe_webhook() -> tuple[str, Callable[[], Any], Callable[[], Any]]:
    import stripe  # noqa: PLC0415 - likewise

    body = json.dumps({"id": "evt_1", "object": "event", "type": "x", "data": {"object": {}}})
    stamp = str(int(time.time()))

    def signature() -> str:
        return hmac.new(b"secret", f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()

    header = f"t={stamp},v1={signature()}"

    def floor() -> Any:
        assert hmac.compare_digest(signature(), header[-64:])
        return json.loads(body)

    construct: Any = stripe.Webhook.construct_event
    return "stripe", lambda: construct(body, header, "secret", tolerance=10**6), floor


def svix_webhook() -> tuple[str, Callable[[], Any], Callable[[], Any]]:
    import base64  # noqa: PLC0415 - likewise
    import datetime as dt  # noqa: PLC0415 - likewise

    from svix.webhooks import Webhook  # noqa: PLC0415 - likewise

    hook = Webhook("whsec_" + base64.b64encode(b"secret" * 4).decode())
    body, now = json.dumps({"type": "x", "data": {"id": "1"}}), dt.datetime.now(tz=dt.UTC)
    stamp = int(now.timestamp())
    signed = hook.sign("msg_1", now, body)
    headers = {"svix-id": "msg_1", "svix-timestamp": str(stamp), "svix-signature": signed}

    def floor() -> Any:
        digest = hmac.new(b"secret" * 4, f"msg_1.{stamp}.{body}".encode(), hashlib.sha256).digest()
        assert hmac.compare_digest(base64.b64encode(digest).decode(), signed[3:])
        return json.loads(body)

    return "svix", lambda: hook.verify(body, headers), floor


def gidgethub_webhook() -> tuple[str, Callable[[], Any], Callable[[], Any]]:
    from gidgethub.sansio import Event  # noqa: PLC0415 - likewise

    body = json.dumps({"action": "opened", "number": 1}).encode()

    def signature() -> str:
        return hmac.new(b"secret", body, hashlib.sha256).hexdigest()

    signed = signature()
    headers = {
        "content-type": "application/json",
        "x-hub-signature-256": f"sha256={signed}",
        "x-github-event": "x",
        "x-github-delivery": "1",
    }

    def floor() -> Any:
        assert hmac.compare_digest(signature(), signed)
        return json.loads(body)

    return "gidgethub", lambda: Event.from_http(headers, body, secret="secret"), floor  # noqa: S106 - invented


async def beside_the_floor(make: Callable[[], tuple[str, Callable[[], Any], Callable[[], Any]]]) -> Row:
    name, verify, floor = make()

    async def peer() -> Any:
        return verify()

    async def least() -> Any:
        return floor()

    took = await interleaved({"peer": peer, "floor": least}, rounds=15, calls=200)
    against = "its hash + compare + `json.loads`"
    return compared(f"{version(name)}, a webhook", took["peer"], against, took["floor"], digits=1)


async def measure() -> list[Row]:
    calls = (gidgethub_call, githubkit_call, stripe_call, anthropic_call, openai_call)
    rows = [await beside_by_hand(make) for make in calls]
    webhooks = (svix_webhook, gidgethub_webhook, stripe_webhook)
    return rows + [await beside_the_floor(make) for make in webhooks]
