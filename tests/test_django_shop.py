"""The example shop in Django passes its own tests, run as a Django developer runs them."""

import os
import subprocess
import sys
from pathlib import Path

from wegetfinancing.testing import credentials

ROOT = Path(__file__).parent.parent


def test_the_django_shop_passes_its_own_tests(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SHOP_DATABASE": str(tmp_path / "shop.db"),
        "SHOP_LIGHTBOX_URL": "http://127.0.0.1:8200/libs/1.0/getfinancing.js",
        "SHOP_SECRET_KEY": "invented",
        "SHOP_URL": "http://127.0.0.1:8000",
        "WEGETFINANCING_MERCHANT_ID": credentials().merchant_id,
        "WEGETFINANCING_USERNAME": credentials().username,
        "WEGETFINANCING_PASSWORD": credentials().password,
    }
    command = [sys.executable, "-m", "django_shop.manage", "test", "django_shop"]
    run = subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT / "examples", env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Ran 0 tests" not in run.stderr
