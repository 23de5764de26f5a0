"""Everything a server or a proxy may do to a call, one short function each.

Each says what then became of the request on the server, and how a create and a shipping update may end.
"""

import contextlib
import enum
import functools
import gzip
import itertools
import json
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import attrs
import trustme

from support.canaries import CANARIES
from support.fault_server import Act, FaultServer, Peer, http_answer
from wegetfinancing.testing import INV_ID


class Processed(enum.Enum):
    """Whether the server carried the request out."""

    NEVER = "never"
    MAYBE = "maybe"
    YES = "yes"


DONE, NOT_SENT, REFUSED, UNKNOWN = "done", "not_sent", "refused", "unknown"


@attrs.frozen(kw_only=True)
class Fault:
    """One way to misbehave.

    Attributes:
        group: the kind it is of.
        name: what happens.
        act: what the server does on each connection.
        processed: what became of the request there.
        create: how a create may end: an outcome, or done.
        shipping: how a shipping update may end.
        ends: whether a call ends before its deadline.
        alone: it keeps the client so busy that calls beside it would be late.
        tls: the certificate the server shows, if any.
        expects_tls: the client calls https whether the server speaks TLS or not.
        proxy: the server is a proxy on the way to an address of its own.
        listens: whether anybody is there.
        accepts: whether a connection is made.
        large: the request is larger than what the sockets' buffers hold.
        warm_up: a connection was used before, and kept alive.
        ready: a connection was opened ahead, if the client does that.
        killed: that connection goes between its inspection and the write.

    """

    group: str
    name: str
    act: Act
    processed: Processed
    create: tuple[str, ...]
    shipping: tuple[str, ...]
    ends: bool = True
    alone: bool = False
    tls: str | None = None
    expects_tls: bool = False
    proxy: bool = False
    listens: bool = True
    accepts: bool = True
    large: bool = False
    warm_up: bool = False
    ready: bool = False
    killed: bool = False

    def server(self) -> FaultServer:
        return FaultServer(
            self.act,
            tls=None if self.tls is None or self.proxy else server_context(self.tls),
            listens=self.listens,
            accepts=self.accepts,
            receive_buffer=4096 if self.large else None,
        )


FAULTS: list[Fault] = []


