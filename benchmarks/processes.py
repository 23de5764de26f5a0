"""Other processes of a measurement: the fast server, and fresh interpreters."""

import contextlib
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme


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


def in_a_fresh_process(module: str, *arguments: str, timeout: float = 60) -> Any:
    """Run ``module`` alone and give the JSON it prints; ``None`` if it does not end in time."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout)  # noqa: S603 - our own module
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout)
