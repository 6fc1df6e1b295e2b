"""A server that writes down the first line of every request that it gets, and answers 200; with a certificate and its
key, over TLS."""

import socket
import ssl
import sys
import threading

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
log = open(sys.argv[2], "a", buffering=1)
context = None
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])


def serve(connection):
    rest = b""
    try:
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        while data := connection.recv(65536):
            rest += data
            while b"\r\n\r\n" in rest:
                head, rest = rest.split(b"\r\n\r\n", 1)
                log.write(head.split(b"\r\n")[0].decode("latin-1") + "\n")
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    except OSError:
        pass
    finally:
        connection.close()


while True:
    accepted, _ = listener.accept()
    threading.Thread(target=serve, args=(accepted,), daemon=True).start()
