"""A server that writes down the first line of every request that it gets, and answers 200."""

import socket
import sys
import threading

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
log = open(sys.argv[2], "a", buffering=1)


def serve(connection):
    rest = b""
    try:
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
