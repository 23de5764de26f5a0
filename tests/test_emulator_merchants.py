"""An emulator that serves several merchants."""

from pathlib import Path

import httpx
import pytest

from support.commands import running_emulator
from wegetfinancing import (
    AsyncClient,
    AuthenticationError,
    ConfigurationError,
    Credentials,
    NotFoundError,
    PermissionDeniedError,
    SignatureError,
    parse_postback,
)
from wegetfinancing.emulator import Emulator
from wegetfinancing.emulator.app import emulator_app
from wegetfinancing.emulator.env_file import read_merchants, read_settings, write_merchants
from wegetfinancing.testing import FakeTransport, credentials, financing_request, shipping_event

pytestmark = pytest.mark.anyio

A = credentials()
B = Credentials("shop-b", "b user", "b:password")


async def test_each_merchant_has_its_own_applications_and_postbacks() -> None:
    emulator = Emulator([A, B])
    assert emulator.merchants == ("1234", "shop-b")
    async with AsyncClient(A, transport=emulator) as client:
        of_a = await client.create_request(financing_request())
        other = client.for_merchant(B)
        of_b = await other.create_request(financing_request())
        await other.update_shipping(of_b.inv_id, shipping_event())
        with pytest.raises(NotFoundError):
            await other.update_shipping(of_a.inv_id, shipping_event())
        mixed = client.for_merchant(Credentials(A.merchant_id, B.username, B.password))
        with pytest.raises(PermissionDeniedError):
            await mixed.create_request(financing_request())
        nobody = client.for_merchant(Credentials(B.merchant_id, "nobody", "nothing"))
        with pytest.raises(AuthenticationError):
            await nobody.create_request(financing_request())
    assert [each.merchant_id for each in emulator.applications.values()] == [A.merchant_id, B.merchant_id]
    signed = emulator.decide(of_b.inv_id, "approved")
    assert parse_postback(signed.body, signed.headers, B).merchant_id == B.merchant_id
    with pytest.raises(SignatureError):
        parse_postback(signed.body, signed.headers, A)


async def test_two_merchants_may_share_one_api_user() -> None:
    shared = Credentials("shop-c", B.username, B.password)
    async with AsyncClient(B, transport=Emulator([B, shared])) as client:
        await client.create_request(financing_request())
        await client.for_merchant(shared).create_request(financing_request())


@pytest.mark.parametrize("several", [[], [A, A], [A, credentials(password="other")]])
def test_each_merchant_is_served_once(several: list[Credentials]) -> None:
    with pytest.raises(ConfigurationError, match="one of each merchant"):
        Emulator(several)


@pytest.mark.parametrize(("served", "shown"), [([A], False), ([A, B], True)])
async def test_the_dashboard_names_the_merchant_where_there_are_several(
    served: list[Credentials], shown: bool
) -> None:
    emulator = Emulator(served)
    async with AsyncClient(A, transport=emulator) as client:
        await client.create_request(financing_request())
    transport = httpx.ASGITransport(emulator_app(emulator, FakeTransport()))
    async with httpx.AsyncClient(transport=transport, base_url="http://emulator.test") as browser:
        page = (await browser.get("/")).text
    assert ("merchant <code>1234</code>" in page) == shown


def test_merchants_are_kept_in_one_variable() -> None:
    assert read_merchants(write_merchants([A, Credentials("b", "b-user", "b:pass")])) == [
        A,
        Credentials("b", "b-user", "b:pass"),
    ]
    assert read_merchants("") == []
    with pytest.raises(ConfigurationError, match="ID:USERNAME:PASSWORD"):
        read_merchants("b:b-user")


def test_merchants_are_served_and_kept_between_starts(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    options = [f"--env-file={file}", "--merchant=b", "--merchant=c", "--merchant=b", "--merchant=1234"]
    with running_emulator(*options) as first:
        several = read_merchants(first["WEGETFINANCING_MERCHANTS"])
        assert [each.merchant_id for each in several] == ["b", "c"]
        assert read_settings(file) == first
    with running_emulator(f"--env-file={file}", "--merchant-id=c", "--merchant=d") as second:
        again = read_merchants(second["WEGETFINANCING_MERCHANTS"])
        assert [each.merchant_id for each in again] == ["b", "d"]
        assert again[0] == several[0]
