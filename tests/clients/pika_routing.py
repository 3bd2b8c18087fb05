"""pika, BlockingConnection: who gets a message (tutorials 1, 3, 4 and 5, and the headers exchange)."""
import pika

from support.blocking import Inbox, channel_of, drain, exclusive_queue
from support.subjects import equal, fresh, run


def hello_world():
    queue = fresh("hello")
    with channel_of() as sender, channel_of() as receiver:
        sender.queue_declare(queue=queue)
        sender.basic_publish(exchange="", routing_key=queue, body="Hello World!")
        receiver.queue_declare(queue=queue)
        inbox = Inbox(receiver, queue, auto_ack=True)
        method, _, body = inbox.wait_for(1)[0]
        equal(body, b"Hello World!", "body")
        equal((method.exchange, method.routing_key, method.redelivered), ("", queue, False), "delivery")
        equal(method.consumer_tag, inbox.tag, "consumer tag")
        receiver.queue_delete(queue)


def publish_and_subscribe():
    exchange = fresh("logs")
    with channel_of() as publisher, channel_of() as first, channel_of() as second, channel_of() as third:
        inboxes = []
        for subscriber in (first, second, third):
            subscriber.exchange_declare(exchange=exchange, exchange_type="fanout")
            queue = exclusive_queue(subscriber)
            assert queue.startswith("amq.gen"), f"server-named queue is called {queue}"
            subscriber.queue_bind(exchange=exchange, queue=queue)
            inboxes.append(Inbox(subscriber, queue, auto_ack=True))
        sent = [f"info: {number}".encode() for number in range(20)]
        for body in sent:
            publisher.basic_publish(exchange=exchange, routing_key="ignored", body=body)
        for inbox in inboxes:
            inbox.wait_for(len(sent))
            equal(inbox.bodies(), sent, "one subscriber's log")
        publisher.exchange_delete(exchange)


def direct_routing():
    exchange = fresh("direct_logs")
    with channel_of() as channel:
        channel.confirm_delivery()
        channel.exchange_declare(exchange=exchange, exchange_type="direct", auto_delete=True)
        errors, everything = exclusive_queue(channel), exclusive_queue(channel)
        channel.queue_bind(exchange=exchange, queue=errors, routing_key="error")
        for severity in ("info", "warning", "error"):
            channel.queue_bind(exchange=exchange, queue=everything, routing_key=severity)
        for severity in ("info", "error", "warning", "debug", "ERROR"):
            channel.basic_publish(exchange=exchange, routing_key=severity, body=severity)
        equal(drain(channel, errors), [b"error"], "the error log")
        equal(drain(channel, everything), [b"info", b"error", b"warning"], "the whole log")

        channel.queue_unbind(exchange=exchange, queue=everything, routing_key="info")
        channel.basic_publish(exchange=exchange, routing_key="info", body="after unbind")
        equal(drain(channel, everything), [], "the whole log after unbind")


def topics():
    patterns = {
        "*.orange.*": ["quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox"],
        "lazy.#": ["lazy.orange.elephant", "lazy.brown.fox", "lazy.pink.rabbit", "lazy", "lazy.a.b.c"],
        "*.*.rabbit": ["quick.orange.rabbit", "lazy.pink.rabbit"],
        "kern.*": ["kern.critical"],
        "*.critical": ["kern.critical"],
        "#": None,
        "#.c.#": ["lazy.a.b.c"],
    }
    keys = ["quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox", "lazy.pink.rabbit",
            "quick.brown.fox", "orange", "quick.orange.new.rabbit", "lazy", "lazy.a.b.c", "kern.critical", "kern", "kern.a.b", ""]
    exchange = fresh("topic_logs")
    with channel_of() as channel:
        channel.confirm_delivery()
        channel.exchange_declare(exchange=exchange, exchange_type="topic", auto_delete=True)
        queues = {}
        for pattern in patterns:
            queues[pattern] = exclusive_queue(channel)
            channel.queue_bind(exchange=exchange, queue=queues[pattern], routing_key=pattern)
        for key in keys:
            channel.basic_publish(exchange=exchange, routing_key=key, body=key)
        for pattern, expected in patterns.items():
            expected = keys if expected is None else expected
            equal(drain(channel, queues[pattern]), [key.encode() for key in expected], f"matches of {pattern}")


def two_matching_bindings_deliver_once():
    exchange = fresh("topic_once")
    with channel_of() as channel:
        channel.confirm_delivery()
        channel.exchange_declare(exchange=exchange, exchange_type="topic", auto_delete=True)
        queue = exclusive_queue(channel)
        for pattern in ("lazy.#", "*.orange.*", "lazy.orange.elephant"):
            channel.queue_bind(exchange=exchange, queue=queue, routing_key=pattern)
        channel.basic_publish(exchange=exchange, routing_key="lazy.orange.elephant", body="one")
        equal(drain(channel, queue), [b"one"], "copies")


def headers_exchange():
    exchange = fresh("headers")
    with channel_of() as channel:
        channel.confirm_delivery()
        channel.exchange_declare(exchange=exchange, exchange_type="headers", auto_delete=True)
        bindings = {
            "all": {"x-match": "all", "format": "pdf", "pages": 2},
            "any": {"x-match": "any", "format": "pdf", "type": "report"},
            "default is all": {"format": "zip", "type": "log"},
        }
        queues = {}
        for label, arguments in bindings.items():
            queues[label] = exclusive_queue(channel)
            channel.queue_bind(exchange=exchange, queue=queues[label], arguments=arguments)
        messages = {
            "a": {"format": "pdf", "pages": 2, "extra": True},
            "b": {"format": "pdf", "pages": 3},
            "c": {"format": "zip", "type": "report"},
            "d": {"format": "zip", "type": "log"},
            "e": {},
        }
        for body, headers in messages.items():
            channel.basic_publish(exchange=exchange, routing_key="", body=body, properties=pika.BasicProperties(headers=headers))
        channel.basic_publish(exchange=exchange, routing_key="", body="without headers")
        equal(drain(channel, queues["all"]), [b"a"], "x-match all")
        equal(drain(channel, queues["any"]), [b"a", b"b", b"c"], "x-match any")
        equal(drain(channel, queues["default is all"]), [b"d"], "no x-match")


def exchange_bound_to_exchange():
    source, destination = fresh("source"), fresh("destination")
    with channel_of() as channel:
        channel.confirm_delivery()
        channel.exchange_declare(exchange=source, exchange_type="topic", auto_delete=True)
        channel.exchange_declare(exchange=destination, exchange_type="fanout", auto_delete=True)
        queue = exclusive_queue(channel)
        channel.queue_bind(exchange=destination, queue=queue)
        channel.exchange_bind(destination=destination, source=source, routing_key="audit.#")
        channel.basic_publish(exchange=source, routing_key="audit.login", body="yes")
        channel.basic_publish(exchange=source, routing_key="login", body="no")
        equal(drain(channel, queue), [b"yes"], "through two exchanges")


def predeclared_exchanges():
    with channel_of() as channel:
        channel.confirm_delivery()
        for exchange in ("amq.direct", "amq.topic", "amq.fanout"):
            queue = exclusive_queue(channel)
            key = fresh("key")
            channel.queue_bind(exchange=exchange, queue=queue, routing_key=key)
            channel.basic_publish(exchange=exchange, routing_key=key, body=exchange)
            equal(drain(channel, queue), [exchange.encode()], exchange)


run(hello_world, publish_and_subscribe, direct_routing, topics, two_matching_bindings_deliver_once, headers_exchange,
    exchange_bound_to_exchange, predeclared_exchanges)
