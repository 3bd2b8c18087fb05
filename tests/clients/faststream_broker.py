"""FastStream on RabbitMQ: subscribers, publishers, requests by direct reply-to, acknowledgement policies, streams of exchanges."""
import asyncio

from faststream import AckPolicy, FastStream
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.annotations import RabbitMessage

from support.subjects import AMQP_URL, equal, fresh, run_async


def broker_of():
    return RabbitBroker(AMQP_URL, log_level=50, logger=None)


async def subscriber_gets_what_is_published():
    broker, queue, received = broker_of(), fresh("faststream"), asyncio.Queue()

    @broker.subscriber(RabbitQueue(queue, auto_delete=True))
    async def handle(user: str, user_id: int):
        await received.put((user, user_id))

    async with broker:
        await broker.start()
        await broker.publish({"user": "John", "user_id": 1}, queue=queue)
        equal(await received.get(), ("John", 1), "message")


async def answer_goes_on_to_the_next_queue():
    broker, received = broker_of(), asyncio.Queue()
    first, second = fresh("faststream.in"), fresh("faststream.out")

    @broker.subscriber(RabbitQueue(first, auto_delete=True))
    @broker.publisher(second)
    async def handle(message: str):
        return message.upper()

    @broker.subscriber(RabbitQueue(second, auto_delete=True))
    async def keep(message: str):
        await received.put(message)

    async with broker:
        await broker.start()
        await broker.publish("hello", queue=first)
        equal(await received.get(), "HELLO", "message")


async def request_is_answered():
    broker, queue = broker_of(), fresh("faststream.rpc")

    @broker.subscriber(RabbitQueue(queue, auto_delete=True))
    async def handle(message: str):
        return f"Received {message}"

    async with broker:
        await broker.start()
        for number in range(3):
            answer = await broker.request(f"message {number}", queue=queue, timeout=10)
            equal(await answer.decode(), f"Received message {number}", "answer")


async def topic_exchange_with_two_subscribers():
    broker, received = broker_of(), asyncio.Queue()
    exchange = RabbitExchange(fresh("faststream.topic"), type=ExchangeType.TOPIC, auto_delete=True)

    def queue(pattern):
        return RabbitQueue(fresh("faststream.topic"), auto_delete=True, routing_key=pattern)

    @broker.subscriber(queue("*.info"), exchange)
    async def information(message: str):
        await received.put(("info", message))

    @broker.subscriber(queue("#"), exchange)
    async def everything(message: str):
        await received.put(("all", message))

    async with broker:
        await broker.start()
        await broker.publish("one", exchange=exchange, routing_key="logs.info")
        equal(sorted([await received.get(), await received.get()]), [("all", "one"), ("info", "one")], "messages")
        await broker.publish("two", exchange=exchange, routing_key="logs.debug", headers={"a": 1}, priority=2, expiration=60)
        equal(await received.get(), ("all", "two"), "messages")


async def rejected_message_is_a_dead_letter():
    broker, received = broker_of(), asyncio.Queue()
    dead = RabbitQueue(fresh("faststream.dead"), auto_delete=True)
    queue = RabbitQueue(fresh("faststream.live"), auto_delete=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name, "x-message-ttl": 60000})

    @broker.subscriber(queue, ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(message: str):
        raise ValueError(message)

    @broker.subscriber(dead, ack_policy=AckPolicy.MANUAL)
    async def keep(body: str, message: RabbitMessage):
        await message.ack()
        await received.put((body, message.headers["x-death"][0]["reason"]))

    async with broker:
        await broker.start()
        await broker.publish("poison", queue=queue)
        equal(await received.get(), ("poison", "rejected"), "dead letter")


async def application_starts_and_stops():
    broker, started = broker_of(), asyncio.Event()
    application = FastStream(broker, logger=None)
    received = asyncio.Queue()
    queue = RabbitQueue(fresh("faststream.app"), auto_delete=True)

    @broker.subscriber(queue)
    async def handle(message: str):
        await received.put(message)

    @application.after_startup
    async def publish():
        await broker.publish("hello", queue=queue)
        started.set()

    running = asyncio.create_task(application.run())
    await started.wait()
    equal(await received.get(), "hello", "message")
    application.exit()
    await running


run_async(subscriber_gets_what_is_published, answer_goes_on_to_the_next_queue, request_is_answered,
          topic_exchange_with_two_subscribers, rejected_message_is_a_dead_letter, application_starts_and_stops)
