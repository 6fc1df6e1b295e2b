"""An application of the tests: HTTP/1.1, keep-alive, on loopback or where it is told; in clear or with TLS."""

import argparse
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

arguments = argparse.ArgumentParser()
arguments.add_argument("--listen", action="append", required=True)  # ADDRESS,PORT
arguments.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
arguments.add_argument("--log", action="store_true", help="print each request that is handled")
arguments = arguments.parse_args()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                        pass
                    return data
                data += self.rfile.read(size)
                self.rfile.readline()
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, body=b"", kind="application/json", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def handle_any(self):
        if arguments.log:
            print(self.command, self.path, flush=True)
        body = self.body()
        words = self.path.split("?")[0].strip("/").split("/")
        if words[0] == "status":
            return self.answer(int(words[1]), b"{}")
        if words[0] == "slow":
            time.sleep(0.4)
        if words[0] == "download":
            return self.answer(200, b"x" * int(words[1]), "application/octet-stream")
        if words[0] == "stream":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Sum")
            self.end_headers()
            for _ in range(int(words[1])):
                self.wfile.write(b"10\r\n" + b"y" * 16 + b"\r\n")
            self.wfile.write(b"0\r\nX-Sum: 1\r\n\r\n")
            return None
        if words[0] == "close":
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"until the end")
            self.close_connection = True
            return None
        if words[0] == "upgrade":
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "echo")
            self.end_headers()
            self.wfile.write(b"GET /fhir/Patient/not-a-call HTTP/1.1\r\n\r\n")
            self.close_connection = True
            return None
        found = {"received": len(body), "path": self.path, "pid": os.getpid()}
        return self.answer(201 if self.command == "POST" else 200, json.dumps(found).encode())

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def get_request(self):
        # As proxies do: what comes is acknowledged with the answer, so that nothing leaves by a connection before that.
        connection, client = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        return connection, client

    def handle_error(self, request, client_address):
        # Clients of the tests hang up in the middle; only what is the application's own fault is told.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def server(listen):
    address, port = listen.rsplit(",", 1)
    kind = Server
    if ":" in address:
        kind = type("Server6", (Server,), {"address_family": socket.AF_INET6})
    made = kind((address, int(port)), Handler)
    if arguments.tls:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
        # The handshake belongs to the connection's thread: a client that is silent must not stop the others.
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    return made


threads = [threading.Thread(target=server(listen).serve_forever) for listen in arguments.listen]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
