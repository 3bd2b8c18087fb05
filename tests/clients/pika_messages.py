"""pika, BlockingConnection: properties, headers, body sizes, and publisher confirms (tutorial 7)."""
from datetime import datetime, timezone
from decimal import Decimal

import pika

from support.blocking import Inbox, channel_of, connected, drain, exclusive_queue, ready_count
from support.subjects import bytes_of, equal, fresh, run, user_name

PROPERTY_NAMES = ("content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to",
                  "expiration", "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id")


def message_properties():
    sent = pika.BasicProperties(
        content_type="application/json", content_encoding="utf-8", headers={"trace": "abc"}, delivery_mode=2, priority=5,
        correlation_id="correlation-1", reply_to="somewhere", expiration="600000", message_id="message-1",
        timestamp=1700000000, type="order.created", user_id=user_name(), app_id="clients", cluster_id="cluster")
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        channel.basic_publish(exchange="", routing_key=queue, body="{}", properties=sent)
        _, received, _ = Inbox(channel, queue, auto_ack=True).wait_for(1)[0]
        for name in PROPERTY_NAMES:
            equal(getattr(received, name), getattr(sent, name), name)


def absent_properties_stay_absent():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        channel.basic_publish(exchange="", routing_key=queue, body="bare")
        _, received, _ = channel.basic_get(queue, auto_ack=True)
        equal({name: getattr(received, name) for name in PROPERTY_NAMES}, dict.fromkeys(PROPERTY_NAMES), "properties")


def headers_of_every_type():
    headers = {
        "string": "plain", "unicode": "žlutý kůň 🐇 兎", "empty": "", "long": "x" * 20_000,
        "bytes": b"\x00\xff\xfe binary", "true": True, "false": False, "small": 7, "negative": -7,
        "int32": 2**31 - 1, "int64": 2**62, "int64 negative": -(2**62), "decimal": Decimal("3.14"), "null": None,
        "time": datetime(2024, 2, 29, 12, 0, 0, tzinfo=timezone.utc),
        "table": {"inner": {"innermost": {"list": [1, "two", None]}}, "": "empty key"},
        "array": [1, "two", False, None, {"k": "v"}, [["deep"]], b"\x00"], "empty table": {}, "empty array": [],
        "klíč": "a key that isn't ASCII",
    }
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        channel.basic_publish(exchange="", routing_key=queue, body="", properties=pika.BasicProperties(headers=headers))
        _, received, _ = Inbox(channel, queue, auto_ack=True).wait_for(1)[0]
        equal(sorted(received.headers), sorted(headers), "keys")
        for name, value in headers.items():
            equal(received.headers[name], value, f"header {name}")


def somebody_elses_user_id_is_refused():
    with connected() as connection:
        channel = connection.channel()
        queue = exclusive_queue(channel)
        channel.confirm_delivery()
        try:
            channel.basic_publish(exchange="", routing_key=queue, body="", properties=pika.BasicProperties(user_id="mallory"))
            raise AssertionError("accepted")
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406, "reply code")


def body_sizes():
    with connected() as connection:
        channel = connection.channel()
        payload_max = connection._impl.params.frame_max - 8  # a frame's own header and end take 8 bytes
        queue = exclusive_queue(channel)
        inbox = Inbox(channel, queue, auto_ack=True)
        for size in (0, 1, payload_max - 1, payload_max, payload_max + 1, payload_max + 8, 2 * payload_max, 2 * payload_max + 1,
                     1024 * 1024, 5 * 1024 * 1024):
            body = bytes_of(size)
            channel.basic_publish(exchange="", routing_key=queue, body=body)
            inbox.wait_for(1)
            assert inbox.bodies() == [body], f"body of {size} bytes came as {[len(other) for other in inbox.bodies()]}"
            inbox.deliveries.clear()


def bodies_are_cut_anew_for_the_consumers_frame_size():
    with channel_of() as wide, channel_of(frame_max=4096) as narrow:
        for publisher, consumer in ((wide, narrow), (narrow, wide)):
            queue = exclusive_queue(consumer)
            inbox = Inbox(consumer, queue, auto_ack=True)
            bodies = [bytes_of(size) for size in (4087, 4088, 4089, 8176, 100_000, 300_000)]
            for body in bodies:
                publisher.basic_publish(exchange="", routing_key=queue, body=body)
            inbox.wait_for(len(bodies))
            equal([len(body) for body in inbox.bodies()], [len(body) for body in bodies], "sizes")
            assert inbox.bodies() == bodies, "contents"


def a_thousand_confirms_in_a_row():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        channel.confirm_delivery()
        for number in range(1000):
            channel.basic_publish(exchange="", routing_key=queue, body=str(number), mandatory=True)
        equal(ready_count(channel, queue), 1000, "in the queue")
        equal(drain(channel, queue)[::333], [b"0", b"333", b"666", b"999"], "in order")


def confirms_of_persistent_messages():
    queue = fresh("durable")
    with channel_of() as channel:
        channel.queue_declare(queue=queue, durable=True)
        channel.confirm_delivery()
        for number in range(50):
            channel.basic_publish(exchange="", routing_key=queue, body=str(number), properties=pika.BasicProperties(delivery_mode=2))
        equal(ready_count(channel, queue), 50, "in the queue")
        channel.queue_delete(queue)


def unroutable_messages():
    with channel_of() as channel:
        channel.confirm_delivery()
        nowhere = fresh("nowhere")
        channel.basic_publish(exchange="", routing_key=nowhere, body="dropped and confirmed")
        try:
            channel.basic_publish(exchange="", routing_key=nowhere, body="handed back", mandatory=True,
                                  properties=pika.BasicProperties(message_id="m", headers={"k": "v"}))
            raise AssertionError("a mandatory message to nowhere was taken")
        except pika.exceptions.UnroutableError as error:
            (returned,) = error.messages
        equal((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"), "reason")
        equal((returned.method.exchange, returned.method.routing_key), ("", nowhere), "address")
        equal((returned.body, returned.properties.message_id, returned.properties.headers), (b"handed back", "m", {"k": "v"}), "content")
        queue = exclusive_queue(channel)
        channel.basic_publish(exchange="", routing_key=queue, body="still works", mandatory=True)


def publish_to_a_missing_exchange():
    with connected() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            channel.basic_publish(exchange=fresh("missing"), routing_key="", body="")
            raise AssertionError("a message to a missing exchange was taken")
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 404, "reply code")
        assert connection.channel().is_open


run(message_properties, absent_properties_stay_absent, headers_of_every_type, somebody_elses_user_id_is_refused, body_sizes,
    bodies_are_cut_anew_for_the_consumers_frame_size, a_thousand_confirms_in_a_row, confirms_of_persistent_messages,
    unroutable_messages, publish_to_a_missing_exchange)
