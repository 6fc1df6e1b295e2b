"""The demo's clients: each role makes its kind of calls until it is ended.

portal    a ward's screen, in clear, one connection kept
lab       a laboratory system, over TLS, one connection kept
batch     a nightly job that reads records and posts them to a vendor
outsider  somebody without credentials who tries one patient number after the other
"""

import argparse
import http.client
import json
import random
import secrets
import ssl
import time

# Answers of a forbidden call that is enforced: the connection goes away.
GONE = (OSError, http.client.HTTPException)


class Client:
    def __init__(self, arguments):
        self.arguments = arguments
        self.connection = None

    def call(self, method, target, body=None, token="ward", to=None, host=None, keep=True):
        """One call; None if the connection went away under it."""
        headers = {"Host": host or "ehr.hospital.example", "Accept": "application/fhir+json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
            headers["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        if body is not None:
            headers["Content-Type"] = "application/fhir+json"
            body = json.dumps(body)
        connection = self.take(to) or self.connect(to)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            text = response.read()
        except GONE:
            connection.close()
            return None
        if keep and to is None:
            self.connection = connection
        else:
            connection.close()
        return text

    def take(self, to):
        """The connection that was kept, if the call goes there."""
        if to is not None:
            return None
        connection, self.connection = self.connection, None
        return connection

    def connect(self, to):
        if to is not None:
            return http.client.HTTPConnection("127.0.0.1", to, timeout=5)
        if self.arguments.ca:
            context = ssl.create_default_context(cafile=self.arguments.ca)
            # The name is checked by the certificate's own entry for the address.
            return http.client.HTTPSConnection("127.0.0.1", self.arguments.port, timeout=5, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.arguments.port, timeout=5)

    def portal(self):
        self.call("POST", "/login", {"user": "ward-3"}, token=None)
        while True:
            number = random.randrange(1000, 1200)
            self.call("GET", "/fhir/Patient?family=" + random.choice("ABCDE"))
            self.call("GET", f"/fhir/Patient/{number}")
            self.call("GET", f"/fhir/Observation?patient={number}")
            time.sleep(random.uniform(0.3, 0.9))

    def lab(self):
        while True:
            number = random.randrange(1000, 1200)
            result = {"resourceType": "Observation", "subject": {"reference": f"Patient/{number}"}}
            self.call("POST", "/fhir/Observation", result, token="lab")
            self.call("PUT", f"/fhir/Encounter/{number}", {"resourceType": "Encounter"}, token="lab")
            time.sleep(random.uniform(0.5, 1.2))

    def batch(self):
        while True:
            time.sleep(random.uniform(1.5, 2.5))
            records = self.call("GET", "/fhir/Patient?family=H", token="batch")
            body = {"records": json.loads(records) if records else None}
            self.call("POST", "/v2/ingest", body, token="vendor", to=self.arguments.vendor, host="vendor.example")

    def outsider(self):
        time.sleep(2)
        for number in range(1000, 1200):
            self.call("GET", f"/fhir/Patient/{number}", token=None, keep=False)
            time.sleep(0.4)
        self.call("GET", "/fhir/Patient/$export", token=None, keep=False)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("role", choices=["portal", "lab", "batch", "outsider"])
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--ca")
    arguments.add_argument("--vendor", type=int)
    arguments = arguments.parse_args()
    getattr(Client(arguments), arguments.role)()