def either(outcomes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (outcomes,) if isinstance(outcomes, str) else outcomes


def add(
    group: str,
    name: str,
    act: Act,
    processed: Processed,
    create: str | tuple[str, ...],
    shipping: str | tuple[str, ...] | None = None,
    **settings: Any,
) -> None:
    FAULTS.append(
        Fault(
            group=group,
            name=name,
            act=act,
            processed=processed,
            create=either(create),
            shipping=either(create if shipping is None else shipping),
            **settings,
        )
    )


def fault(
    group: str,
    processed: Processed,
    create: str | tuple[str, ...],
    shipping: str | tuple[str, ...] | None = None,
    **settings: Any,
) -> Callable[[Act], Act]:
    """Name a behaviour after its function."""

    def register(act: Act) -> Act:
        add(group, act.__name__.replace("_", " "), act, processed, create, shipping, **settings)
        return act

    return register


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def server_context(kind: str) -> ssl.SSLContext:
    """Make the server's side of TLS with a certificate of this kind."""
    issuer = trustme.CA() if kind == "self-signed" else authority()
    host = "other.example" if kind == "of another host" else "127.0.0.1"
    until = datetime(2020, 1, 1, tzinfo=UTC) if kind == "expired" else None
    since = datetime(2019, 1, 1, tzinfo=UTC) if kind == "expired" else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert(host, not_before=since, not_after=until).configure_cert(context)
    return context


@functools.cache
def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


# What answers both operations.
GOOD_ANSWER = {
    "inv_id": INV_ID,
    "href": "https://emulator.invalid/lc/1",
    "amount": "499.00",
    "loan": INV_ID,
    "type": "done",
}
GOOD = json.dumps(GOOD_ANSWER).encode()


def answering(answer: bytes) -> Act:
    """Read each request and answer it with these bytes, then close."""

    def act(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)

    return act


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    length = f"Content-Length: {len(body)}"
    head = [f"HTTP/1.1 {status}", *headers, length, "Connection: close", "", ""]
    return "\r\n".join(head).encode("latin-1") + body


NEVER, MAYBE, YES = Processed

# Without any fault, to compare with


@fault("none", YES, DONE)
def answers_well(peer: Peer) -> None:
    while True:
        peer.read_request()
        peer.send(http_answer(GOOD))


# No connection

CONNECTION = "connection"


def nothing(peer: Peer) -> None:
    pass


add(CONNECTION, "nobody listens", nothing, NEVER, NOT_SENT, listens=False)
add(CONNECTION, "connecting hangs", nothing, NEVER, NOT_SENT, accepts=False, ends=False)

# An RST may reach the client before it has noticed that it is connected.
LOST_AT_ONCE = (NOT_SENT, UNKNOWN)


@fault(CONNECTION, NEVER, LOST_AT_ONCE)
def resets_before_reading(peer: Peer) -> None:
    peer.reset()


@fault(CONNECTION, NEVER, UNKNOWN)
def closes_before_reading(peer: Peer) -> None:
    peer.end()


# Lost while the request is on its way

REQUEST = "request"


@fault(REQUEST, NEVER, UNKNOWN, ends=False)
def reads_nothing(peer: Peer) -> None:
    peer.silence()


@fault(REQUEST, NEVER, UNKNOWN)
def resets_in_the_middle_of_the_head(peer: Peer) -> None:
    peer.read(20)
    peer.reset()


@fault(REQUEST, NEVER, UNKNOWN)
def closes_in_the_middle_of_the_head(peer: Peer) -> None:
    peer.read(20)
    peer.sock.shutdown(socket.SHUT_WR)


@fault(REQUEST, NEVER, UNKNOWN, ends=False)
def stops_reading_in_the_middle_of_the_head(peer: Peer) -> None:
    peer.read(20)
    peer.silence()


@fault(REQUEST, NEVER, UNKNOWN, large=True)
def resets_in_the_middle_of_the_body(peer: Peer) -> None:
    peer.read(100_000)
    peer.reset()


@fault(REQUEST, NEVER, UNKNOWN, large=True, ends=False)
def stops_reading_in_the_middle_of_the_body(peer: Peer) -> None:
    peer.read(100_000)
    peer.silence()


@fault(REQUEST, NEVER, REFUSED, large=True)
def refuses_in_the_middle_of_the_body(peer: Peer) -> None:
    peer.read(100_000)
    peer.send(http("413 Too Large"))


# Lost after it was read

REPLY = "reply"


@fault(REPLY, YES, UNKNOWN)
def closes_after_reading(peer: Peer) -> None:
    peer.read_request()


@fault(REPLY, YES, UNKNOWN)
def resets_after_reading(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


@fault(REPLY, YES, UNKNOWN, ends=False)
def reads_and_never_replies(peer: Peer) -> None:
    peer.read_request()
    peer.silence()


@fault(REPLY, YES, UNKNOWN, ends=False)
def interim_answers_and_then_silence(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    peer.silence()


STATUS_LINE = b"HTTP/1.1 20"
HALF_A_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: app"
HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HALVES = {
    "half a status line": STATUS_LINE,
    "half a head": HALF_A_HEAD,
    "a head": HEAD,
    "half a body": HEAD + GOOD[:20],
    "half a chunk": CHUNKED + b"%x\r\n" % len(GOOD) + GOOD[:20],
}


def then_silence(part: bytes, peer: Peer) -> None:
    peer.read_request()
    peer.send(part)
    peer.silence()


def then_end(part: bytes, peer: Peer) -> None:
    peer.read_request()
    peer.send(part)


def then_reset(part: bytes, peer: Peer) -> None:
    peer.read_request()
    peer.send(part)
    peer.reset()


for named, part in HALVES.items():
    add(REPLY, f"{named}, then silence", partial(then_silence, part), YES, UNKNOWN, ends=False)
    add(REPLY, f"{named}, then FIN", partial(then_end, part), YES, UNKNOWN)
    add(REPLY, f"{named}, then RST", partial(then_reset, part), YES, UNKNOWN)


# Slow and endless replies

PACE = "pace"


@fault(PACE, YES, DONE)
def a_good_reply_byte_by_byte(peer: Peer) -> None:
    peer.read_request()
    peer.drip(HEAD + GOOD, every=0.001)


@fault(PACE, YES, UNKNOWN, ends=False)
def a_head_that_drips_past_the_deadline(peer: Peer) -> None:
    peer.read_request()
    peer.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)


@fault(PACE, YES, UNKNOWN, ends=False)
def a_body_that_drips_past_the_deadline(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    peer.drip(b" " * 10_000)


def for_ever(beginning: bytes, again: bytes, peer: Peer) -> None:
    peer.read_request()
    peer.send(beginning)
    while not peer.server.over.is_set():
        peer.send(again)


def endless(name: str, beginning: bytes, again: bytes, **settings: Any) -> None:
    add(PACE, name, partial(for_ever, beginning, again), YES, UNKNOWN, **settings)


endless("one endless header", b"HTTP/1.1 200 OK\r\nX-Endless: ", b"x" * 4096)
endless("endless headers", b"HTTP/1.1 200 OK\r\n", b"X-Again: and again\r\n" * 100)
endless("an endless status line", b"HTTP/1.1 200 ", b"OK " * 1000)
endless("an endless body", b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536)
endless("an endless body in chunks", CHUNKED, (b"1000\r\n" + b" " * 4096 + b"\r\n") * 16)
endless("an endless body in chunks of a byte", CHUNKED, b"1\r\n \r\n" * 10_000, alone=True, ends=False)
endless("an endless chunk extension", CHUNKED + b"1;", b"x" * 4096)
endless("endless trailers", CHUNKED + b"0\r\n", b"X-Trailer: again\r\n" * 100)
endless("a flood of 1xx", b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 2000, alone=True, ends=False)

# Replies that are not HTTP

SYNTAX = "syntax"


def says(group: str, name: str, answer: bytes, outcome: str = UNKNOWN, **settings: Any) -> None:
    add(group, name, answering(answer), YES, outcome, **settings)


says(SYNTAX, "garbage", bytes(range(256)) + b"\r\n\r\n")
says(SYNTAX, "zero bytes", bytes(1000))
says(SYNTAX, "another protocol", b"220 smtp.example ready\r\n")
says(SYNTAX, "a TLS alert", b"\x15\x03\x03\x00\x02\x02\x28")
says(SYNTAX, "HTTP/0.9", GOOD)
says(SYNTAX, "HTTP/2 frames", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18))
says(SYNTAX, "HTTP/3.7", b"HTTP/3.7 200 OK\r\n\r\n" + GOOD, DONE)
says(SYNTAX, "a status of letters", b"HTTP/1.1 abc OK\r\n\r\n")
says(SYNTAX, "a status of two digits", b"HTTP/1.1 20 OK\r\n\r\n")
says(SYNTAX, "a status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n")
says(SYNTAX, "status 000", b"HTTP/1.1 000 No\r\n\r\n")
says(SYNTAX, "a header without a name", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n" + GOOD)
says(SYNTAX, "a header without a colon", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n" + GOOD)
says(SYNTAX, "a zero byte in a header", b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n" + GOOD)
says(SYNTAX, "an unknown transfer encoding", http("200 OK", GOOD, "Transfer-Encoding: gzip"))
says(SYNTAX, "the request sent back", b"POST /merchant/1234/requests HTTP/1.1\r\n\r\n")

# Lengths

LENGTH = "length"


def of_length(name: str, lengths: list[str], outcome: str = UNKNOWN, body: bytes = GOOD) -> None:
    head = "".join(f"Content-Length: {each}\r\n" for each in lengths)
    says(LENGTH, name, f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body, outcome)


of_length("no length", [], DONE)
of_length("the length twice, the same", [str(len(GOOD))] * 2, DONE)
of_length("the length twice, different", [str(len(GOOD)), "5"])
of_length("a length in a list, different", [f"{len(GOOD)}, 5"])
of_length("a length too small", ["5"])
of_length("a length too large", [str(len(GOOD) + 1)])
of_length("a length beyond all memory", [str(10**18)])
of_length("a length of a thousand digits", ["9" * 1000])
of_length("a negative length", ["-1"])
of_length("a length of letters", ["many"])
of_length("a length with a plus", [f"+{len(GOOD)}"])
of_length("a length in hexadecimal", [hex(len(GOOD))])
of_length("a length of zero", ["0"])
says(LENGTH, "a length beside chunks", http("200 OK", b"5\r\nab", "Transfer-Encoding: chunked"))


def chunks(name: str, body: bytes, outcome: str = UNKNOWN) -> None:
    says(LENGTH, name, CHUNKED + body, outcome)


SIZE = b"%x" % len(GOOD)
chunks("good chunks", SIZE + b"\r\n" + GOOD + b"\r\n0\r\n\r\n", DONE)
chunks("a chunk size of letters", b"zz\r\n" + GOOD)
chunks("a negative chunk size", b"-5\r\n" + GOOD)
chunks("a chunk size beyond all memory", b"f" * 15 + b"\r\n" + GOOD)
chunks("a chunk size of a thousand digits", b"f" * 1000 + b"\r\n" + GOOD)
chunks("a chunk longer than it says", b"5\r\n" + GOOD + b"\r\n0\r\n\r\n")
chunks("no last chunk", SIZE + b"\r\n" + GOOD + b"\r\n")
chunks("an unfinished last chunk", SIZE + b"\r\n" + GOOD + b"\r\n0\r\n")

# Two replies, and connections that were used before

REUSE = "reuse"
FORGED = http_answer(GOOD.replace(INV_ID.encode(), b"forged"))


@fault(REUSE, YES, DONE, warm_up=True)
def a_forged_second_reply_behind_the_first(peer: Peer) -> None:
    peer.read_request()
    peer.send(http_answer(GOOD) + FORGED)
    answers_well(peer)


@fault(REUSE, YES, DONE)
def a_good_reply_and_a_forged_one(peer: Peer) -> None:
    peer.read_request()
    peer.send(http_answer(GOOD) + FORGED)


def used_before(name: str, then: Act, shipping: tuple[str, ...], *, ends: bool = True) -> None:
    """Answer well once on the first connection, and always on any other."""

    def act(peer: Peer) -> None:
        if peer.number:
            answers_well(peer)
        peer.read_request()
        peer.send(http_answer(GOOD))
        then(peer)

    # A create has a connection of its own; a shipping update may be repeated on another.
    add(REUSE, f"a kept-alive connection that {name}", act, YES, DONE, shipping, warm_up=True, ends=ends)


def says_408(peer: Peer) -> None:
    peer.send(http("408 Request Timeout"))


used_before("was closed", nothing, (DONE,))
used_before("was reset", Peer.reset, (DONE,))
used_before("timed out with 408", says_408, (DONE,))
used_before("is closed after the next request", closes_after_reading, (DONE,))
used_before("is reset after the next request", resets_after_reading, (DONE,))
# Of a ready client no connection is kept alive.
used_before("went silent", Peer.silence, (DONE, UNKNOWN), ends=False)

# Connections that were opened ahead of a create; an update uses none

READY = "opened ahead"


def opened_ahead(
    name: str, then: Act, create: str | tuple[str, ...] = DONE, *, killed: bool = False, **settings: Any
) -> None:
    """Do something to the connection that was opened ahead, and answer well on any other."""

    def act(peer: Peer) -> None:
        if peer.server.ahead.is_set():
            answers_well(peer)
        if not killed:
            then(peer)
        peer.server.ahead.set()
        if killed:
            peer.wait_for_the_write()
            then(peer)
            peer.server.killed.set()
        answers_well(peer)

    add(READY, name, act, YES, create, DONE, ready=True, killed=killed, **settings)


def closes(peer: Peer) -> None:
    peer.sock.close()


def half_closes(peer: Peer) -> None:
    socket.socket.shutdown(peer.sock, socket.SHUT_WR)


def sends(data: bytes, peer: Peer) -> None:
    peer.send(data)


def says_goodbye(peer: Peer) -> None:
    """Send close_notify and leave TCP open."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    peer.sock.settimeout(0)
    with contextlib.suppress(OSError):
        peer.sock.unwrap()
    peer.sock.settimeout(30)


def goes_silent(peer: Peer) -> None:
    peer.server.ahead.set()
    peer.silence()


# A ready client opens none ahead.
ONCE_SENT = (DONE, UNKNOWN)
for suffix, tls in (("", None), (", TLS", "good")):
    opened_ahead(f"is good{suffix}", nothing, tls=tls)
    opened_ahead(f"was closed{suffix}", closes, tls=tls)
    opened_ahead(f"was reset{suffix}", Peer.reset, tls=tls)
    opened_ahead(f"was half-closed{suffix}", half_closes, tls=tls)
    opened_ahead(f"has a forged answer on it{suffix}", partial(sends, FORGED), tls=tls)
    opened_ahead(f"has a 408 on it{suffix}", says_408, tls=tls)
    opened_ahead(f"has a byte on it{suffix}", partial(sends, b"H"), tls=tls)
    opened_ahead(f"went silent{suffix}", goes_silent, ONCE_SENT, ends=False, tls=tls)
    opened_ahead(f"is closed just before the write{suffix}", closes, ONCE_SENT, killed=True, tls=tls)
    opened_ahead(f"is reset just before the write{suffix}", Peer.reset, ONCE_SENT, killed=True, tls=tls)
opened_ahead("was closed by TLS alone", says_goodbye, tls="good")
opened_ahead(
    "has a TLS alert on it", lambda peer: peer.send_below_tls(b"\x15\x03\x03\x00\x02\x02\x28"), tls="good"
)

# Statuses: a server that refuses has carried nothing out, whatever it sends along

STATUS = "status"
HTML = b"<!DOCTYPE html><title>Error</title><h1>Something went wrong</h1>"
ERROR = json.dumps({"type": "error", "error": "generic", "message": "no"}).encode()
BODIES = {"JSON": ERROR, "HTML": HTML, "text": b"upstream error", "nothing": b"", "not UTF-8": b"\xff\xfe{"}
REFUSALS = (400, 401, 403, 404, 405, 406, 409, 413, 421, 422, 425, 429, 451)
UNCLEAR = (408, 500, 501, 502, 503, 504, 520, 524, 530, 599)

for status in (*REFUSALS, *UNCLEAR):
    refused = status in REFUSALS
    for kind, body in BODIES.items() if status in (400, 502) else [("HTML", HTML)]:
        act = answering(http(f"{status} No", body))
        if refused:
            add(STATUS, f"{status} with {kind}", act, NEVER, REFUSED)
        else:
            add(STATUS, f"{status} with {kind}", act, MAYBE, UNKNOWN)
for status in (201, 202, 203, 206, 299):
    says(STATUS, f"{status} with a good body", http(f"{status} Odd", GOOD), DONE)
for status in (204, 205, 207):
    says(STATUS, f"{status} with nothing", http(f"{status} Odd"))
for status in (600, 700, 999):
    says(STATUS, f"{status} with a good body", http(f"{status} Odd", GOOD))
says(
    STATUS, "101 Switching Protocols", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
)


def repeating(status: str, peer: Peer) -> None:
    """Put everything that was sent into the members that may hold it."""
    request = peer.read_request().decode("latin-1")
    echo = {"type": "error", "reasons": {"email": CANARIES["reasons"]}, "debug": request, "message": request}
    peer.send(http(status, json.dumps(echo).encode()))


add(STATUS, "400 that repeats the request", partial(repeating, "400 Bad Request"), NEVER, REFUSED)
add(STATUS, "500 that repeats the request", partial(repeating, "500 Error"), MAYBE, UNKNOWN)
add(STATUS, "200 that repeats the request", partial(repeating, "200 OK"), YES, UNKNOWN)

# Redirects: none is followed. Servers redirect after creating, but not with 307 and 308.

REDIRECT = "redirect"
LOCATIONS = {
    "elsewhere": "Location: https://127.0.0.1:1/x",
    "to itself": "Location: /merchant/1234/requests",
    "to no URL": "Location: http://[",
    "to a strange port": "Location: http://127.0.0.1:99999999/",
    "to javascript": "Location: javascript:alert(1)",
    "to raw bytes": "Location: \xff\xfe://\x7f",
    "to 60,000 characters": "Location: /" + "x" * 60_000,
    "nowhere": "X-Location: none",
}
for status, (where, location) in itertools.chain(
    itertools.product([302], LOCATIONS.items()),
    itertools.product([300, 301, 303, 304], [("elsewhere", LOCATIONS["elsewhere"])]),
):
    says(REDIRECT, f"{status} {where}", http(f"{status} Found", b"", location))
for status in (307, 308):
    act = answering(http(f"{status} Moved", b"", LOCATIONS["elsewhere"]))
    add(REDIRECT, f"{status} elsewhere", act, NEVER, REFUSED)

# Retry-After

RETRY_AFTER = "Retry-After"
NOW = datetime.now(UTC)
RETRY_AFTERS = {
    "0": "0",
    "an hour": "3600",
    "ten digits": "9999999999",
    "a thousand digits": "9" * 1000,
    "negative": "-1",
    "a fraction": "1.5",
    "another digit": "\xb2",
    "a word": "soon",
    "empty": "",
    "a date ahead": format_datetime(NOW + timedelta(hours=1), usegmt=True),
    "a date gone by": format_datetime(NOW - timedelta(hours=1), usegmt=True),
    "a date that is none": "Tue, 99 Nov 2023 22:13:50 GMT",
    "a date in the year 99999": "Fri, 31 Dec 99999 23:59:59 GMT",
    "twice": "0\r\nRetry-After: 3600",
}
for kind, value in RETRY_AFTERS.items():
    add(RETRY_AFTER, f"{kind}, 503", answering(http("503 No", b"", f"Retry-After: {value}")), MAYBE, UNKNOWN)
add(RETRY_AFTER, "an hour, 429", answering(http("429 No", b"", "Retry-After: 3600")), NEVER, REFUSED)

# Bodies of a success that cannot be read: it was carried out

BODY = "body"
MEBIBYTE = 1024 * 1024
WIDE = MEBIBYTE - 100


def padded(member: bytes) -> bytes:
    """Repeat a JSON value up to the bound, inside a good answer."""
    return GOOD[:-1] + b', "more": [' + b",".join([member] * (WIDE // (len(member) + 1) - 100)) + b"]}"


JSONS = {
    "a list": b"[1]",
    "a text": b'"OK"',
    "null": b"null",
    "a number": b"5",
    "empty": b"",
    "blank": b"  \r\n",
    "HTML": HTML,
    "JSON cut short": GOOD[:-5],
    "JSON and more": GOOD + b"{}",
    "an empty object": b"{}",
    "members of other types": b'{"inv_id": 5, "href": [], "loan": {}}',
    "blank members": b'{"inv_id": " ", "href": "", "loan": " "}',
    "nulls": b'{"inv_id": null, "href": null, "loan": null}',
    "a name twice": GOOD[:-1] + b', "inv_id": "forged", "loan": "forged"}',
    "NaN": GOOD[:-1] + b', "x": NaN}',
    "Infinity": GOOD[:-1] + b', "x": -Infinity}',
    "a number beyond all floats": GOOD[:-1] + b', "x": 1e999}',
    "a number of 10,000 digits": GOOD[:-1] + b', "x": ' + b"9" * 10_000 + b"}",
    "not UTF-8": GOOD[:-1] + b', "x": "\xff"}',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "deep": b"[" * 100_000,
    "deep and closed": GOOD[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000,
    "a mebibyte and a byte": b" " * (MEBIBYTE + 1 - len(GOOD)) + GOOD,
    "a mebibyte of empty objects": padded(b"{}"),
    "a mebibyte of empty lists": padded(b"[]"),
    "a mebibyte of numbers": padded(b"999"),
    "a mebibyte of names": b"{" + b",".join(b'"%x":1.5' % n for n in range(90_000)) + b"}",
}
for kind, body in JSONS.items():
    says(BODY, kind, http("200 OK", body))
says(BODY, "a mebibyte of blanks around a good answer", http("200 OK", GOOD.ljust(MEBIBYTE)), DONE)
add(BODY, "400 with a mebibyte of empty objects", answering(http("400 No", padded(b"{}"))), NEVER, REFUSED)

BOMB = gzip.compress(gzip.compress(bytes(50 * MEBIBYTE)))
says(BODY, "gzip", http("200 OK", gzip.compress(GOOD), "Content-Encoding: gzip"))
says(BODY, "a gzip bomb", http("200 OK", BOMB, "Content-Encoding: gzip, gzip"))
says(BODY, "an unknown encoding", http("200 OK", GOOD, "Content-Encoding: br"))
says(BODY, "a gzip bomb that says it is none", http("200 OK", BOMB))

# TLS

TLS = "TLS"
for kind in ("self-signed", "expired", "of another host"):
    add(TLS, f"a certificate {kind}", answers_well, NEVER, NOT_SENT, tls=kind)
add(TLS, "a good certificate", answers_well, YES, DONE, tls="good")
add(TLS, "a good certificate, then closes after reading", closes_after_reading, YES, UNKNOWN, tls="good")
add(TLS, "a good certificate, then resets after reading", resets_after_reading, YES, UNKNOWN, tls="good")
add(TLS, "a good certificate, then silence", reads_and_never_replies, YES, UNKNOWN, tls="good", ends=False)


@fault(TLS, NEVER, NOT_SENT, expects_tls=True)
def plain_text_in_place_of_tls(peer: Peer) -> None:
    peer.receive()
    peer.send(http("400 Bad Request", HTML))


@fault(TLS, NEVER, NOT_SENT, expects_tls=True, ends=False)
def a_handshake_that_stalls(peer: Peer) -> None:
    peer.receive()
    peer.silence()


@fault(TLS, NEVER, NOT_SENT, expects_tls=True, ends=False)
def a_handshake_that_drips(peer: Peer) -> None:
    peer.receive()
    peer.drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(1000))


@fault(TLS, NEVER, NOT_SENT, expects_tls=True)
def a_handshake_that_is_closed(peer: Peer) -> None:
    peer.receive()


@fault(TLS, NEVER, NOT_SENT, expects_tls=True)
def a_handshake_that_is_reset(peer: Peer) -> None:
    peer.receive()
    peer.reset()


@fault(TLS, NEVER, NOT_SENT, expects_tls=True)
def a_handshake_of_garbage(peer: Peer) -> None:
    peer.receive()
    peer.send(b"\x16\x03\x03\x00\x05hello")


@fault(TLS, YES, UNKNOWN, tls="good")
def a_broken_record_in_place_of_the_reply(peer: Peer) -> None:
    peer.read_request()
    peer.send_below_tls(b"\x17\x03\x03\x00\x20" + b"broken" * 10)


@fault(TLS, YES, UNKNOWN, tls="good")
def a_broken_record_in_the_middle_of_the_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(HEAD + GOOD[:20])
    peer.send_below_tls(b"\x17\x03\x03\x00\x20" + b"broken" * 10)


# Proxies: what fails before the tunnel stands was sent nothing

PROXY = "proxy"
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


def proxy(name: str, *answers: bytes, then: Act = nothing, **settings: Any) -> None:
    def act(peer: Peer) -> None:
        peer.read_tunnel()
        for each in answers:
            peer.send(each)
        then(peer)

    add(PROXY, name, act, NEVER, NOT_SENT, proxy=True, **settings)


add(PROXY, "nobody listens", nothing, NEVER, NOT_SENT, proxy=True, listens=False)
for status in (400, 403, 407, 502, 503, 504):
    proxy(f"refuses with {status}", http(f"{status} No", HTML))
proxy("closes")
proxy("resets", then=Peer.reset)
proxy("stalls", then=Peer.silence, ends=False)
proxy("redirects", http("302 Found", b"", LOCATIONS["elsewhere"]))
proxy("talks garbage", bytes(range(256)) + b"\r\n\r\n")
proxy("says half a status line and closes", STATUS_LINE)
proxy("says half a status line and stalls", STATUS_LINE, then=Peer.silence, ends=False)
proxy("connects, then closes", TUNNEL)
proxy("connects, then stalls", TUNNEL, then=Peer.silence, ends=False)
proxy("connects, then talks garbage", TUNNEL, b"garbage" * 10)


def through(then: Act, peer: Peer) -> None:
    peer.read_tunnel()
    peer.send(TUNNEL)
    peer.start_tls(server_context("good"))
    then(peer)


add(PROXY, "connects well", partial(through, answers_well), YES, DONE, proxy=True)
add(
    PROXY,
    "connects, then closes after reading",
    partial(through, closes_after_reading),
    YES,
    UNKNOWN,
    proxy=True,
)
add(
    PROXY,
    "connects, then silence after reading",
    partial(through, reads_and_never_replies),
    YES,
    UNKNOWN,
    proxy=True,
    ends=False,
)
