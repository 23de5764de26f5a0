"""Other processes of a measurement: the fast server, and fresh interpreters."""

import contextlib
import functools
import importlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import trustme

from .fake_socket import INV_ID


@contextlib.contextmanager
def serving(delay: float = 0.0, *, certificate: Path | None = None) -> Iterator[str]:
    """Run the fast server and give its address."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.server",
        str(delay),
        *([str(certificate)] if certificate else []),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@contextlib.contextmanager
def certified() -> Iterator[tuple[Path, ssl.SSLContext]]:
    """Make a certificate of 127.0.0.1 and a context that trusts it."""
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        issued = authority.issue_cert("127.0.0.1")
        path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        yield path, trusting


def shipping(who: str, url: str, **settings: Any) -> tuple[Any, Callable[[], Coroutine[Any, Any, Any]]]:
    """Make a client, ours or of the library named, and its shipping update; the other libraries stay out."""
    if who == "ours":
        from wegetfinancing import AsyncClient  # noqa: PLC0415 - each process needs one of the three
        from wegetfinancing.testing import credentials, shipping_event  # noqa: PLC0415 - for the same reason

        ours = AsyncClient(credentials(), base_url=url, **settings)
        event = shipping_event()
        return ours, lambda: ours.update_shipping(INV_ID, event)
    client = importlib.import_module(who).AsyncClient(**settings)
    wire = {"loan_id": INV_ID, "shipping_event": {"state": "dispatched"}}

    async def by_hand() -> Any:
        return (await client.post(f"{url}/merchant/1234/shipping", json=wire)).json()

    return client, by_hand


def with_compiled_files() -> dict[str, str]:
    """Return an environment that lets an interpreter use compiled files, as installed packages do."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def in_a_fresh_process(module: str, *arguments: str, timeout: float = 60) -> Any:
    """Run ``module`` alone and give the JSON it prints; ``None`` if it does not end in time."""
    command = [sys.executable, "-m", module, *arguments]
    run = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    try:
        done = run(command, timeout=timeout, env=with_compiled_files())
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout)
