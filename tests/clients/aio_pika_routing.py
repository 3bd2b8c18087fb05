"""aio-pika: who gets a message (the library's tutorials 1, 3, 4, 5 and 6)."""
import asyncio
import uuid

import aio_pika
from aio_pika import ExchangeType, Message
from aio_pika.patterns import RPC

from support.asynchronous import Inbox, channels, drain, send
from support.subjects import AMQP_URL, equal, fresh, run_async


async def hello_world():
    connection = await aio_pika.connect(AMQP_URL)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(fresh("hello"), auto_delete=True)
        await channel.default_exchange.publish(Message(b"Hello World!"), routing_key=queue.name)
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    equal((message.body, message.redelivered, message.routing_key), (b"Hello World!", False, queue.name), "delivery")
                break


async def publish_and_subscribe():
    name = fresh("logs")
    async with channels(4) as (publisher, *subscribers):
        inboxes = []
        for subscriber in subscribers:
            exchange = await subscriber.declare_exchange(name, ExchangeType.FANOUT, auto_delete=True)
            queue = await subscriber.declare_queue(exclusive=True)
            await queue.bind(exchange)
            inboxes.append(await Inbox.of(queue, no_ack=True))
        logs = await publisher.get_exchange(name)
        sent = [f"info: {number}".encode() for number in range(20)]
        for body in sent:
            await logs.publish(Message(body), routing_key="info")
        for inbox in inboxes:
            equal(await inbox.bodies(len(sent)), sent, "one subscriber's log")


async def routed(kind, bindings, messages):
    """Declares an exchange, a queue per binding, publishes, and tells what each queue got."""
    async with channels() as (channel,):
        exchange = await channel.declare_exchange(fresh("routed"), kind, auto_delete=True)
        queues = {}
        for label, keywords in bindings.items():
            queues[label] = await channel.declare_queue(exclusive=True)
            await queues[label].bind(exchange, **keywords)
        for body, (key, headers) in messages.items():
            await exchange.publish(Message(body.encode(), headers=headers), routing_key=key, mandatory=False)
        return {label: [body.decode() for body in await drain(queue)] for label, queue in queues.items()}


async def direct_routing():
    severities = ("info", "warning", "error")
    got = await routed(ExchangeType.DIRECT, {severity: {"routing_key": severity} for severity in severities},
                       {severity: (severity, {}) for severity in (*severities, "debug")})
    equal(got, {severity: [severity] for severity in severities}, "direct routing")


async def topics():
    keys = ("quick.orange.rabbit", "lazy.orange.elephant", "lazy.brown.fox", "quick.brown.fox", "lazy", "kern.critical", "kern.a.b")
    got = await routed(ExchangeType.TOPIC, {pattern: {"routing_key": pattern} for pattern in ("*.orange.*", "lazy.#", "kern.*", "#")},
                       {key: (key, {}) for key in keys})
    equal(got, {"*.orange.*": ["quick.orange.rabbit", "lazy.orange.elephant"],
                "lazy.#": ["lazy.orange.elephant", "lazy.brown.fox", "lazy"],
                "kern.*": ["kern.critical"], "#": list(keys)}, "topics")


async def headers_exchange():
    got = await routed(
        ExchangeType.HEADERS,
        {"all": {"arguments": {"x-match": "all", "format": "pdf", "pages": 2}},
         "any": {"arguments": {"x-match": "any", "format": "pdf", "type": "report"}}},
        {"a": ("", {"format": "pdf", "pages": 2}), "b": ("", {"format": "pdf"}), "c": ("", {"type": "report"}), "d": ("", {"type": "log"})})
    equal(got, {"all": ["a"], "any": ["a", "b", "c"]}, "headers")


async def exchange_bound_to_exchange():
    async with channels() as (channel,):
        source = await channel.declare_exchange(fresh("source"), ExchangeType.TOPIC, auto_delete=True)
        destination = await channel.declare_exchange(fresh("destination"), ExchangeType.FANOUT, auto_delete=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(destination)
        await destination.bind(source, routing_key="audit.#")
        await source.publish(Message(b"yes"), routing_key="audit.login")
        await source.publish(Message(b"no"), routing_key="login", mandatory=False)
        equal(await drain(queue), [b"yes"], "through two exchanges")


async def rpc():
    """The tutorial's Fibonacci server, with its exclusive callback queue and correlation ids."""
    async with channels(2) as (server, client):
        requests = await server.declare_queue(fresh("rpc_queue"), exclusive=True)

        async def answer(request):
            async with request.process():
                reply = Message(str(int(request.body) ** 2).encode(), correlation_id=request.correlation_id)
                await server.default_exchange.publish(reply, routing_key=request.reply_to)

        await requests.consume(answer)
        callback_queue = await client.declare_queue(exclusive=True)
        futures = {}
        await callback_queue.consume(lambda reply: futures[reply.correlation_id].set_result(int(reply.body)), no_ack=True)

        async def call(number):
            correlation_id = str(uuid.uuid4())
            futures[correlation_id] = asyncio.get_running_loop().create_future()
            request = Message(str(number).encode(), correlation_id=correlation_id, reply_to=callback_queue.name)
            await client.default_exchange.publish(request, routing_key=requests.name)
            return await futures[correlation_id]

        equal(await asyncio.gather(*map(call, range(20))), [number**2 for number in range(20)], "answers")


async def rpc_pattern():
    """aio_pika.patterns.RPC, which leans on mandatory returns and a dead-letter exchange."""
    async with channels(2) as (server_channel, client_channel):
        server, client = await RPC.create(server_channel), await RPC.create(client_channel)
        method = fresh("multiply")

        async def multiply(*, x, y):
            return x * y

        await server.register(method, multiply, auto_delete=True)
        equal(await client.call(method, kwargs={"x": 6, "y": 7}), 42, "answer")
        try:
            await client.call(fresh("no-such-method"))
            raise AssertionError("a call to nobody was answered")
        except aio_pika.exceptions.MessageProcessError as error:
            equal(error.args[0], "Message has been returned", "the failure")
        await client.close()
        await server.close()


async def many_producers_one_consumer():
    async with channels(5) as (consumer, *producers):
        queue = await consumer.declare_queue(fresh("gather"), auto_delete=True)
        inbox = await Inbox.of(queue, no_ack=True)
        await asyncio.gather(*(send(producer, queue, *(b"%d %d" % (n, m) for m in range(50))) for n, producer in enumerate(producers)))
        got = await inbox.bodies(200)
        for number in range(4):
            own = [body for body in got if body.startswith(b"%d " % number)]
            equal(own, [b"%d %d" % (number, m) for m in range(50)], f"producer {number}'s messages, in its order")


run_async(hello_world, publish_and_subscribe, direct_routing, topics, headers_exchange, exchange_bound_to_exchange, rpc, rpc_pattern,
          many_producers_one_consumer)
