"""aio-pika: properties, headers, body sizes, vhosts, and errors that close a channel."""
from datetime import datetime, timezone
from decimal import Decimal

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message

from support.asynchronous import Inbox, channels, drain, send
from support.subjects import bytes_of, equal, fresh, run_async, url_of, user_name


async def message_properties():
    properties = dict(
        headers={"trace": "abc"}, content_type="application/json", content_encoding="utf-8", delivery_mode=DeliveryMode.PERSISTENT,
        priority=5, correlation_id="correlation-1", reply_to="somewhere", expiration=600, message_id="message-1",
        timestamp=datetime(2024, 2, 29, 12, 0, 0, tzinfo=timezone.utc), type="order.created", user_id=user_name(), app_id="clients")
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        inbox = await Inbox.of(queue, no_ack=True)
        await send(channel, queue, b"{}", **properties)
        message = await inbox.get()
        for name, value in properties.items():
            equal(getattr(message, name), value, name)


async def headers_of_every_type():
    headers = {
        "string": "plain", "unicode": "žlutý kůň 🐇 兎", "empty": "", "long": "x" * 20_000, "bytes": bytearray(b"\x00\xff\xfe binary"),
        "true": True, "false": False, "int8": -7, "int16": 3000, "uint16": 65535, "int32": -(2**31), "uint32": 2**32 - 1,
        "int64": 2**62, "float": 1.5, "decimal": Decimal("3.14"), "null": None,
        "time": datetime(2024, 2, 29, 12, 0, 0, tzinfo=timezone.utc),
        "table": {"inner": {"innermost": {"list": [1, "two", None]}}},
        "array": [1, "two", False, None, {"k": "v"}, [["deep"]]], "empty table": {}, "empty array": [], "klíč": "a key that isn't ASCII",
    }
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        await send(channel, queue, b"", headers=headers)
        message = await queue.get(no_ack=True)
        equal(sorted(message.headers), sorted(headers), "keys")
        for name, value in headers.items():
            equal(message.headers[name], value, f"header {name}")


async def body_sizes():
    payload_max = 131072 - 8  # frame_max as RabbitMQ offers it, less a frame's own header and end
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        inbox = await Inbox.of(queue, no_ack=True)
        for size in (0, 1, payload_max - 1, payload_max, payload_max + 1, 2 * payload_max, 1024 * 1024, 5 * 1024 * 1024):
            await send(channel, queue, bytes_of(size))
            message = await inbox.get()
            assert message.body == bytes_of(size), f"body of {size} bytes came as {len(message.body)}"


async def vhosts_are_separate_worlds():
    name = fresh("same-name")
    async with channels() as (here,), channels(url=url_of("alice", "secret", "orders")) as (there,):
        queues = [await channel.declare_queue(name, auto_delete=False) for channel in (here, there)]
        for channel, queue, body in ((here, queues[0], b"for /"), (there, queues[1], b"for orders")):
            exchange = await channel.declare_exchange(name, ExchangeType.FANOUT)
            await queue.bind(exchange)
            await exchange.publish(Message(body), "")
        equal([await drain(queue) for queue in queues], [[b"for /"], [b"for orders"]], "messages")
        for channel, queue in zip((here, there), queues):
            await queue.delete()
            await channel.exchange_delete(name)


async def unknown_vhost_and_wrong_password():
    for url in (url_of("alice", "secret", "no-such-vhost"), url_of("alice", "wrong")):
        try:
            await aio_pika.connect(url)
            raise AssertionError("let in")
        except aio_pika.exceptions.AMQPError:
            pass


async def passive_declare_of_nothing():
    async with await aio_pika.connect(url_of()) as connection:
        for declare in ("get_queue", "get_exchange"):
            channel = await connection.channel()
            try:
                await getattr(channel, declare)(fresh("nothing"))
                raise AssertionError("found")
            except aio_pika.exceptions.ChannelNotFoundEntity:
                pass
            assert channel.is_closed and not connection.is_closed
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await send(channel, queue, b"alive")
        equal(await drain(queue), [b"alive"], "on the same connection")


async def inequivalent_redeclare():
    async with await aio_pika.connect(url_of()) as connection:
        name = fresh("redeclared")
        first = await connection.channel()
        queue = await first.declare_queue(name, auto_delete=True)
        exchange = await first.declare_exchange(name, ExchangeType.DIRECT, auto_delete=True)
        for declare in (lambda channel: channel.declare_queue(name, durable=True, auto_delete=True),
                        lambda channel: channel.declare_exchange(name, ExchangeType.TOPIC, auto_delete=True)):
            try:
                await declare(await connection.channel())
                raise AssertionError("redeclared")
            except aio_pika.exceptions.ChannelPreconditionFailed:
                pass
        assert not first.is_closed
        await queue.delete()
        await exchange.delete()


async def publish_to_a_missing_exchange():
    async with await aio_pika.connect(url_of()) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(fresh("missing"), ensure=False)
        try:
            await exchange.publish(Message(b""), "key")
            raise AssertionError("taken")
        except aio_pika.exceptions.AMQPError:
            pass
        assert not connection.is_closed


run_async(message_properties, headers_of_every_type, body_sizes, vhosts_are_separate_worlds, unknown_vhost_and_wrong_password,
          passive_declare_of_nothing, inequivalent_redeclare, publish_to_a_missing_exchange)
