"""A server that answers in chunks, hundreds of them in one write, and closes: `/dead` gets no last one."""

import socket
import sys

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
CHUNK = b"3e8\r\n" + b"c" * 1000 + b"\r\n"
while True:
    connection, _ = listener.accept()
    with connection:
        request = connection.recv(65536)
        last = b"" if request.startswith(b"GET /dead ") else b"0\r\n\r\n"
        connection.sendall(HEAD + CHUNK * 400 + last)
