"""CPU of ``parse_postback`` beside the least that checking and reading a body can cost."""

import hashlib
import hmac
import json
from typing import Any

from wegetfinancing import Approved, parse_postback
from wegetfinancing.testing import credentials, signed_postback

from .harness import Row, compared, interleaved


async def measure() -> list[Row]:
    who = credentials()
    made = signed_postback()
    body, headers = made.body, dict(made.headers)

    async def ours() -> Any:
        return parse_postback(body, headers, who)

    async def floor() -> Any:
        before = f"{headers['x-timestamp']}{who.username}".encode()
        digest = hashlib.sha256(before + body + who.password.encode()).hexdigest()
        assert hmac.compare_digest(digest, headers["x-signature"])
        return json.loads(body)

    assert isinstance(await ours(), Approved)
    took = await interleaved({"ours": ours, "floor": floor}, calls=400)
    against = "SHA-256 + compare + `json.loads`"
    # The floor reads no time of signing, hashes nothing to tell deliveries apart, and accepts any JSON.
    return [compared("`parse_postback`", took["ours"], against, took["floor"], bound=4.2, digits=1)]
