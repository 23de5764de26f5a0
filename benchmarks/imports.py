"""CPU of a whole process that imports the package, beside one that imports httpx."""

import resource
import subprocess
import sys
from typing import Final

from .harness import Row, compared
from .processes import with_compiled_files

_USED: Final = """
import datetime as dt
from wegetfinancing import (Address, AsyncClient, CartItem, Credentials, FinancingRequest, ShippingEvent,
    ShippingState)
FinancingRequest(first_name="Jane", last_name="Doe", email="jane@example.com",
    billing_address=Address(street1="123 Main St", city="New York", state="NY", zipcode="10001"),
    cart_items=[CartItem(display_name="Super Widget", unit_price="499.00", quantity=1)]).problems()
ShippingEvent(date=dt.date(2026, 1, 15), state=ShippingState.DISPATCHED).problems()
AsyncClient(Credentials("1234", "api-user", "api-password"))
"""
_PROCESSES: Final = {"used": _USED, "httpx": "import httpx", "nothing": ""}
_ROUNDS: Final = 15


def cpu_of_process(code: str) -> float:
    """Run the code in a fresh interpreter that may use compiled files, as installed packages do."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=with_compiled_files())  # noqa: S603 - the texts above
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


async def measure() -> list[Row]:
    for code in _PROCESSES.values():
        cpu_of_process(code)
    took: dict[str, list[float]] = {name: [] for name in _PROCESSES}
    for _ in range(_ROUNDS):
        for name, code in _PROCESSES.items():
            took[name].append(cpu_of_process(code))
    what = "import, every model and the client class, whole process"
    httpx, nothing = "`import httpx`", "an empty process"
    return [
        compared(what, took["used"], httpx, took["httpx"], bound=1.1, unit="ms"),
        compared(what, took["used"], nothing, took["nothing"], unit="ms"),
    ]
