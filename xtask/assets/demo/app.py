"""The demo's hospital application: a FHIR-shaped API over invented patients.

It checks no credentials, as too many do that "are only reachable from inside": what that means is what the demo
shows. With --vendor it is somebody else's server instead, which takes whatever is posted.
"""

import argparse
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

FAMILIES = ["Almeida", "Brandt", "Castellanos", "Dvorak", "Eriksen", "Fontaine", "Grabowski", "Haddad"]
GIVEN = ["Ana", "Ben", "Chiara", "Dario", "Elif", "Filip", "Greta", "Hugo"]
PATIENTS = range(1000, 1200)


def patient(number):
    return {
        "resourceType": "Patient",
        "id": str(number),
        "name": [{"family": FAMILIES[number % 8], "given": [GIVEN[number // 8 % 8]]}],
        "birthDate": f"{1930 + number % 80}-{1 + number % 12:02}-{1 + number % 28:02}",
        "identifier": [{"system": "http://hospital.example/mrn", "value": f"MRN{number:06}"}],
    }


def observation(number):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"text": "Heart rate"},
        "subject": {"reference": f"Patient/{number}"},
        "valueQuantity": {"value": 60 + number % 40, "unit": "/min"},
    }


def bundle(resources):
    return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": r} for r in resources]}


class Hospital(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "records/1"

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/healthz":
            return self.answer(200, {"status": "ok"})
        if url.path == "/fhir/metadata":
            return self.answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
        if url.path == "/fhir/Patient":
            family = query.get("family", [""])[0]
            found = [patient(n) for n in PATIENTS if FAMILIES[n % 8].startswith(family)]
            return self.answer(200, bundle(found[:10]))
        if url.path == "/fhir/Patient/$export":
            return self.answer(200, bundle([patient(n) for n in PATIENTS]))
        if url.path == "/fhir/Observation":
            number = re.sub(r"\D", "", query.get("patient", [""])[0]) or "1000"
            return self.answer(200, bundle([observation(int(number))]))
        if match := re.fullmatch(r"/fhir/(Patient|Observation|Encounter)/(\d+)", url.path):
            number = int(match[2])
            if number not in PATIENTS:
                return self.answer(404, {"resourceType": "OperationOutcome"})
            return self.answer(200, observation(number) if match[1] == "Observation" else patient(number))
        self.answer(404, {"resourceType": "OperationOutcome"})

    def do_POST(self):
        self.body()
        if self.path == "/login":
            return self.answer(200, {"token_type": "Bearer", "expires_in": 300})
        self.answer(201, {"resourceType": "OperationOutcome"})

    def do_PUT(self):
        self.body()
        self.answer(200, {"resourceType": "OperationOutcome"})

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status, resource):
        text = json.dumps(resource).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Vendor(Hospital):
    server_version = "vendor/1"

    def do_POST(self):
        self.body()
        self.answer(202, {"accepted": True})


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--vendor", action="store_true")
    arguments = arguments.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Vendor if arguments.vendor else Hospital)
    server.daemon_threads = True
    server.serve_forever()
