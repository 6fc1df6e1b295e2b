"""A server of the tests that calls OpenSSL's libssl itself, to read and write in ways in which Python's own module never does.

    tls_calls.py PORT WAY CERTIFICATE KEY

`implicit`: nobody asks for a handshake, the first read shakes hands. `peek`: each read is looked at before, and again.
`small`: seven bytes at a time. `forked`: the parent shakes hands, its child reads and answers. `large`: TLS 1.2 with a cipher
that makes several records of a long answer at once. `waiting`: on a socket that takes little at once and does not block, so
that a write is tried again until it is done, unless the machine is so slow that there is always room. `cleared`: one object
for one connection after the other. Long answers end with their connections: a byte that is told twice is one too many.
"""

import ctypes
import os
import select
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
clear = function("SSL_clear", number, pointer)
set_fd = function("SSL_set_fd", number, pointer, number)
get_fd = function("SSL_get_fd", number, pointer)
set_accept = function("SSL_set_accept_state", None, pointer)
accept = function("SSL_accept", number, pointer)
peek = function("SSL_peek", number, pointer, pointer, number)
read = function("SSL_read", number, pointer, pointer, number)
write = function("SSL_write", number, pointer, text, number)
get_error = function("SSL_get_error", number, pointer, number)
WANT_READ, WANT_WRITE = 2, 3
SO_MAX_PACING_RATE = 47
if way == "large":
    SET_MAX_PROTO_VERSION, TLS1_2, NO_ENCRYPT_THEN_MAC = 124, 0x303, 1 << 19
    control = function("SSL_CTX_ctrl", ctypes.c_long, pointer, number, ctypes.c_long, pointer)
    assert control(context, SET_MAX_PROTO_VERSION, TLS1_2, None) == 1
    set_options = function("SSL_CTX_set_options", ctypes.c_uint64, pointer, ctypes.c_uint64)
    set_options(context, NO_ENCRYPT_THEN_MAC)
    ciphers = b"ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
    assert function("SSL_CTX_set_cipher_list", number, pointer, text)(context, ciphers) == 1

buffer = ctypes.create_string_buffer(16384)
LONG = way in ("large", "waiting")
BODY = b"[%s]" % b",".join(b"%05d" % number for number in range(16_667 if LONG else 0))
LENGTH = b"Connection: close" if LONG else b"Content-Length: 2"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%s\r\n\r\n%s" % (LENGTH, BODY)


def tried(connection, call):
    """What a call gives, once it need not wait."""
    while True:
        result = call()
        error = get_error(connection, result) if result <= 0 else 0
        if error == WANT_READ:
            select.select([get_fd(connection)], [], [])
        elif error == WANT_WRITE:
            select.select([], [get_fd(connection)], [])
        else:
            return result


def some(connection):
    most = 7 if way == "small" else len(buffer)
    if way == "peek":
        for _ in range(2):
            seen = peek(connection, buffer, most)
            looked = buffer.raw[: max(seen, 0)]
    got = tried(connection, lambda: read(connection, buffer, most))
    data = buffer.raw[: max(got, 0)]
    assert way != "peek" or got <= 0 or data == looked
    return data


def serve(connection):
    head = b""
    while data := some(connection):
        head += data
        while b"\r\n\r\n" in head:
            head_of_call, head = head.split(b"\r\n\r\n", 1)
            written = tried(connection, lambda: write(connection, ANSWER, len(ANSWER)))
            # Whose connection was denied something may be told so.
            assert written == len(ANSWER) or way == "cleared"
            if LONG or b"close" in head_of_call or written <= 0:
                return


object_of_all = new(context) if way == "cleared" else None
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", port))
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    if way == "waiting":
        # What waits is sent at a quarter of a mebibyte a second.
        client.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 1 << 18)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        client.setblocking(False)
    connection = object_of_all or new(context)
    set_fd(connection, client.fileno())
    set_accept(connection)
    if way != "implicit" and tried(connection, lambda: accept(connection)) != 1:
        # Somebody only wanted to know whether we listen.
        pass
    elif way != "forked":
        serve(connection)
    elif os.fork() == 0:
        serve(connection)
        os._exit(0)
    if object_of_all:
        assert clear(connection) == 1
    else:
        free(connection)
    client.close()
