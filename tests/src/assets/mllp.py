"""HL7 version 2 over MLLP: a receiver that acknowledges, and a sender that waits for each acknowledgement.

A message with the code of REJ in its third segment is answered AE. The sender's file is a JSON list of messages, each with
line feeds between its segments; it prints the acknowledgement code of each.
"""

import argparse
import json
import socket
import ssl
import sys
import threading

arguments = argparse.ArgumentParser()
arguments.add_argument("--listen", type=int)
arguments.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"))
arguments.add_argument("--port", type=int)
arguments.add_argument("--ca")
arguments.add_argument("--messages")
arguments = arguments.parse_args()

START, END = b"\x0b", b"\x1c\r"


def frames(connection):
    buffer = b""
    while True:
        while END not in buffer:
            data = connection.recv(4096)
            if not data:
                return
            buffer += data
        frame, buffer = buffer.split(END, 1)
        yield frame.lstrip(START)


def field(message, segment, number):
    for line in message.split(b"\r"):
        fields = line.split(b"|")
        if fields[0] == segment:
            # MSH-1 is the separator itself.
            at = number - 1 if segment == b"MSH" else number
            return fields[at] if at < len(fields) else b""
    return b""


def serve(connection):
    try:
        with connection:
            for message in frames(connection):
                code = b"AE" if b"\rREJ" in message else b"AA"
                control = field(message, b"MSH", 10)
                connection.sendall(
                    START
                    + b"MSH|^~\\&|RECEIVER|LAB|SENDER|WARD|20260101||ACK|A" + control + b"|P|2.5\r"
                    + b"MSA|" + code + b"|" + control + b"\r" + END
                )
    except OSError:
        pass


if arguments.listen is not None:
    listener = socket.create_server(("127.0.0.1", arguments.listen))
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*arguments.tls)
    while True:
        connection, _ = listener.accept()

        def handle(connection=connection):
            if arguments.tls:
                try:
                    connection = context.wrap_socket(connection, server_side=True)
                except OSError:
                    return
            serve(connection)

        threading.Thread(target=handle, daemon=True).start()

with open(arguments.messages) as file:
    messages = json.load(file)
connection = socket.create_connection(("127.0.0.1", arguments.port), timeout=20)
if arguments.ca:
    context = ssl.create_default_context(cafile=arguments.ca)
    connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
answers = frames(connection)
for message in messages:
    data = message.replace("\n", "\r").encode()
    # In two writes, as engines do.
    connection.sendall(START + data[:20])
    connection.sendall(data[20:] + END)
    answer = next(answers, None)
    if answer is None:
        print("closed")
        sys.exit(0)
    print(field(answer, b"MSA", 1).decode())
connection.close()
