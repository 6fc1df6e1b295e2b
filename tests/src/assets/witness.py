"""An application that writes down what it got: every whole request head, and every byte of every connection.

One line of JSON for each head, with its target and trace id, and for each connection, when it has ended.
"""

import argparse
import json
import re
import socket
import threading

arguments = argparse.ArgumentParser()
arguments.add_argument("--listen", action="append", required=True)  # ADDRESS,PORT[,defer][,fastopen][,once]
arguments.add_argument("--log", required=True)
arguments = arguments.parse_args()
log = open(arguments.log, "a", buffering=1)
lock = threading.Lock()


def tell(**what):
    with lock:
        log.write(json.dumps(what) + "\n")


class Ended(Exception):
    pass


def serve(connection, peer):
    raw = bytearray()
    at = 0

    def more():
        data = connection.recv(65536)
        if not data:
            raise Ended
        raw.extend(data)

    def line():
        nonlocal at
        while (end := raw.find(b"\n", at)) < 0:
            more()
        text, at = bytes(raw[at : end + 1]), end + 1
        return text

    def skip(count):
        nonlocal at
        while len(raw) < at + count:
            more()
        at += count

    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            lines = [line()]
            while lines[0] in (b"\r\n", b"\n"):
                lines = [line()]
            while lines[-1] not in (b"\r\n", b"\n"):
                lines.append(line())
            head = b"".join(lines).decode("latin-1")
            ids = re.findall(r"(?im)^traceparent: *00-([0-9a-f]{32})", head)
            words = head.split(None, 2)
            tell(head=words[1] if len(words) > 1 else head, id=ids[0] if ids else None)
            length = re.search(r"(?im)^content-length: *(\d+)", head)
            if re.search(r"(?im)^transfer-encoding: *chunked", head):
                while size := int(line().split(b";")[0], 16):
                    skip(size + 2)
                while line() not in (b"\r\n", b"\n"):
                    pass
            elif length:
                skip(int(length[1]))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    except (Ended, OSError, ValueError):
        pass
    tell(raw=raw.decode("latin-1"), peer=str(peer))
    connection.close()


def listen(text):
    address, port, *options = text.split(",")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if "defer" in options:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
    if "fastopen" in options:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    listener.bind((address, int(port)))
    listener.listen(128)
    return listener


def accept(listener, once):
    while True:
        connection, peer = listener.accept()
        if once:
            listener.close()
            return serve(connection, peer)
        threading.Thread(target=serve, args=(connection, peer), daemon=True).start()


listeners = [(listen(text), text.endswith(",once")) for text in arguments.listen]
tell(ready=True)
threads = [threading.Thread(target=accept, args=pair) for pair in listeners]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
