"""A TCP of its own, on a packet socket: whatever a hostile peer puts on the wire. No address of its interface is the
kernel's, so that the kernel answers nothing in between."""

import os
import random
import re
import select
import socket
import struct
import time

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
MOD = 1 << 32


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Net:
    """One interface, and the server behind it."""

    def __init__(self, interface, server_mac, own, server):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((interface, 0))
        self.socket.setblocking(False)
        with open(f"/sys/class/net/{interface}/address") as file:
            self.mac = bytes.fromhex(file.read().strip().replace(":", ""))
        self.server_mac = bytes.fromhex(server_mac.replace(":", ""))
        self.own, self.server = own, server  # (IPv4, IPv6) each
        self.connections = {}
        self.next_port = random.randrange(20000, 30000)

    def send(self, packet, six):
        kind = b"\x86\xdd" if six else b"\x08\x00"
        self.socket.send(self.server_mac + self.mac + kind + packet)

    def pump(self, seconds, until=lambda: False):
        """Takes in what comes, for so long or until."""
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if not select.select([self.socket], [], [], left)[0]:
                continue
            while True:
                try:
                    frame = self.socket.recv(80000)
                except BlockingIOError:
                    break
                self.take(frame)
        return True

    def take(self, frame):
        if frame[6:12] == self.mac:
            return
        kind, packet = frame[12:14], frame[14:]
        if kind == b"\x08\x00" and packet[9] == 6:
            end = struct.unpack("!H", packet[2:4])[0] or len(packet)
            segment = packet[(packet[0] & 15) * 4 : end]
        elif kind == b"\x86\xdd" and packet[6] == 6:
            segment = packet[40:]
        else:
            return
        connection = self.connections.get(struct.unpack("!H", segment[2:4])[0])
        if connection:
            connection.take(segment)


