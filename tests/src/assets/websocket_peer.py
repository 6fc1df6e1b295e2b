"""Both ends of a WebSocket: `server PORT [CERTIFICATE KEY]`, or `client URL MESSAGES [CA]`. The server says back what
it is told, the client sends that many patients, one in three pieces, and one message that is long."""

import asyncio
import json
import ssl
import sys

import websockets


async def echo(link, *_):
    async for message in link:
        await link.send(message)


async def serve(port, identity):
    context = None
    if identity:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*identity)
    async with websockets.serve(echo, "127.0.0.1", port, ssl=context, max_size=None):
        await asyncio.Future()


async def talk(url, count, ca):
    context = ssl.create_default_context(cafile=ca) if ca else None
    patient = json.dumps({"resourceType": "Patient", "name": [{"family": "Okonkwo"}]})
    third = len(patient) // 3
    pieces = [patient[:third], patient[third:2 * third], patient[2 * third:]]
    async with websockets.connect(url, ssl=context, max_size=None) as link:
        for _ in range(count):
            await link.send(patient)
            assert await link.recv() == patient
        await link.send(pieces)
        assert await link.recv() == patient
        long = "x" * 300_000
        await link.send(long)
        assert await link.recv() == long


if sys.argv[1] == "server":
    asyncio.run(serve(int(sys.argv[2]), sys.argv[3:]))
else:
    asyncio.run(talk(sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else None))
