"""Makes calls, each on a connection of its own, and prints as JSON how often which end came: the first line of an
answer, `closed`, or the name of an error. A call that nobody answers is given up after a moment; it ends after so many of
those, or of others, as two arguments say, or once there is the file of the last one. With `tls:` before the port, over TLS."""

import collections
import json
import os
import socket
import ssl
import sys

*over, port = sys.argv[1].split(":")
context = ssl.create_default_context() if over else None
if context:
    # Whose server it is is not what is asked here.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
path, count = sys.argv[2], int(sys.argv[3])
patience = float(sys.argv[4])
stop = sys.argv[7] if len(sys.argv) > 7 else None
if stop:
    # They go on all the while: on a slow machine what happens in the middle of them is not to wait for them.
    os.nice(10)
unanswered_max, answered_max = (int(sys.argv[at]) if len(sys.argv) > at else count for at in (5, 6))
ends = collections.Counter()
for number in range(count):
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection:
            if context:
                connection = context.wrap_socket(connection, server_hostname="localhost")
            connection.settimeout(patience)
            trace = f"traceparent: 00-{os.getpid():016x}{number + 1:016x}-00f067aa0ba902b7-01"
            connection.sendall(f"GET {path}?{number} HTTP/1.1\r\nHost: localhost\r\n{trace}\r\n\r\n".encode())
            answer = connection.recv(4096)
            ends[answer.split(b"\r\n")[0].decode("latin-1") or "closed"] += 1
            connection.close()
    except OSError as error:
        ends[type(error).__name__] += 1
    print(number + 1, file=sys.stderr, flush=True)
    if stop and os.path.exists(stop):
        break
    unanswered = ends["TimeoutError"]
    if unanswered >= unanswered_max or ends.total() - unanswered >= answered_max:
        break
print(json.dumps(ends))
