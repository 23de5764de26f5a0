"""Is the way to the vendor right? Settings, DNS, TLS, credentials; nothing here creates an application."""

import contextlib
import os
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import anyio
import attrs
from anyio.streams.tls import TLSAttribute

from ._check_findings import Finding, are_right, failed, ok, skipped
from .client.answers import api_error
from .client.authentication import basic_authorization
from .client.httpx_connections import default_ssl_context
from .client.httpx_errors import read_error
from .client.httpx_transport import HttpxTransport
from .client.name_lookups import lookups_of_this_process
from .client.operations import CREATE_REQUEST
from .client.settings import Endpoint, settings_from_env
from .client.transport import Transport
from .credentials import Credentials
from .errors import ConfigurationError, TransportError
from .http import Response
from .postbacks.signatures import as_credentials_tuple

_REQUIRED: Final = ("WEGETFINANCING_MERCHANT_ID", "WEGETFINANCING_USERNAME", "WEGETFINANCING_PASSWORD")
_PORTS: Final = {"http": 80, "https": 443}
_NO_FIELDS: Final = b"{}"
_ABOUT_FIELDS: Final = frozenset({"missing_parameters", "invalid_parameters"})
_AFTER_SETTINGS: Final = ("dns", "tls", "credentials")
_IN_THE_BACK_OFFICE: Final = "the vendor's back-office shows them under Integration, API Integration"
_REMEDIES: Final[Mapping[int, str]] = {
    401: "WEGETFINANCING_USERNAME or WEGETFINANCING_PASSWORD is wrong, or they are those of the other"
    " environment; the sandbox and live each have their own",
    403: "username and password are right, and WEGETFINANCING_MERCHANT_ID is not theirs; copy it from the"
    " vendor's back-office",
    404: "is WEGETFINANCING_MERCHANT_ID right, and WEGETFINANCING_BASE_URL the vendor's?",
}
_ANOTHER_ANSWER: Final = (
    "not the API's answer to a create without any field; try again later, then ask the vendor"
)


@attrs.frozen
class Setup:
    """What the environment says.

    Attributes:
        credentials: whose calls and postbacks are checked.
        base_url: where the calls go.

    """

    credentials: Credentials
    base_url: str


def check_settings() -> tuple[Finding, Setup | None]:
    """Check the environment variables, and return what they say if they are right."""
    missing = [name for name in _REQUIRED if not os.environ.get(name, "").strip()]
    if missing:
        return failed("settings", f"not set: {', '.join(missing)}", _IN_THE_BACK_OFFICE), None
    try:
        credentials = Credentials.from_env()
        as_credentials_tuple(credentials)  # with some usernames postbacks cannot be verified
        settings = settings_from_env({})
        endpoint = Endpoint.of(settings.get("environment", "sandbox"), settings.get("base_url"))
    except ConfigurationError as error:
        return failed("settings", str(error), "correct the variable of that name, WEGETFINANCING_*"), None
    environment = endpoint.environment.value
    if "environment" not in settings:
        environment += " (WEGETFINANCING_ENVIRONMENT is not set)"
    text = f"{environment} at {endpoint.base_url}, merchant {credentials.merchant_id}"
    return ok("settings", text), Setup(credentials, endpoint.base_url)


async def check_vendor(setup: Setup | None, seconds: float) -> AsyncIterator[Finding]:
    """Check one step after the other, each for so many seconds; those after a failure are skipped."""
    if setup is None:
        for name in _AFTER_SETTINGS:
            yield skipped(name, "needs the settings")
        return
    parts = urlsplit(setup.base_url)
    host, port = str(parts.hostname), parts.port or _PORTS[parts.scheme]
    by_proxy = "the call goes through the proxy of the environment"
    is_proxied = _is_proxied(parts.scheme, host)
    dns = skipped("dns", by_proxy) if is_proxied else await _check_dns(host, port, seconds)
    yield dns
    if is_proxied:
        tls = skipped("tls", by_proxy)
    elif not are_right([dns]):
        tls = skipped("tls", "needs the address")
    elif parts.scheme == "http":
        tls = skipped("tls", "plain http, which does not leave this machine")
    else:
        tls = await _check_tls(host, port, seconds)
    yield tls
    if are_right([dns, tls]):
        async with contextlib.aclosing(HttpxTransport(ready_connections=0)) as transport:
            found = await credentials_finding(setup, transport, seconds)
        yield found
    else:
        yield skipped("credentials", "needs a connection")


