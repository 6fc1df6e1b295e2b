"""A client that sends what it is told, in the pieces it is told, and prints what came back as it came.

Reads from its file a JSON list of pieces; a piece is text in Latin-1, or [text, count] for text that repeats. Each
piece is one write. With `--bytes` every byte is a write of its own; with `--go` the last one waits until something has
come back and that file is there; with `--others` so many further connections are made before the first.
"""

import argparse
import json
import os
import socket
import sys
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--host", default="127.0.0.1")
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--ca")
arguments.add_argument("--pieces", required=True)
arguments.add_argument("--bytes", action="store_true")
arguments.add_argument("--go")
arguments.add_argument("--limit", type=float, default=20)
arguments.add_argument("--others", type=int, default=0)
arguments = arguments.parse_args()

with open(arguments.pieces) as file:
    pieces = json.load(file)
context = None
if arguments.ca:
    import ssl

    context = ssl.create_default_context(cafile=arguments.ca)


def connected():
    connection = socket.create_connection((arguments.host, arguments.port), timeout=arguments.limit)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(connection, server_hostname=arguments.host) if context else connection


connection = connected()
others = [connected() for _ in range(arguments.others)]
try:
    for number, piece in enumerate(pieces):
        if arguments.go and number == len(pieces) - 1:
            sys.stdout.buffer.write(connection.recv(65536))
            sys.stdout.flush()
            while not os.path.exists(arguments.go):
                time.sleep(0.02)
        text, count = piece if isinstance(piece, list) else (piece, 1)
        data = text.encode("latin-1") * count
        if arguments.bytes:
            for byte in data:
                connection.sendall(bytes([byte]))
        else:
            connection.sendall(data)
    while True:
        data = connection.recv(65536)
        if not data:
            break
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
except TimeoutError:
    raise
except OSError as error:
    # Reset, or TLS that ends without saying so.
    print(f"\nended: {type(error).__name__}")
