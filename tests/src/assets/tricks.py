"""Every trick of a hostile peer, one connection or more each, against a server that denies GET /fhir/{type}/$export.

Prints one line of JSON for each: which calls the server must never have got whole, and which it must have got; and
whether a call that is honest comes through afterwards, because peers are not banned.
"""

import argparse
import json
import random
import sys
import time

from peer import FIN, RST, SYN, URG, Connection, Net

arguments = argparse.ArgumentParser()
arguments.add_argument("--interface", required=True)
arguments.add_argument("--mac", required=True)
arguments.add_argument("--own", nargs=2, required=True)
arguments.add_argument("--server", nargs=2, required=True)
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--defer", type=int, required=True)
arguments.add_argument("--fastopen", type=int, required=True)
arguments.add_argument("--once", type=int, required=True)
arguments.add_argument("--crowded", type=int, required=True)
arguments.add_argument("--only", nargs="*", default=[])
arguments.add_argument("--rounds", type=int, default=1)
arguments = arguments.parse_args()
net = Net(arguments.interface, arguments.mac, arguments.own, arguments.server)
PORT = arguments.port
BACKLOG = 0.17  # the gate drops repetitions for so long
EXPORT = "/fhir/Patient/$export"


def identity():
    return f"{random.randrange(1, 1 << 128):032x}"


class Calls:
    def __init__(self):
        self.denied, self.allowed, self.silent, self.open = [], [], [], []
        # Denied and told, and there was never a connection; and what is no head at all, and never to be told.
        self.early, self.never = [], []

    def head(self, target, method="GET", lines=""):
        name = identity()
        (self.denied if target == EXPORT else self.allowed).append(name)
        text = f"{method} {target} HTTP/1.1\r\nHost: h\r\n{lines}traceparent: 00-{name}-00f067aa0ba902b7-01\r\n\r\n"
        return text.encode()

    def bad(self, told=True, early=False):
        """`told`: as a call with this trace id; else the gate never had it whole either. `early`: there is no connection."""
        head = self.head(EXPORT)
        if not told:
            self.silent.append(self.denied[-1])
        if early:
            self.early.append(self.denied[-1])
        return head

    def inner(self):
        """Part of a body."""
        head = self.head(EXPORT)
        self.never.append(self.denied[-1])
        return self.forget(head)

    def good(self, lines="", method="GET"):
        return self.head("/fhir/Patient/1", method, lines)

    def connect(self, port=PORT, **how):
        last = {name: how.pop(name) for name in ("data", "last", "cookie") if name in how}
        connection = Connection(net, port, **how)
        self.open.append(connection)
        return connection.connect(**last)

    def forget(self, head):
        """Nobody says what becomes of it."""
        for names in (self.denied, self.allowed, self.silent):
            names[:] = [name for name in names if name.encode() not in head]
        return head


TRICKS = []


def trick(function):
    TRICKS.append(function)
    return function


@trick
def whole(calls):
    calls.connect().write(calls.bad())


@trick
def every_byte_a_segment(calls):
    head = calls.good()
    connection = calls.connect()
    connection.write(head, cuts=range(len(head)), limit=20)
    connection.wait(answers=1)
    head = calls.bad()
    calls.connect().write(head, cuts=range(len(head)), limit=20)


@trick
def pipelined(calls):
    connection = calls.connect()
    good = calls.good()
    connection.write(good)
    connection.wait(answers=1)
    connection.write(calls.bad(), len(good))


@trick
def pipelined_in_one_segment(calls):
    # The allowed one in front is lost, and told as collateral.
    calls.connect().write(calls.forget(calls.good()) + calls.bad())


@trick
def behind_chunks(calls):
    connection = calls.connect()
    text = calls.good("Transfer-Encoding: chunked\r\n", "POST") + b"5;a=b\r\nhello\r\n3\r\nGET\r\n0\r\nTrailer: x\r\n\r\n"
    connection.write(text, cuts=range(0, len(text), 7), limit=10)
    connection.wait(answers=1)
    connection.write(calls.bad(), len(text))


