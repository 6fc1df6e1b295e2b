"""A server of the tests that calls OpenSSL's libssl itself, to read in the ways in which Python's own module never does.

    tls_reads.py PORT WAY CERTIFICATE KEY

`implicit`: nobody asks for a handshake, the first read shakes hands. `peek`: each read is looked at before, and again.
`small`: seven bytes at a time. `forked`: the parent shakes hands, its child reads and answers.
"""

import ctypes
import os
import signal
import socket
import sys

port, way, certificate, key = int(sys.argv[1]), sys.argv[2], sys.argv[3].encode(), sys.argv[4].encode()
ssl = ctypes.CDLL("libssl.so.3")
pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int


def function(name, result, *arguments):
    found = getattr(ssl, name)
    found.restype, found.argtypes = result, arguments
    return found


context = function("SSL_CTX_new", pointer, pointer)(function("TLS_server_method", pointer)())
assert function("SSL_CTX_use_certificate_chain_file", number, pointer, text)(context, certificate) == 1
assert function("SSL_CTX_use_PrivateKey_file", number, pointer, text, number)(context, key, 1) == 1
new, free = function("SSL_new", pointer, pointer), function("SSL_free", None, pointer)
set_fd = function("SSL_set_fd", number, pointer, number)
set_accept = function("SSL_set_accept_state", None, pointer)
accept = function("SSL_accept", number, pointer)
peek = function("SSL_peek", number, pointer, pointer, number)
read = function("SSL_read", number, pointer, pointer, number)
write = function("SSL_write", number, pointer, text, number)

buffer = ctypes.create_string_buffer(16384)
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}'


def some(connection):
    most = 7 if way == "small" else len(buffer)
    if way == "peek":
        for _ in range(2):
            seen = peek(connection, buffer, most)
            looked = buffer.raw[: max(seen, 0)]
    got = read(connection, buffer, most)
    data = buffer.raw[: max(got, 0)]
    assert way != "peek" or got <= 0 or data == looked
    return data


def serve(connection):
    head = b""
    while data := some(connection):
        head += data
        while b"\r\n\r\n" in head:
            head = head.split(b"\r\n\r\n", 1)[1]
            assert write(connection, ANSWER, len(ANSWER)) == len(ANSWER)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", port))
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    connection = new(context)
    set_fd(connection, client.fileno())
    set_accept(connection)
    if way != "implicit" and accept(connection) != 1:
        # Somebody only wanted to know whether we listen.
        pass
    elif way != "forked":
        serve(connection)
    elif os.fork() == 0:
        serve(connection)
        os._exit(0)
    free(connection)
    client.close()
