"""One exchange for every way in which bytes can get in and out of a TCP socket. Prints a line of JSON for each.

ways.py PORT NAME=TRACE_ID…: the server; a child process is the client. What `trap` says is in a buffer of another
system call, never on a socket.
"""
import ctypes, json, os, socket, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
TRAP = sys.argv[2].split("=")[1]
WAYS = [pair.split("=") for pair in sys.argv[3:]]
BODY = b"b" * 3000


def request(trace_id):
    return (f"GET /fhir/Patient/1044 HTTP/1.1\r\nHost: localhost\r\ntraceparent: 00-{trace_id}-00f067aa0ba902b7-01\r\n"
            f"X-Long: {'v' * 300}\r\n\r\n").encode()


HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(Iovec)),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", Msghdr), ("bytes", ctypes.c_uint)]


def messages(buffers):
    all = (Mmsghdr * len(buffers))()
    for message, buffer in zip(all, buffers):
        message.hdr.iov = ctypes.pointer(Iovec(ctypes.addressof(buffer), len(buffer)))
        message.hdr.iovlen = 1
    return all


class Ring:
    """io_uring(7), as far as one operation at a time needs it."""
    SETUP, ENTER, SEND, RECV = 425, 426, 26, 27

    def __init__(self):
        parameters = (ctypes.c_uint32 * 30)()
        self.fd = libc.syscall(self.SETUP, 8, parameters)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        self.sq, self.cq = (libc.mmap(None, 4096, 3, 1, self.fd, at) for at in (0, 0x8000000))
        self.sqes = libc.mmap(None, 4096, 3, 1, self.fd, 0x10000000)
        word = lambda base, offset: ctypes.c_uint32.from_address(base + offset)
        self.sq_tail, self.sq_mask = word(self.sq, parameters[11]), word(self.sq, parameters[12])
        self.sq_array = parameters[16]
        self.cq_head, self.cq_tail = word(self.cq, parameters[20]), word(self.cq, parameters[21])
        self.cq_mask, self.cqes = word(self.cq, parameters[22]), parameters[25]
        self.pipe = os.pipe()
        self.waiting = False

    def do(self, operation, connection, buffer):
        index = self.sq_tail.value & self.sq_mask.value
        entry = struct.pack("<BBHiQQII", operation, 0, 0, connection.fileno(), 0, ctypes.addressof(buffer), len(buffer), 0)
        ctypes.memmove(self.sqes + 64 * index, entry.ljust(64, b"\0"), 64)
        ctypes.c_uint32.from_address(self.sq + self.sq_array + 4 * index).value = index
        self.sq_tail.value += 1
        if libc.syscall(self.ENTER, self.fd, 1, 0, 0, None, 0) != 1:
            raise OSError(ctypes.get_errno(), "io_uring_enter")
        if operation == self.RECV and not self.waiting:
            self.waiting = True
            os.write(READY[1], b"r")
        # It goes on when another call returns: one that has just read something else.
        trap = ctypes.create_string_buffer(request(TRAP))
        while self.cq_head.value == self.cq_tail.value:
            libc.write(self.pipe[1], trap, len(trap.value))
            libc.read(self.pipe[0], trap, len(trap.value))
        at = self.cq + self.cqes + 16 * (self.cq_head.value & self.cq_mask.value)
        result = ctypes.c_int32.from_address(at + 8).value
        self.cq_head.value += 1
        return result


RING = None
# The client's word to send, where the server is to wait in the ring before there is something to read.
READY = os.pipe()
try:
    RING = Ring()
except OSError:
    pass


def by_ring(operation, connection, buffer):
    return RING.do(operation, connection, buffer)


def rest(connection, data):
    while not data.endswith(b"\r\n\r\n"):
        data += connection.recv(65536)
    return data


