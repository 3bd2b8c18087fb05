"""Helpers around aio-pika."""
import asyncio
import logging
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aio_pika

from support.subjects import AMQP_URL

# Subjects lose connections and delete consumed queues on purpose; the libraries log each with a traceback.
for library in ("aiormq", "aio_pika"):
    logging.getLogger(library).setLevel(logging.CRITICAL + 1)


@asynccontextmanager
async def channels(count=1, url=AMQP_URL, **options):
    """So many channels, each on a robust connection of its own."""
    connections = [await aio_pika.connect_robust(url) for _ in range(count)]
    try:
        yield [await connection.channel(**options) for connection in connections]
    finally:
        for connection in connections:
            await connection.close()


class Inbox(asyncio.Queue):
    """A consumer's messages, to be awaited."""

    @classmethod
    async def of(cls, queue, **options):
        inbox = cls()
        inbox.tag = await queue.consume(inbox.put, **options)
        return inbox

    async def take(self, count):
        return [await self.get() for _ in range(count)]

    async def bodies(self, count):
        return [message.body for message in await self.take(count)]


async def drain(queue):
    """All bodies that are ready in the queue, by basic.get."""
    bodies = []
    while (message := await queue.get(no_ack=True, fail=False)) is not None:
        bodies.append(message.body)
    return bodies


async def declared(channel, queue):
    """The broker's own counts: a robust channel answers a passive declare of a queue it knows from memory."""
    return await (await channel.get_underlay_channel()).queue_declare(queue.name, passive=True)


async def ready_count(channel, queue):
    return (await declared(channel, queue)).message_count


async def send(channel, queue, *bodies, **properties):
    for body in bodies:
        await channel.default_exchange.publish(aio_pika.Message(body, **properties), routing_key=queue.name)


class Relay:
    """A TCP relay in front of the broker, so that a subject can cut the wire without a word of AMQP."""

    def __init__(self):
        self.writers = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        broker = urlsplit(AMQP_URL)
        self.broker = broker.hostname, broker.port or 5672
        host, port = self.server.sockets[0].getsockname()
        self.url = AMQP_URL.replace(broker.netloc.rpartition("@")[2], f"{host}:{port}")
        return self

    async def __aexit__(self, *_exception):
        self.server.close()
        self.cut()

    def cut(self):
        for writer in list(self.writers):
            writer.transport.abort()

    async def _serve(self, client_reader, client_writer):
        broker_reader, broker_writer = await asyncio.open_connection(*self.broker)
        self.writers |= {client_writer, broker_writer}
        await asyncio.gather(self._pump(client_reader, broker_writer), self._pump(broker_reader, client_writer))

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.writers.discard(writer)
