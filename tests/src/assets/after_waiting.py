"""A client in TLS that reads before there is anything, and then sends what it is told: the library remembers that it
waits for a read when the write is refused. Prints where and how it ended, `send` or `receive` and the error's name.
"""

import argparse
import socket
import ssl

arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--ca", required=True)
arguments.add_argument("--limit", type=float, required=True)
arguments.add_argument("--head", required=True)
arguments = arguments.parse_args()

with open(arguments.head, "rb") as file:
    head = file.read()
context = ssl.create_default_context(cafile=arguments.ca)
connection = socket.create_connection(("127.0.0.1", arguments.port), timeout=arguments.limit)
connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
connection.settimeout(0)
try:
    connection.recv(1)
except ssl.SSLWantReadError:
    pass
else:
    raise SystemExit("the server has spoken first")
connection.settimeout(arguments.limit)
step = "send"
try:
    connection.sendall(head)
    step = "receive"
    data = connection.recv(65536)
    print(step, "bytes" if data else "end", len(data))
except OSError as error:
    print(step, type(error).__name__)
