"""A Python client of the tests: one call for each trace id, on one connection or on one each."""

import argparse
import http.client
import os
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--host", default="127.0.0.1")
arguments.add_argument("--port", type=int, required=True)
arguments.add_argument("--ca")
arguments.add_argument("--method", default="GET")
arguments.add_argument("--path", default="/fhir/Patient/1044")
arguments.add_argument("--body")
arguments.add_argument("--header", action="append", default=[])
arguments.add_argument("--ids", required=True)
arguments.add_argument("--each", action="store_true", help="one connection per call")
arguments.add_argument("--late", action="store_true", help="wait for a line on standard input before loading TLS")
arguments.add_argument("--until", help="end when this file is there")
arguments.add_argument("--times", help="a file for each call's id, begin and end in Unix nanoseconds")
arguments.add_argument("--wait", help="after the first call, wait until this file is there")
arguments = arguments.parse_args()

if arguments.late:
    print("waiting", flush=True)
    while not os.path.exists(arguments.wait):
        time.sleep(0.01)


def connect():
    if arguments.ca:
        import ssl

        context = ssl.create_default_context(cafile=arguments.ca)
        return http.client.HTTPSConnection(arguments.host, arguments.port, context=context, timeout=20)
    return http.client.HTTPConnection(arguments.host, arguments.port, timeout=20)


connection = None
times = open(arguments.times, "w") if arguments.times else None
with open(arguments.ids) as file:
    ids = file.read().split()
for number, trace_id in enumerate(ids):
    if arguments.until and os.path.exists(arguments.until):
        break
    began = time.time_ns()
    if connection is None:
        connection = connect()
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    headers.update(header.split(": ", 1) for header in arguments.header)
    body = arguments.body.encode() if arguments.body is not None else None
    connection.request(arguments.method, arguments.path, body=body, headers=headers)
    response = connection.getresponse()
    response.read()
    if times:
        print(trace_id, began, time.time_ns(), file=times, flush=True)
    print(response.status, flush=True)
    if arguments.each:
        connection.close()
        connection = None
    if number == 0 and arguments.wait and not arguments.late:
        while not os.path.exists(arguments.wait):
            time.sleep(0.01)
