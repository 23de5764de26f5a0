"""What the retry link adds to a call that succeeds at once."""

from typing import Any

import stamina
import tenacity

from wegetfinancing import Retry
from wegetfinancing.http import Request, Response

from .harness import Row, compared, interleaved


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
    added = {
        name: [each - bare for each, bare in zip(took[name], took["bare"], strict=True)]
        for name in ("Retry", "stamina", "tenacity")
    }
    what = "`Retry` around a call that succeeds at once, added CPU"
    return [
        compared(what, added["Retry"], f"what `{name}` adds", added[name], bound=bound, digits=2)
        for name, bound in (("stamina", 0.1), ("tenacity", None))
    ]