def _is_proxied(scheme: str, host: str) -> bool:
    if scheme == "http":  # to loopback only, which never goes through a proxy
        return False
    proxies = urllib.request.getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(host)


async def _check_dns(host: str, port: int, seconds: float) -> Finding:
    remedy = "may this machine use DNS? Where it has to use a proxy, set HTTPS_PROXY"
    if os.environ.get("WEGETFINANCING_BASE_URL"):
        remedy = f"is the name in WEGETFINANCING_BASE_URL right? If so: {remedy}"
    found: list[str] = []
    problem = f"no answer within {seconds:g} seconds"
    with anyio.move_on_after(seconds):
        try:
            found = await lookups_of_this_process().find(host, port)
        except OSError as error:
            problem = read_error(error, None).detail or type(error).__name__
    if not found:
        return failed("dns", f"{host} cannot be resolved ({problem})", remedy)
    return ok("dns", f"{host} is {', '.join(found)}")


async def _check_tls(host: str, port: int, seconds: float) -> Finding:
    problem = f"no answer within {seconds:g} seconds"
    with anyio.move_on_after(seconds):
        try:
            stream = await anyio.connect_tcp(
                host,
                port,
                ssl_context=default_ssl_context(),
                tls_hostname=host,
                tls_standard_compatible=False,  # or closing waits for the server
            )
            version = stream.extra(TLSAttribute.tls_version)  # noqa: S610 - anyio's, not Django's
            await stream.aclose()
            return ok("tls", f"{version}, and the certificate of {host} verifies")
        except Exception as error:  # noqa: BLE001 - OSError, ssl.SSLError and anyio's own, and all are the result
            problem = read_error(error, None).detail or type(error).__name__
    return failed("tls", f"no connection to {host}:{port} ({problem})", "may this machine connect there?")


async def credentials_finding(setup: Setup, transport: Transport, seconds: float) -> Finding:
    """Send one create without any field, which cannot create an application, and read the answer.

    That wrong credentials are told before missing fields is inferred, as are the statuses 401 and 403.
    """
    merchant_id = setup.credentials.merchant_id
    request = CREATE_REQUEST.request(setup.base_url, merchant_id, _NO_FIELDS, anyio.current_time() + seconds)
    headers = {**request.headers, "authorization": basic_authorization(setup.credentials)}
    try:
        answer = await transport.send(attrs.evolve(request, headers=headers))
    except TransportError as error:
        told = error.args[0]
        return failed("credentials", f"no answer ({told})", "is the vendor's API reachable from here?")
    return _finding_of(answer)


def _finding_of(answer: Response) -> Finding:
    name = "credentials"
    if answer.is_success:
        told = f"HTTP {answer.status} to a create without any field, which the API refuses"
        return failed(name, told, "is WEGETFINANCING_BASE_URL the vendor's? If so, look into its back-office")
    error = api_error(CREATE_REQUEST.name, answer)
    if answer.status == 400 and error.error in _ABOUT_FIELDS:  # noqa: PLR2004 - for the fields
        told = "username, password and merchant ID are accepted"
        return ok(name, f"{told} (a create without any field: it cannot create an application)")
    summary = error.args[0].partition(";")[0].partition(":")[0]
    return failed(name, summary, _REMEDIES.get(answer.status, _ANOTHER_ANSWER))