@trick
def a_request_line_in_a_body(calls):
    connection = calls.connect()
    inner = calls.inner()
    head = calls.good(f"Content-Length: {len(inner)}\r\n", "POST")
    connection.write(head)
    connection.write(inner, len(head))
    connection.wait(answers=1)
    text = len(head) + len(inner)
    connection.write(calls.good(), text)
    connection.wait(answers=2)


@trick
def out_of_sequence(calls):
    for head in (calls.good(), calls.bad()):
        connection = calls.connect()
        for _ in range(4):
            connection.send(head[40:], 40)
            connection.send(head[20:40], 20)
            connection.send(head[:20], 0)
            net.pump(0.25, lambda: connection.answers() or connection.fin)
        connection.write(head)
        connection.wait(answers=1)


@trick
def bad_checksums(calls):
    # Allowed bytes that the stack drops behind the gate, then others for their place.
    good, bad = calls.forget(calls.good()), calls.bad()
    connection = calls.connect()
    connection.send(good, bad=True)
    time.sleep(BACKLOG)
    connection.write(bad)
    # The same bytes again are no trick.
    connection = calls.connect()
    good = calls.good()
    connection.send(good, bad=True)
    time.sleep(BACKLOG)
    connection.write(good)
    connection.wait(answers=1)
    # Nor are they where they were cut otherwise.
    connection = calls.connect()
    good = calls.good("Content-Length: 3000\r\n", "POST") + b"b" * 3000
    for at in range(0, 1200, 400):
        connection.send(good[at : at + 400], at, bad=at == 0)
    time.sleep(BACKLOG)
    connection.write(good, cuts=range(0, 4000, 900), limit=10)
    connection.wait(answers=1)


def ahead_in_a_body(calls, **falls):
    """A head that the stack drops promises a body, which waits in the socket when another head comes in its place."""
    for first_part in (None, 9):
        bad = calls.bad(told=False)
        promise = b"POST /fhir/Patient HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
        filler = b"GET /fhir/Patient/7 HTTP/1.1\r\nHost: h\r\nX: "
        filler += b"x" * (len(promise) - len(filler) - 4) + b"\r\n\r\n"
        connection = calls.connect(stamps="stamp" in falls)
        connection.send(promise, **falls)
        connection.send(bad, len(promise))
        time.sleep(BACKLOG)
        cuts = [first_part] if first_part else []
        connection.write(filler, cuts=cuts, limit=1)
        connection.write(bad, len(filler), limit=1)
    # A body that ends elsewhere than the promised one.
    bad = calls.bad(told=False)
    promise = b"POST /fhir/Patient HTTP/1.1\r\nHost: h\r\nX: yyyyyyy\r\nContent-Length: 100000\r\n\r\n"
    other = b"POST /fhir/Patient HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    other = other % (len(promise) + 100 - len(other) - 0)
    connection = calls.connect(stamps="stamp" in falls)
    connection.send(promise, **falls)
    at = len(promise) + 100
    length = at - len(other)
    other = b"POST /fhir/Patient HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length
    at = len(other) + length
    connection.send(bad, at)
    time.sleep(BACKLOG)
    connection.write(other, limit=1)
    connection.write(b"b" * length, len(other), limit=1)
    connection.write(bad, at, limit=1)


@trick
def ahead_in_a_body_that_fell_to_its_checksum(calls):
    ahead_in_a_body(calls, bad=True)


@trick
def ahead_in_a_body_that_fell_to_its_time_stamp(calls):
    ahead_in_a_body(calls, stamp=1)


