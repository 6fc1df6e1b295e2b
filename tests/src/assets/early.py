"""A client that sends its request on the SYN, where it has a cookie for the server (RFC 7413): each target of its
arguments in turn, with a trace id of its own. Prints one line of JSON for each: the first line of the answer or the error,
and whether the request was on the SYN and taken there."""

import json
import socket
import struct
import sys

TCPI_OPTIONS_AT, SYN_DATA = 5, 0x20  # struct tcp_info: tcpi_options, TCPI_OPT_SYN_DATA

address, port = sys.argv[1], int(sys.argv[2])
for call in sys.argv[3:]:
    name, target = call.split(",", 1)
    head = f"GET {target} HTTP/1.1\r\nHost: h\r\ntraceparent: 00-{name}-00f067aa0ba902b7-01\r\n\r\n".encode()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as connection:
        end, early = "closed", False
        try:
            # Without a cookie it waits for the handshake, which a socket with a timeout would not.
            connection.sendto(head, socket.MSG_FASTOPEN, (address, port))
            connection.settimeout(10)
            end = connection.recv(4096).split(b"\r\n")[0].decode() or end
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            early = bool(struct.unpack_from("B", info, TCPI_OPTIONS_AT)[0] & SYN_DATA)
        except OSError as error:
            end = type(error).__name__
    print(json.dumps({"id": name, "end": end, "early": early}), flush=True)
