"""A server over TLS that reads what came on a connection only when there is a file: the client may be gone by then.
Writes what it got."""

import os
import socket
import ssl
import sys
import time

port, certificate, key, go, log = int(sys.argv[1]), *sys.argv[2:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
listener = socket.create_server(("127.0.0.1", port))
while True:
    connection, _ = listener.accept()
    try:
        with context.wrap_socket(connection, server_side=True) as connection:
            while not os.path.exists(go):
                time.sleep(0.01)
            got = connection.recv(65536)
    except OSError as error:
        got = type(error).__name__.encode()
    with open(log, "a") as told:
        told.write(got.split(b"\r\n")[0].decode("latin-1") + "\n")
