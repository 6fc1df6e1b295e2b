"""A client of HTTP/2 in clear, on one connection, with the encoder of python3-hpack: all calls at once, or, with a
file's name, one that counts for nothing, and the others one after the other once that file is there."""

import os
import socket
import sys
import time

import h2.config
import h2.connection
import h2.events

port, ids = int(sys.argv[1]), sys.argv[2].split(",")
go = sys.argv[3] if len(sys.argv) > 3 else None

link = socket.create_connection(("127.0.0.1", port), timeout=30)
state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
state.initiate_connection()
link.sendall(state.data_to_send())
statuses, open_streams = {}, set()


def ask(id):
    stream = state.get_next_available_stream_id()
    state.send_headers(
        stream,
        [
            (":method", "GET"),
            (":path", "/fhir/Patient/1044?_summary=true"),
            (":scheme", "http"),
            (":authority", f"127.0.0.1:{port}"),
            ("traceparent", f"00-{id}-b7ad6b7169203331-01"),
            ("x-kept", "in the table"),
        ],
        end_stream=True,
    )
    open_streams.add(stream)
    link.sendall(state.data_to_send())


def take(until):
    """Takes what comes until so few streams are open."""
    while len(open_streams) > until:
        data = link.recv(65536)
        if not data:
            sys.exit("the server has closed")
        for event in state.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                print(dict(event.headers)[":status"], flush=True)
            elif isinstance(event, h2.events.DataReceived):
                state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                open_streams.discard(event.stream_id)
        link.sendall(state.data_to_send())


if go:
    ask("0" * 31 + "1")
    take(0)
    open(go + ".ready", "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    for id in ids:
        ask(id)
        take(0)
else:
    for id in ids:
        ask(id)
        take(99)
    take(0)
state.close_connection()
link.sendall(state.data_to_send())
link.close()
