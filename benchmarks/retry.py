"""What the retry link adds to a call that succeeds at once."""

import statistics
from typing import Any

import stamina
import tenacity

from wegetfinancing import Retry
from wegetfinancing.http import Request, Response

from .harness import Row, interleaved


async def measure() -> list[Row]:
    request = Request(operation="update_shipping", method="POST", url="https://x.example", repeatable=True)
    answer = Response(200)

    async def succeed(_: Request) -> Response:
        return answer

    link = Retry()
    tenacious = tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)(succeed)
    steady = stamina.retry(on=OSError, attempts=3)(succeed)
    subjects: dict[str, Any] = {
        "bare": lambda: succeed(request),
        "Retry": lambda: link(request, succeed),
        "tenacity": lambda: tenacious(request),
        "stamina": lambda: steady(request),
    }
    took = await interleaved(subjects, calls=500)
    rows = []
    for name in ("Retry", "tenacity", "stamina"):
        added = [each - bare for each, bare in zip(took[name], took["bare"], strict=True)]
        low, middle, high = statistics.quantiles(added, n=4)
        rows.append(
            Row(
                what=f"`{name}` around a call that succeeds, added µs",
                against="the call alone",
                ratio=middle,
                spread=(high - low) / 2,
                bound=1.0 if name == "Retry" else None,
                detail=f"{statistics.median(took['bare']):.2f} µs alone",
            )
        )
    return rows
