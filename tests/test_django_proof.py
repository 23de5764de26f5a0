"""The short form of ``nox -s django_shop_proof``: the same promises, with fewer checkouts and one kill."""

from pathlib import Path

import pytest

from django_proof import main


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="parents of processes are read from /proc")
@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_the_django_shop_keeps_its_promises_under_kills(server: str) -> None:
    short = ["--checkouts", "30", "--kills", "1", "--workers", "2", "--seconds", "1", "--end-leases"]
    assert main(["--server", server, *short]) == 0
