"""Calls over one connection, one call after the other, until a file is there; writes into another how many were answered.
With `tls:` before the port, over TLS."""

import http.client
import os
import ssl
import sys
import time

*over, port = sys.argv[1].split(":")
target, stop, begun = sys.argv[2:5]
os.nice(10)  # it goes on all the while: on a slow machine nothing is to wait for it
if over:
    # Whose server it is is not what is asked here.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", int(port), timeout=5, context=context)
else:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
connection.connect()
own = connection.sock
count = 0
while not os.path.exists(stop):
    connection.request("GET", target)
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200 or connection.sock is not own:
        sys.exit(f"call {count} was not answered on the same connection: {answer.status}")
    count += 1
    time.sleep(0.01)  # a bound for the load, nothing waits for it
    with open(begun, "w") as told:
        told.write(str(count))
