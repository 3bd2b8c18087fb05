"""The module that `dramatiq support.dramatiq_tasks` serves: actors that tell what they did in a queue of their own."""
import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from support.blocking import channel_of
from support.subjects import AMQP_URL

QUEUE = os.environ["DRAMATIQ_QUEUE"]
TOLD = f"{QUEUE}.told"

broker = RabbitmqBroker(url=AMQP_URL, max_priority=10)
dramatiq.set_broker(broker)


def tell(text):
    with channel_of() as channel:
        channel.basic_publish("", TOLD, text.encode())


@dramatiq.actor(queue_name=QUEUE)
def say(text):
    tell(text)


@dramatiq.actor(queue_name=QUEUE, max_retries=2, min_backoff=100, max_backoff=200)
def fail(text):
    tell(f"{text} fails")
    raise ValueError("as asked")


@dramatiq.actor(queue_name=QUEUE, max_age=1)
def too_late():
    tell("an outdated message was handled")
