"""Clients that leave something unread: each gets an answer that it does not read, sends a forbidden call on the same
connection, and closes it."""

import socket
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
for _ in range(count):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # The answer is there, and stays there.
        connection.recv(1, socket.MSG_PEEK)
        try:
            connection.sendall(b"GET /vendor/upload HTTP/1.1\r\nHost: localhost\r\n\r\n")
        except OSError:
            pass
