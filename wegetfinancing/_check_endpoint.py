"""Is the shop's own endpoint right? Posts what no shop can act upon, and what it has to refuse.

The postbacks have a status that does not exist, the ID of no request and an order that no shop has: a handler
has to treat each as unknown, and a ledger keeps them without listing them for review.
"""

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import anyio
import attrs

from ._check_findings import Finding, failed, ok, skipped
from ._check_setup import Setup
from .client.httpx_transport import HttpxTransport
from .credentials import Credentials
from .enums import PostbackVersion
from .errors import Outcome, TransportError
from .http import Request, Response
from .postbacks.checking import CHECK_INV_ID
from .postbacks.receiving import BODY_LIMIT
from .postbacks.signatures import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_postback

_A_YEAR: Final = 365 * 86400.0
_CLOCKS_SECONDS: Final = 120.0  # that two clocks may differ
_SHOWN_CHARACTERS: Final = 100
_CONTENT_TYPE: Final = {"content-type": "application/json"}

_GENUINE: Final[Mapping[int, str]] = {
    400: "the signature may be right, but the endpoint cannot read the body",
    401: "it verifies with other credentials, or what stands before it changes the body or asks for a login;"
    " the signature is over the raw bytes, so parsed and rewritten JSON does not verify",
    403: "a CSRF check, a login or a firewall stands before the endpoint; exempt this path",
    404: "nothing is served at this path",
    405: "this path does not accept POST",
    500: "the handler failed; the shop's log says why",
    503: "the handler raised NotYet for an order that does not exist, or its store or ledger cannot be"
    " reached; return for UnknownPostback before looking for the order",
}
_REDIRECT: Final = (
    "whether the vendor follows redirects is not documented; name the exact URL, with https and without a"
    " slash too many, and use a route, not a mount"
)


@attrs.frozen(kw_only=True)
class _Probe:
    """One request to the endpoint, and what is right to answer.

    Attributes:
        name: of the check.
        request: what is sent.
        right: the statuses that pass, and what each means.
        remedies: what to do about other statuses.
        otherwise: what to do about any further one.

    """

    name: str
    request: Request
    right: Mapping[int, str]
    remedies: Mapping[int, str] = attrs.field(factory=dict)
    otherwise: str


async def check_endpoint(
    url: str, setup: Setup | None, seconds: float, max_age: float | None
) -> AsyncIterator[Finding]:
    """Post to the endpoint and check each answer.

    Args:
        url: the endpoint.
        setup: with the credentials that it accepts; ``None`` if the settings are wrong.
        seconds: for each answer.
        max_age: the endpoint's ``max_age`` in seconds, which an old postback has to exceed and be refused;
            ``None`` where it has none.

    """
    if setup is None:
        for name in _NAMES:
            yield skipped(name, "needs the settings")
        return
    is_reachable = True
    async with contextlib.aclosing(HttpxTransport(ready_connections=0)) as transport:
        for probe in _probes(url, setup.credentials, max_age):
            if not is_reachable:
                yield skipped(probe.name, "the endpoint cannot be reached")
                continue
            try:
                answer = await transport.send(
                    attrs.evolve(probe.request, deadline=anyio.current_time() + seconds)
                )
            except TransportError as error:
                yield failed(probe.name, error.args[0], f"is {url} running, and can it be reached from here?")
                is_reachable = error.outcome is not Outcome.NOT_SENT
            else:
                yield _finding(probe, answer)


def _finding(probe: _Probe, answer: Response) -> Finding:
    if answer.status in probe.right:
        return ok(probe.name, f"HTTP {answer.status}: {probe.right[answer.status]}")
    expected = " or ".join(map(str, probe.right))
    is_redirect = 300 <= answer.status <= 399  # noqa: PLR2004 - the 3xx class
    remedy = _REDIRECT if is_redirect else probe.remedies.get(answer.status, probe.otherwise)
    return failed(probe.name, f"HTTP {answer.status}{_shown(answer)}, not {expected}", remedy)


def _shown(answer: Response) -> str:
    """Show what the endpoint says about a refusal, if that is a line of text."""
    is_text = answer.headers.get("content-type", "").startswith("text/plain")
    text = answer.body.decode("utf-8", "replace").strip() if is_text else ""
    return f" ({text[:_SHOWN_CHARACTERS]})" if text and "\n" not in text else ""


_NAMES: Final = ("genuine", "forged", "unsigned", "old", "oversized", "get")


def _probes(url: str, credentials: Credentials, max_age: float | None) -> list[_Probe]:
    now = time.time()
    then = now - (_A_YEAR if max_age is None else 2 * max_age + _CLOCKS_SECONDS)
    genuine = _postback(url, credentials, now)
    forged = attrs.evolve(genuine, body=_postback(url, credentials, now).body)  # signed is another one
    unsigned = attrs.evolve(genuine, headers=_CONTENT_TYPE)
    believes = "it acts on what anybody can send; verify the signature over the raw body first"
    # A ledger or a store that remembers for ever recognizes a repeat by itself, however old it is.
    old = {401: "it was refused"}
    if max_age is None:
        old[200] = "accepted, which is right if decisions are remembered for ever, as a ledger does"
    return [
        _Probe(
            name="genuine",
            right={200: "a signed postback is verified, and one of unknown meaning changes nothing"},
            remedies=_GENUINE,
            otherwise="answer 200, as the vendor's own plugins do; what it does otherwise is not documented",
            request=genuine,
        ),
        _Probe(
            name="forged",
            right={401: "a body that was changed after signing is refused"},
            remedies={200: believes},
            otherwise="refuse what does not verify with 401, before anything else",
            request=forged,
        ),
        _Probe(
            name="unsigned",
            right={401: "a postback without a signature is refused"},
            remedies={200: believes},
            otherwise="refuse what does not verify with 401, before anything else",
            request=unsigned,
        ),
        _Probe(
            name="old",
            right=old,
            remedies={200: "its max_age is longer than --max-age says, or not set"},
            otherwise="refuse an old postback with 401, or accept it",
            request=_postback(url, credentials, then),
        ),
        _Probe(
            name="oversized",
            right={413: "a body of more than 64 KiB is refused"},
            otherwise="refuse bodies over 64 KiB with 413 as they arrive; real ones have a few hundred bytes",
            request=_postback(url, credentials, now, at_least=BODY_LIMIT + 1),
        ),
        _Probe(
            name="get",
            right={405: "only POST is accepted"},
            otherwise="accept nothing but POST at this path",
            request=Request(operation="check", method="GET", url=url),
        ),
    ]


def _postback(url: str, credentials: Credentials, at: float, *, at_least: int = 0) -> Request:
    told = {
        "version": PostbackVersion.V1_9.value,
        "request_token": CHECK_INV_ID,
        "merchant_transaction_id": f"{CHECK_INV_ID}-{secrets.token_hex(8)}",
        "updates": {"status": CHECK_INV_ID},
    }
    # Laid out as no library writes it, so that whoever verifies rewritten JSON is found out.
    body = json.dumps(told, indent=3).encode("ascii").ljust(at_least)
    timestamp = str(int(at))
    signature = sign_postback(body, timestamp, credentials)
    headers = _CONTENT_TYPE | {SIGNATURE_HEADER: signature, TIMESTAMP_HEADER: timestamp}
    return Request(operation="check", method="POST", url=url, headers=headers, body=body)
