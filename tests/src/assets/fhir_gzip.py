"""A FHIR server whose every answer is a searchset of as many patients as `_count` says, in gzip: `PORT`."""

import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Fhir(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        count = int(parse_qs(urlsplit(self.path).query)["_count"][0])
        patient = {"resourceType": "Patient", "name": [{"family": "Okonkwo"}], "birthDate": "1970-03-02"}
        bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": patient}] * count}
        body = gzip.compress(json.dumps(bundle).encode())
        self.send_response(200)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Fhir).serve_forever()