class Connection:
    """The client's end. Positions are offsets in the stream that it sends; the first byte is 0."""

    def __init__(self, net, port, six=False, isn=None, stamps=False):
        self.net, self.port, self.six = net, port, six
        net.next_port += 1
        self.own_port = net.next_port
        net.connections[self.own_port] = self
        self.isn = random.randrange(MOD) if isn is None else isn % MOD
        self.stamps, self.stamp, self.peer_stamp = stamps, 1_000_000, 0
        self.acked, self.received_next, self.got = -1, None, b""
        self.waiting, self.fin, self.reset, self.cookie = {}, False, False, None
        self.window = 65535
        self.refuse_to_acknowledge = False
        self.number, self.is_last = 0, True

    # What comes.

    def take(self, segment):
        seq, ack = struct.unpack("!II", segment[4:12])
        length, flags = (segment[12] >> 4) * 4, segment[13]
        self.options(segment[20:length])
        data = segment[length:]
        if flags & RST:
            self.reset = True
            return
        if flags & ACK:
            acked = (ack - self.isn - 1) % MOD
            if acked < 1 << 31 and acked > self.acked:
                self.acked = acked
        if flags & SYN:
            self.received_next = (seq + 1) % MOD
            return
        if self.received_next is None:
            return
        if data:
            self.waiting[seq] = data
        while self.waiting:
            fit = [s for s, d in self.waiting.items() if (self.received_next - s) % MOD < 1 << 31]
            if not fit:
                break
            for start in fit:
                fresh = self.waiting.pop(start)[(self.received_next - start) % MOD :]
                self.got += fresh
                self.received_next = (self.received_next + len(fresh)) % MOD
        if flags & FIN and (seq + len(data)) % MOD == self.received_next and not self.fin:
            self.fin = True
            self.received_next = (self.received_next + 1) % MOD
        if (data or flags & FIN) and not self.refuse_to_acknowledge:
            self.send(position=max(self.acked, 0))

    def options(self, options):
        while options:
            if options[0] < 2:
                options = options[1:]
                continue
            kind, length = options[0], options[1]
            if kind == 8:
                self.peer_stamp = struct.unpack("!I", options[2:6])[0]
            if kind == 34 and length > 2:
                self.cookie = options[2:length]
            options = options[max(length, 2) :]

    # What goes.

    def segment(self, seq, ack, flags, data, window=None, urgent=0, bad=False, stamp=None, options=b""):
        if self.stamps:
            value = self.stamp if stamp is None else stamp
            options += b"\x01\x01\x08\x0a" + struct.pack("!II", value % MOD, self.peer_stamp)
        options += b"\x01" * (-len(options) % 4)
        head = struct.pack(
            "!HHIIBBHHH",
            self.own_port,
            self.port,
            seq % MOD,
            ack % MOD,
            (5 + len(options) // 4) << 4,
            flags,
            self.window if window is None else window,
            0,
            urgent,
        )
        family = socket.AF_INET6 if self.six else socket.AF_INET
        own, server = (socket.inet_pton(family, text[self.six]) for text in (self.net.own, self.net.server))
        whole = head + options + data
        if self.six:
            pseudo = own + server + struct.pack("!IHBB", len(whole), 0, 0, 6)
        else:
            pseudo = own + server + struct.pack("!BBH", 0, 6, len(whole))
        total = checksum(pseudo + whole) ^ (0x5A5A if bad else 0)
        return own, server, whole[:16] + struct.pack("!H", total) + whole[18:]

    def put(self, made, extension=None, fragments=None):
        own, server, whole = made
        parts = [(0, whole, False)]
        if fragments:
            cuts = list(range(0, len(whole), fragments)) + [len(whole)]
            parts = [(a, whole[a:b], b < len(whole)) for a, b in zip(cuts, cuts[1:])]
        # One after the other, as an honest stack numbers them: else nothing is put together on the way.
        self.number = number = self.number % 65535 + 1
        for offset, part, goes_on in parts:
            if self.six:
                kind, before = 6, b""
                if fragments:
                    before = struct.pack("!BBHI", kind, 0, offset | goes_on, number)
                    kind = 44
                for extra in extension or []:
                    before = struct.pack("!BB", kind, 0) + b"\x01\x04\0\0\0\0" + before
                    kind = extra
                ip = struct.pack("!IHBB", 6 << 28, len(before + part), kind, 64) + own + server + before
            else:
                flags = offset // 8 | (0x2000 if goes_on else 0)
                ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), number, flags, 64, 6, 0) + own + server
                ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
            self.net.send(ip + part, self.six)

    def send(self, data=b"", position=0, flags=ACK, ack=None, extension=None, fragments=None, last=True, **more):
        """One segment, as it is told. `last`: of what is sent in one go."""
        if data and last:
            flags |= PSH
        ack = self.received_next if ack is None else ack
        self.stamp += self.is_last
        self.is_last = last
        made = self.segment(self.isn + 1 + position, ack or 0, flags, data, **more)
        self.put(made, extension, fragments)

    def connect(self, data=b"", last=b"", cookie=None, wanted=0, tries=8):
        """The handshake, with data on the SYN or on its last segment; without that one if `wanted` is None."""
        options = b"\x02\x04\x05\xb4"
        if cookie is not None:
            options += bytes([34, 2 + len(cookie)]) + cookie
        for _ in range(tries):
            self.put(self.segment(self.isn, 0, SYN, data, options=options))
            if self.net.pump(0.5, lambda: self.received_next is not None or self.reset):
                break
        if self.reset or self.received_next is None:
            raise RuntimeError("no connection")
        if wanted is not None:
            self.send(last)
        return self

    def write(self, data, position=0, cuts=(), limit=4.0, pause=0.25):
        """As an honest stack: again until it is taken, or the connection has ended."""
        ends = sorted({position + cut for cut in cuts if 0 < cut < len(data)} | {position + len(data)})
        deadline = time.monotonic() + limit
        end = position + len(data)
        over = lambda: self.acked >= end or self.fin or self.reset
        while not over() and time.monotonic() < deadline:
            at = max(self.acked, position)
            for stop in ends:
                if stop > at:
                    self.send(data[at - position : stop - position], at, last=stop == ends[-1])
                    at = stop
            self.net.pump(pause, over)
        return self.acked >= end

    def answers(self):
        return len(re.findall(rb"HTTP/1\.1 200", self.got))

    def wait(self, seconds=2.0, answers=None):
        """For the connection's end, or so many answers."""
        done = lambda: self.fin or self.reset or (answers is not None and self.answers() >= answers)
        self.net.pump(seconds, done)
        return self

    def close(self):
        if self.received_next is not None and not self.reset:
            self.send(position=max(self.acked, 0), flags=RST | ACK)
        self.net.connections.pop(self.own_port, None)
