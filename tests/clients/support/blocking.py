"""Helpers around pika's BlockingConnection."""
from contextlib import contextmanager

import pika

from support.subjects import AMQP_URL


@contextmanager
def connected(url=AMQP_URL, **settings):
    """A connection that is closed at the end, unless the subject has lost it by then."""
    parameters = pika.URLParameters(url)
    for name, value in settings.items():
        setattr(parameters, name, value)
    connection = pika.BlockingConnection(parameters)
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


@contextmanager
def channel_of(url=AMQP_URL, **settings):
    with connected(url, **settings) as connection:
        yield connection.channel()


class Inbox:
    """A consumer that keeps what it is given: (method, properties, body) for each delivery."""

    def __init__(self, channel, queue, **options):
        self.channel = channel
        self.deliveries = []
        self.tag = channel.basic_consume(queue, self._keep, **options)

    def _keep(self, _channel, method, properties, body):
        self.deliveries.append((method, properties, body))

    def wait_for(self, count):
        """Drives the connection until so many deliveries are here; the subject's alarm bounds it."""
        while len(self.deliveries) < count:
            self.channel.connection.process_data_events(time_limit=1)
        return self.deliveries

    def bodies(self):
        return [body for _, _, body in self.deliveries]


def drain(channel, queue):
    """All bodies that are ready in the queue, by basic.get."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def exclusive_queue(channel):
    """A server-named queue, as the tutorials declare their temporary ones."""
    return channel.queue_declare(queue="", exclusive=True).method.queue


def ready_count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count
