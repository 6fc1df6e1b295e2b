"""Both ends of gRPC, with messages that are bytes: `server PORT`, or `client PORT ID...`."""

import sys
from concurrent import futures

import grpc

SERVICE = "hospital.v1.Patients"
# A string in field 2, as protobuf has it.
NAME = b"\x12\x07Okonkwo"
LONG = b"\x1a\xc0\x9a\x0c" + b"y" * 200_000


class Patients(grpc.GenericRpcHandler):
    def service(self, call):
        kind = call.method.rsplit("/", 1)[-1]
        if kind == "Get":
            return grpc.unary_unary_rpc_method_handler(self.get)
        if kind == "List":
            return grpc.unary_stream_rpc_method_handler(lambda ask, context: iter([NAME] * 5))
        if kind == "Upload":
            return grpc.stream_unary_rpc_method_handler(lambda asks, context: b"\x08" + bytes([sum(1 for _ in asks)]))
        if kind == "Update":
            return grpc.stream_stream_rpc_method_handler(lambda asks, context: (ask for ask in asks))
        return None

    def get(self, ask, context):
        if ask == b"\x08\x00":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such patient")
        return ask if len(ask) > 1000 else NAME


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Patients(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def call(port, ids):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        def path(kind):
            return f"/{SERVICE}/{kind}"

        def metadata(id):
            return (("traceparent", f"00-{id}-b7ad6b7169203331-01"),)

        get, wait = channel.unary_unary(path("Get")), 30
        ids = iter(ids)
        assert get(b"\x08\x01", metadata=metadata(next(ids)), timeout=wait) == NAME
        try:
            get(b"\x08\x00", metadata=metadata(next(ids)), timeout=wait)
            sys.exit("a patient who is not there was answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        # Longer than what is captured of an operation: what comes behind it is read all the same.
        for compression in (None, grpc.Compression.Gzip):
            long = get(LONG, metadata=metadata(next(ids)), timeout=wait, compression=compression)
            assert long == LONG
        listed = channel.unary_stream(path("List"))(b"", metadata=metadata(next(ids)), timeout=wait)
        assert len(list(listed)) == 5
        asks = iter([NAME] * 7)
        assert channel.stream_unary(path("Upload"))(asks, metadata=metadata(next(ids)), timeout=wait)[1] == 7
        asks = iter([NAME] * 3)
        both = channel.stream_stream(path("Update"))(asks, metadata=metadata(next(ids)), timeout=wait)
        assert len(list(both)) == 3
        # Many at once, on the one connection.
        pending = [get.future(b"\x08\x01", metadata=metadata(id), timeout=wait) for id in ids]
        for one in pending:
            assert one.result() == NAME


if sys.argv[1] == "server":
    serve(sys.argv[2])
else:
    call(sys.argv[2], sys.argv[3].split(","))