@trick
def another_protocol_that_fell(calls):
    for first in (b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        connection = calls.connect()
        connection.send(first, bad=True)
        time.sleep(BACKLOG)
        connection.write(calls.bad(told=False), limit=1.5)


@trick
def two_contents_joined(calls):
    # Neither is denied; the front of the one and the end of the other are.
    one = b"GET /fhir/Patient/$expo-- HTTP/1.1\r\nHost: h\r\n"
    bad = calls.bad(told=False)
    other = b"GET /none/Patient/xxxxxx" + bad[len("GET /fhir/Patient/$export") - 1 :]
    cut = len("GET /fhir/Patient/$expo")
    connection = calls.connect()
    connection.send(one[:cut])
    connection.send(one[cut:], cut, bad=True)
    time.sleep(BACKLOG)
    connection.write(bad[cut:], cut, limit=1)
    connection = calls.connect()
    connection.send(one[:cut], bad=True)
    connection.send(one[cut:], cut)
    time.sleep(BACKLOG)
    connection.write(bad[:cut], limit=0.5)
    connection.write(bad[cut:], cut, limit=1)


@trick
def overlapping_repetitions(calls):
    bad = calls.bad()
    for _ in range(2):
        connection = calls.connect()
        connection.send(b"GET /fhir/Pat", 0)
        connection.send(b"GET /fhir/Xat", 0)
        connection.send(b"Xatient/1", 10)
        time.sleep(BACKLOG)
        connection.send(bad[:40], 0)
        connection.send(bad[10:60], 10)
        connection.write(bad, limit=2)
        # What is joined here is another request, which is allowed.
        calls.forget(bad)
        bad = calls.forget(calls.bad())


@trick
def the_sequence_wraps(calls):
    for before in (1, 5, 20, 60):
        connection = calls.connect(isn=-before)
        good = calls.good()
        connection.write(good, cuts=(10, 30))
        connection.wait(answers=1)
        connection.write(calls.bad(), len(good), cuts=(7, 25))


@trick
def probes(calls):
    connection = calls.connect()
    good = calls.good()
    connection.write(good)
    connection.wait(answers=1)
    connection.send(b"X", len(good) - 1)  # keep-alive
    connection.send(position=len(good) - 1)
    connection.send(b"P", len(good) - 1, window=0)
    more = calls.good()
    connection.write(more, len(good))
    connection.wait(answers=2)
    connection.send(b"G", len(good + more) - 1)
    connection.write(calls.bad(), len(good + more))


@trick
def windows(calls):
    connection = calls.connect()
    bad = calls.bad()
    connection.send(bad, 2_000_000)  # beyond the window
    connection.send(calls.forget(calls.good()), 1_000_000_000)
    connection.send(bad, 0, ack=12345)
    connection.send(bad, 0, window=0)
    connection.write(bad)
    connection = calls.connect()
    good = calls.good()
    connection.send(b"x" * 900, 500_000)
    connection.write(good)
    connection.wait(answers=1)


@trick
def ends_with_data(calls):
    connection = calls.connect()
    bad = calls.bad()
    connection.send(bad, flags=16 | FIN)
    net.pump(0.4)
    connection.write(bad, limit=1)
    connection = calls.connect()
    connection.send(calls.bad(told=False), flags=16 | RST)
    connection = calls.connect()
    connection.send(calls.good(), flags=16 | FIN)
    connection.wait(answers=1)


@trick
def urgent_bytes(calls):
    bad = calls.bad(told=False)
    # The application does not get the urgent byte in its stream.
    text = bad[:9] + b"!" + bad[9:]
    connection = calls.connect()
    connection.send(text, flags=16 | URG, urgent=10)
    net.pump(0.3)
    connection.send(text[:10], flags=16 | URG, urgent=10)
    connection.write(text[10:], 10, limit=1)


@trick
def on_the_handshakes_last_segment(calls):
    calls.connect(last=calls.bad(told=False))
    net.pump(0.3)
    good = calls.good()
    connection = calls.connect(last=good)
    connection.write(good)
    connection.wait(answers=1)
    # Part of it there, the rest behind.
    bad = calls.bad()
    connection = calls.connect(last=bad[:30])
    net.pump(0.1)
    connection.write(bad, cuts=(30,))
    # One content there that falls, another in its place.
    bad = calls.bad(told=False)
    connection = Connection(net, PORT)
    calls.open.append(connection)
    connection.connect(wanted=None)
    connection.send(calls.forget(calls.good()), bad=True)
    net.pump(0.1)
    connection.write(bad, limit=1)


@trick
def more_before_the_handshakes_last_segment(calls):
    # What a network does that loses or delays that one, and the head's first segments: those behind it come before
    # there is a connection. Where the stream begins is known from the SYN alone.
    line = f"X-Long: {'a' * 4000}\r\n"
    cuts = range(1448, 4000, 1448)
    for first in ((1,), (2, 1), (0, 1), (1, 0), ()):
        for target in ("/fhir/Patient/1", EXPORT):
            text = calls.head(target, lines=line)
            parts = [text[at : at + 1448] for at in range(0, len(text), 1448)]
            connection = Connection(net, PORT)
            calls.open.append(connection)
            connection.connect(wanted=None)
            for part in first:
                connection.send(parts[part], part * 1448)
            time.sleep(BACKLOG)
            connection.write(text, cuts=cuts, limit=6)
            connection.wait(answers=1)
    # Denied by its first segment already, and the rest comes behind it: one denial.
    for first in ((0, 1), (1, 0)):
        text = calls.bad(early=True) + b"b" * 3000
        connection = Connection(net, PORT)
        calls.open.append(connection)
        connection.connect(wanted=None)
        for part in first:
            connection.send(text[part * 1448 : (part + 1) * 1448], part * 1448)
        time.sleep(BACKLOG)
        connection.write(text, cuts=cuts, limit=1)


@trick
def established_behind_a_denial(calls):
    # The server asks again for the segment that was dropped with the head, and is answered without payload: then there is
    # a connection, and it is dead, and told so.
    connection = Connection(net, PORT)
    calls.open.append(connection)
    connection.connect(wanted=None)
    bad = calls.bad()
    connection.send(bad)
    net.pump(0.3)
    connection.send()
    connection.write(bad)
    connection.wait()
    if b"HTTP/1.1 403" not in connection.got:
        raise RuntimeError(f"a denied client was not answered: {connection.got}")


def refused(calls, port, **how):
    """A SYN with a denied head is dropped: there is no connection, as long as it is repeated so."""
    connection = Connection(net, port)
    calls.open.append(connection)
    try:
        connection.connect(tries=3, **how)
    except RuntimeError:
        return
    raise RuntimeError("a denied head has made a connection")


@trick
def on_the_syn(calls):
    # Where no Fast Open is asked for the data is not taken, and comes again.
    bad = calls.bad()
    connection = calls.connect(data=bad, port=PORT)
    connection.write(bad)
    good = calls.good()
    connection = calls.connect(data=calls.forget(calls.good()), port=PORT)
    time.sleep(BACKLOG)
    connection.write(good)
    connection.wait(answers=1)


def fastopen_cookie(calls):
    connection = calls.connect(port=arguments.fastopen, cookie=b"")
    if not connection.cookie:
        raise RuntimeError("no cookie for TCP Fast Open")
    return connection.cookie


@trick
def fast_open(calls):
    cookie = fastopen_cookie(calls)
    refused(calls, arguments.fastopen, cookie=cookie, data=calls.bad(told=False))
    good = calls.good()
    connection = calls.connect(port=arguments.fastopen, cookie=cookie, data=good)
    connection.write(good)
    connection.wait(answers=1)
    connection.write(calls.bad(), len(good))


@trick
def fast_open_and_more_before_the_handshake_ends(calls):
    cookie = fastopen_cookie(calls)
    for cut in (1, 30):
        bad = calls.bad(told=False)
        connection = Connection(net, arguments.fastopen)
        calls.open.append(connection)
        connection.connect(data=bad[:cut], cookie=cookie, wanted=None)
        # It has answered, and is not established: nothing of ours has acknowledged that.
        connection.send(bad[cut:], cut, ack=connection.received_next - 1)
        connection.send(bad[cut:], cut)
        connection.write(bad, cuts=(cut,), limit=1.5)
    good = calls.good()
    connection = Connection(net, arguments.fastopen)
    calls.open.append(connection)
    connection.connect(data=good[:30], cookie=cookie, wanted=None)
    connection.write(good, cuts=(30,))
    connection.wait(answers=1)


@trick
def accepted_late(calls):
    connection = calls.connect(port=arguments.defer)
    # The listener waits for bytes, until a denial has waited for it.
    early, accepted_late.waits = accepted_late.waits, False
    connection.write(calls.bad(early=early), limit=1)
    connection = calls.connect(port=arguments.defer)
    connection.write(calls.good(), limit=6)
    connection.wait(answers=1)


accepted_late.waits = True


@trick
def the_listener_is_gone(calls):
    connection = calls.connect(port=arguments.once)
    good = calls.good()
    connection.write(good)
    connection.wait(answers=1)
    connection.write(calls.bad(), len(good))


@trick
def extension_headers(calls):
    for extension in ([60], [0], [60, 0], [43]):
        bad = calls.bad(told=False)
        connection = calls.connect(six=True)
        connection.send(bad, extension=extension)
        net.pump(0.3)
        connection.send(bad[:20], extension=extension)
        connection.write(bad[20:], 20, limit=0.7)
    connection = calls.connect(six=True)
    good = calls.good()
    connection.write(good)
    connection.wait(answers=1)
    connection.write(calls.bad(), len(good))


@trick
def fragments(calls):
    for six in (False, True):
        connection = calls.connect(six=six)
        good = calls.good()
        for _ in range(2):
            connection.send(good, fragments=48)
            net.pump(0.4, lambda: connection.answers() > 0)
        connection.wait(answers=1)
        bad = calls.bad(told=False)
        for _ in range(2):
            connection.send(bad, len(good), fragments=48)
            net.pump(0.3)


def crowd(count):
    """Connections that strangers begin, with something on each of their SYNs."""
    for number in range(count):
        stranger = Connection(net, arguments.crowded)
        stranger.own_port = 32_768 + number
        made = stranger.segment(stranger.isn, 0, SYN, b"GET /fhir/Patient/1 HTTP/1.1\r\n", options=b"\x02\x04\x05\xb4")
        stranger.put(made)
        net.connections.pop(net.next_port, None)
        if number % 50 == 0:
            net.pump(0)


@trick
def a_crowd_of_strangers(calls):
    # None of them makes the gate forget what came with a handshake's last segment.
    bad = calls.bad()
    connection = calls.connect(port=arguments.crowded, last=bad[:30])
    net.pump(0.1)
    crowd(20_000)
    connection.write(bad, cuts=(30,))


@trick
def behind_a_cookie(calls):
    # Too many have begun a connection: the server knows others by their cookies alone, and takes no segment but the first.
    crowd(600)
    for _ in range(3):
        inner = calls.inner()
        head = calls.good(f"X-Long: {'a' * 1000}\r\nContent-Length: {2896}\r\n", "POST")
        body = b"b" * (1448 - len(head) % 1448) + inner
        text = head + body + b"b" * (2896 - len(body))
        at = text.index(inner)
        connection = Connection(net, arguments.crowded)
        calls.open.append(connection)
        connection.connect(wanted=None)
        for _ in range(2):
            connection.send(text[at : at + 1448], at)
            net.pump(0.2)
        connection.write(text, cuts=range(1448, len(text), 1448))
        connection.wait(answers=1)
    # What may be the first is told when it comes again and again.
    bad = calls.bad(early=True)
    connection = Connection(net, arguments.crowded)
    calls.open.append(connection)
    connection.connect(wanted=None)
    connection.write(bad, limit=1.5)


@trick
def long_heads(calls):
    for size in (3_000, 12_000):
        line = f"X-Long: {'a' * size}\r\n"
        for target in ("/fhir/Patient/1", EXPORT):
            text = calls.head(target, lines=line)
            connection = calls.connect()
            connection.write(text, cuts=range(0, len(text), 1448), limit=12)
            connection.wait(answers=1)


def run(function):
    calls = Calls()
    error = ""
    began = time.monotonic()
    try:
        function(calls)
    except RuntimeError as failed:
        error = str(failed)
    net.pump(0.05)
    answers = sum(connection.answers() for connection in calls.open)
    for connection in calls.open:
        connection.close()
    after = Calls()
    honest = after.connect()
    honest.write(after.good())
    honest.wait(answers=1)
    honest.close()
    print(
        json.dumps(
            {
                "trick": function.__name__,
                "denied": calls.denied,
                "silent": calls.silent,
                "early": calls.early,
                "never": calls.never,
                "allowed": calls.allowed + after.allowed,
                "answers": answers + honest.answers(),
                "error": error,
                "seconds": round(time.monotonic() - began, 2),
            }
        ),
        flush=True,
    )


for _ in range(arguments.rounds):
    for function in TRICKS:
        if not arguments.only or function.__name__ in arguments.only:
            run(function)
sys.exit(0)