def receive(way, connection, size):
    if way == "peek":
        connection.recv(40, socket.MSG_PEEK)
        first = connection.recv(40)
        connection.recv(4096, socket.MSG_PEEK)
        rest(connection, first)
    elif way == "waitall":
        connection.recv(size, socket.MSG_WAITALL)
    elif way == "recvmmsg":
        buffers = [ctypes.create_string_buffer(60) for _ in range(4)]
        all = messages(buffers)
        count = libc.recvmmsg(connection.fileno(), all, 4, 0, None)
        data = b"".join(bytes(b)[:m.bytes] for b, m in list(zip(buffers, all))[:count])
        rest(connection, data)
    elif way == "recvmsg":
        buffers = [bytearray(7) for _ in range(20)]
        count = connection.recvmsg_into(buffers)[0]
        rest(connection, b"".join(buffers)[:count])
    elif way == "readv":
        buffers = [bytearray(50), bytearray(0), bytearray(90)]
        count = os.readv(connection.fileno(), buffers)
        rest(connection, b"".join(buffers)[:count])
    elif way == "lowat":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        rest(connection, b"")
    elif way == "discarded":
        left = size
        while left > 0:
            left -= len(connection.recv(left, socket.MSG_TRUNC))
    elif way == "spliced":
        pipe, left = os.pipe(), size
        while left > 0:
            moved = os.splice(connection.fileno(), pipe[1], left)
            os.read(pipe[0], moved)
            left -= moved
        os.close(pipe[0])
        os.close(pipe[1])
    elif way == "ring":
        left = size
        while left > 0:
            left -= by_ring(Ring.RECV, connection, ctypes.create_string_buffer(left))
    elif way == "ring-start":
        buffer = ctypes.create_string_buffer(100)
        moved = by_ring(Ring.RECV, connection, buffer)
        rest(connection, bytes(buffer)[:moved])
    elif way == "half-closed":
        while connection.recv(65536):
            pass
    else:
        rest(connection, b"")


def send(way, connection, file):
    if way == "sendmsg":
        whole = HEAD + BODY
        connection.sendmsg([whole[at:at + 97] for at in range(0, len(whole), 97)])
    elif way == "sendmmsg":
        parts = [HEAD, BODY[:1000], BODY[1000:]]
        buffers = [(ctypes.c_char * len(part)).from_buffer_copy(part) for part in parts]
        assert libc.sendmmsg(connection.fileno(), messages(buffers), 3, 0) == 3
    elif way == "more":
        connection.send(HEAD, socket.MSG_MORE)
        connection.send(BODY)
    elif way == "zerocopy":
        connection.setsockopt(socket.SOL_SOCKET, 60, 1)
        connection.send(HEAD + BODY, 0x4000000)
        try:
            connection.recvmsg(1, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
    elif way == "sendfile":
        connection.send(HEAD)
        os.sendfile(connection.fileno(), file, 0, len(BODY))
    elif way == "splice":
        connection.send(HEAD)
        pipe = os.pipe()
        os.write(pipe[1], BODY)
        left = len(BODY)
        while left > 0:
            left -= os.splice(pipe[0], connection.fileno(), left)
        os.close(pipe[0])
        os.close(pipe[1])
    elif way == "ring-sends":
        connection.send(HEAD)
        buffer, left = ctypes.create_string_buffer(BODY, len(BODY)), len(BODY)
        while left > 0:
            left -= by_ring(Ring.SEND, connection, (ctypes.c_char * left).from_buffer(buffer))
    else:
        connection.sendall(HEAD + BODY)


def client(port, ways):
    for way, trace_id in ways:
        protocol = 262 if way == "mptcp" else 0
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as connection:
            connection.connect(("127.0.0.1", port))
            if way in ("ring", "ring-start"):
                os.read(READY[0], 1)
            connection.sendall(request(trace_id))
            if way == "half-closed":
                connection.shutdown(socket.SHUT_WR)
            left = len(HEAD) + len(BODY)
            while left > 0:
                data = connection.recv(left)
                assert data, f"{way}: the server closed"
                left -= len(data)


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    ways = []
    for way, trace_id in WAYS:
        if way.startswith("ring") and RING is None:
            continue
        if way == "mptcp":
            try:
                socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
            except OSError:
                continue
        ways.append((way, trace_id))
    child = os.fork()
    if child == 0:
        listener.close()
        client(int(sys.argv[1]), ways)
        os._exit(0)
    file = os.memfd_create("body")
    os.write(file, BODY)
    for way, trace_id in ways:
        connection, peer = listener.accept()
        size = len(request(trace_id))
        if RING is not None:
            RING.waiting = False
        receive(way, connection, size)
        send(way, connection, file)
        # The client leaves first.
        connection.recv(1)
        connection.close()
        print(json.dumps({"way": way, "client_port": peer[1], "request": size, "head": len(HEAD), "body": len(BODY)}), flush=True)
    _, status = os.waitpid(child, 0)
    sys.exit(status != 0)


main()
