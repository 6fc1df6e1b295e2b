"""A client over TLS that sends a forbidden call and resets the connection, before anybody has read it."""

import socket
import ssl
import struct
import sys

context = ssl.create_default_context()
# Whose server it is is not what is asked here.
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
# Tickets would come behind the handshake, and stay unread.
context.maximum_version = ssl.TLSVersion.TLSv1_2
plain = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
connection = context.wrap_socket(plain, server_hostname="localhost")
connection.sendall(b"GET /fhir/Patient/$export HTTP/1.1\r\nHost: localhost\r\n\r\n")
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
connection.close()
