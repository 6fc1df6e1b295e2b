"""A small records service of the tests: routes as real applications have them, and 404 for everything else."""

import argparse
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

arguments = argparse.ArgumentParser()
arguments.add_argument("--listen", action="append", required=True)  # ADDRESS,PORT
arguments = arguments.parse_args()

ROUTES = [
    ("GET", r"/api/appointments", 200),
    ("POST", r"/api/appointments", 201),
    ("GET", r"/api/appointments/\d+", 200),
    ("DELETE", r"/api/appointments/\d+", 204),
    ("GET", r"/api/appointments/\d+/notes", 200),
    ("GET", r"/api/frobs/[0-9a-f-]{36}/blips", 200),
    ("GET", r"/patients/[a-z]+", 200),
    ("GET", r"/patients/[a-z]+/chart", 200),
    ("GET", r"/tags/[a-z-]+", 200),
    ("GET", r"/fhir/Patient/[A-Za-z0-9.-]+", 200),
    ("GET", r"/v1/health", 200),
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle_any(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        status = next((s for m, r, s in ROUTES if m == self.command and re.fullmatch(r, path)), 404)
        body = b"" if status == 204 else json.dumps({"status": status}).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = handle_any


address, port = arguments.listen[0].rsplit(",", 1)
ThreadingHTTPServer((address, int(port)), Handler).serve_forever()
