"""A client of the tests: makes calls as the lines of a file say, METHOD PATH each, on one connection."""

import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
with open(sys.argv[2]) as file:
    for line in file:
        method, path = line.split()
        connection.request(method, path, body=b"{}" if method == "POST" else None)
        response = connection.getresponse()
        response.read()
print("done")
