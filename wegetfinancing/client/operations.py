"""The three operations of the merchants v1 API as one table of values, without any I/O.

An operation has a name and a path, says whether it may be repeated, and reads its answer. The client,
the emulator and the fakes use this table.
"""

import contextlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import attrs

from .._converter import to_wire
from .._json import to_json
from .._rules import REQUIRED, is_missing
from .._version import __version__
from ..errors import DecodingError, InvalidRequestError, Outcome
from ..http import Headers, Request, Response
from ..models import FinancingRequest, ShippingEvent
from .answers import api_error, read_created, read_json, read_receipt

_Answer = TypeVar("_Answer")

# Accept and User-Agent are sent as the official clients send them: without Accept, errors come as HTML or
# text (inferred). A compressed answer could be small on the wire and huge in memory.
_HEADERS: Final = Headers(
    {
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": f"wegetfinancing-python/{__version__}",
    }
)


@attrs.frozen(kw_only=True)
class Operation(Generic[_Answer]):
    """One operation of the API.

    Attributes:
        name: as in ``Request.operation`` and ``CallError.operation``.
        path: the rest of the path, after ``/merchant/<merchant_id>/``.
        repeatable: whether sending it twice has the same effect as sending it once. All three are POST,
            so the HTTP method does not tell.
        sandbox_only: whether it is missing in the live environment.
        decode: turns the decoded JSON of a 2xx answer into what the caller receives, or raises
            ``ValueError`` with a message that begins with a verb.

    """

    name: str
    path: str
    repeatable: bool
    sandbox_only: bool
    decode: Callable[[Any], _Answer]

    def request(self, base_url: str, merchant_id: str, body: bytes, deadline: float) -> Request:
        """Build the HTTP request, without its ``Authorization``."""
        return Request(
            operation=self.name,
            method="POST",
            url=f"{base_url}/merchant/{merchant_id}/{self.path}",
            headers=_HEADERS,
            body=body,
            repeatable=self.repeatable,
            deadline=deadline,
        )

    def read(self, response: Response) -> _Answer:
        """Read the answer.

        Raises:
            APIError: the status is not 2xx.
            DecodingError: the status is 2xx, but the body cannot be read.

        """
        if not response.is_success:
            raise api_error(self.name, response)
        problem = response.body_error
        if problem is None:
            try:
                return self.decode(read_json(response.body))
            except ValueError as error:
                problem = str(error)
        msg = f"HTTP {response.status}, but the answer {problem}"
        raise DecodingError(msg, status=response.status, body=response.body, operation=self.name)


CREATE_REQUEST: Final = Operation(
    name="create_request",
    path="requests",
    repeatable=False,  # a second one opens a second loan application
    sandbox_only=False,
    decode=read_created,
)
UPDATE_SHIPPING: Final = Operation(
    name="update_shipping",
    path="shipping",
    repeatable=True,
    sandbox_only=False,
    decode=read_receipt,
)
# Nothing is known about its body and answer, so both are passed on as they are.
CREATE_TEST_POSTBACK: Final = Operation[Any](
    name="create_test_postback",
    path="postbacks",
    repeatable=False,
    sandbox_only=True,
    decode=lambda answer: answer,
)
OPERATIONS: Final[Mapping[str, Operation[Any]]] = MappingProxyType(
    {each.name: each for each in (CREATE_REQUEST, UPDATE_SHIPPING, CREATE_TEST_POSTBACK)}
)


def create_request_body(request: FinancingRequest) -> bytes:
    """Write the body of ``create_request``.

    Raises:
        InvalidRequestError: the request has problems.
        TypeError: ``request`` is not a ``FinancingRequest``.

    """
    if not isinstance(request, FinancingRequest):
        msg = f"create_request requires a FinancingRequest, not {type(request).__name__}"
        raise TypeError(msg)
    if problems := request.problems():
        raise invalid_request(CREATE_REQUEST, problems)
    return to_json(to_wire(request))


def update_shipping_body(inv_id: str, event: ShippingEvent) -> bytes:
    """Write the body of ``update_shipping``.

    Raises:
        InvalidRequestError: the id is missing or invalid, or the event has problems.
        TypeError: ``event`` is not a ``ShippingEvent``.

    """
    if not isinstance(event, ShippingEvent):
        msg = f"update_shipping requires a ShippingEvent, not {type(event).__name__}"
        raise TypeError(msg)
    problems = {f"shipping_event.{path}": text for path, text in event.problems().items()}
    if problem := _problem_of_inv_id(inv_id):
        problems = {"loan_id": problem, **problems}
    if problems:
        raise invalid_request(UPDATE_SHIPPING, problems)
    return to_json({"loan_id": inv_id, "shipping_event": to_wire(event)})


_INV_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")


def _problem_of_inv_id(inv_id: object) -> str | None:
    if inv_id is None or (isinstance(inv_id, str) and not inv_id):
        return f"{REQUIRED}: the inv_id that create_request returned"
    if not isinstance(inv_id, str) or not _INV_ID.fullmatch(inv_id):
        return "must be the inv_id that create_request returned"
    return None


def create_test_postback_body(payload: Mapping[str, Any]) -> bytes:
    """Write the body of ``create_test_postback``: the mapping as it is.

    Raises:
        InvalidRequestError: the mapping cannot be written as JSON.
        TypeError: ``payload`` is not a mapping.

    """
    if not isinstance(payload, Mapping):
        msg = f"create_test_postback requires a mapping, not {type(payload).__name__}"
        raise TypeError(msg)
    body = None
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        body = to_json(dict(payload))
    if body is None:
        raise invalid_request(
            CREATE_TEST_POSTBACK, {"payload": "holds values that JSON cannot express, such as NaN or Decimal"}
        )
    return body


def invalid_request(operation: Operation[Any], problems: Mapping[str, str]) -> InvalidRequestError:
    """Return the error for a request that is wrong before it is sent; ``problems``: path to text."""
    any_missing = any(is_missing(text) for text in problems.values())
    return InvalidRequestError(
        "; ".join(f"{path} {text}" for path, text in problems.items()),
        operation=operation.name,
        outcome=Outcome.NOT_SENT,
        error="missing_parameters" if any_missing else "invalid_parameters",
        subjects=tuple(problems),
        reasons=problems,
    )
