"""Calls over one connection, one call after the other, until a file is there; writes into another how many were answered."""

import http.client
import os
import sys
import time

port, target, stop, begun = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
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
