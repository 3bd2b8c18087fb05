"""pika, BlockingConnection: vhosts, logins, errors that close a channel, many channels, heartbeats."""
import time

import pika

from support.blocking import Inbox, channel_of, connected, drain, exclusive_queue
from support.subjects import bytes_of, equal, fresh, run, url_of


def refused(url):
    """The exception a connection attempt ends with."""
    try:
        with connected(url):
            raise AssertionError("let in")
    except pika.exceptions.AMQPConnectionError as error:
        return error


def vhosts_are_separate_worlds():
    name = fresh("same-name")
    with channel_of() as here, channel_of(url_of("alice", "secret", "orders")) as there:
        for channel in (here, there):
            channel.confirm_delivery()
            channel.queue_declare(queue=name)
            channel.exchange_declare(exchange=name, exchange_type="fanout")
            channel.queue_bind(exchange=name, queue=name)
        here.basic_publish(exchange=name, routing_key="", body="for /")
        there.basic_publish(exchange=name, routing_key="", body="for orders")
        equal(drain(here, name), [b"for /"], "in /")
        equal(drain(there, name), [b"for orders"], "in orders")
        here.queue_delete(name)
        equal(there.queue_declare(queue=name, passive=True).method.queue, name, "still in orders")
        for channel in (here, there):
            channel.queue_delete(name)
            channel.exchange_delete(name)


def unknown_vhost():
    error = refused(url_of("alice", "secret", "no-such-vhost"))
    assert "530" in repr(error) or isinstance(error, pika.exceptions.ProbableAccessDeniedError), repr(error)


def wrong_password():
    error = refused(url_of("alice", "wrong"))
    assert isinstance(error, (pika.exceptions.ProbableAuthenticationError, pika.exceptions.AuthenticationError)), repr(error)


def passive_declare_of_nothing():
    with connected() as connection:
        for declare in (lambda channel: channel.queue_declare(fresh("nothing"), passive=True),
                        lambda channel: channel.exchange_declare(fresh("nothing"), passive=True)):
            channel = connection.channel()
            try:
                declare(channel)
                raise AssertionError("found")
            except pika.exceptions.ChannelClosedByBroker as closed:
                equal(closed.reply_code, 404, "reply code")
                assert closed.reply_text.startswith("NOT_FOUND - no "), closed.reply_text
            assert channel.is_closed and connection.is_open
        queue = exclusive_queue(channel := connection.channel())
        channel.basic_publish(exchange="", routing_key=queue, body="alive")
        Inbox(channel, queue, auto_ack=True).wait_for(1)


def inequivalent_redeclare():
    queue, exchange = fresh("queue"), fresh("exchange")
    with connected() as connection:
        first = connection.channel()
        first.queue_declare(queue=queue, auto_delete=True)
        first.queue_declare(queue=queue, auto_delete=True)
        first.exchange_declare(exchange=exchange, exchange_type="direct", auto_delete=True)
        for declare in (lambda channel: channel.queue_declare(queue, durable=True, auto_delete=True),
                        lambda channel: channel.queue_declare(queue, auto_delete=True, arguments={"x-max-length": 3}),
                        lambda channel: channel.exchange_declare(exchange, exchange_type="topic", auto_delete=True)):
            try:
                declare(connection.channel())
                raise AssertionError("redeclared")
            except pika.exceptions.ChannelClosedByBroker as closed:
                equal(closed.reply_code, 406, "reply code")
                assert "inequivalent arg" in closed.reply_text, closed.reply_text
        assert first.is_open
        first.queue_delete(queue)
        first.exchange_delete(exchange)


def exclusive_queue_is_locked_and_goes_with_its_connection():
    queue = fresh("exclusive")
    with connected() as other:
        with channel_of() as owner:
            owner.queue_declare(queue=queue, exclusive=True)
            try:
                other.channel().queue_declare(queue=queue, exclusive=True)
                raise AssertionError("shared an exclusive queue")
            except pika.exceptions.ChannelClosedByBroker as closed:
                equal(closed.reply_code, 405, "reply code")
        try:
            other.channel().queue_declare(queue=queue, passive=True)
            raise AssertionError("outlived its connection")
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 404, "reply code")


def auto_delete():
    queue, exchange = fresh("auto-queue"), fresh("auto-exchange")
    with connected() as connection:
        channel = connection.channel()
        channel.queue_declare(queue=queue, auto_delete=True)
        channel.exchange_declare(exchange=exchange, exchange_type="fanout", auto_delete=True)
        channel.queue_bind(exchange=exchange, queue=queue)
        channel.basic_cancel(Inbox(channel, queue).tag)
        for declare in (lambda other: other.queue_declare(queue, passive=True),
                        lambda other: other.exchange_declare(exchange, passive=True)):
            try:
                declare(connection.channel())
                raise AssertionError("outlived its last consumer")
            except pika.exceptions.ChannelClosedByBroker as closed:
                equal(closed.reply_code, 404, "reply code")


def fifty_channels_side_by_side():
    with connected() as connection:
        channels = [connection.channel() for _ in range(50)]
        equal(len({channel.channel_number for channel in channels}), 50, "channel numbers")
        names = [exclusive_queue(channel) for channel in channels]
        bodies = [bytes_of(10_000 + number) for number in range(50)]
        for channel, name, body in zip(channels, names, bodies):
            channel.basic_publish(exchange="", routing_key=name, body=body)
        for channel, name, body in zip(reversed(channels), reversed(names), reversed(bodies)):
            equal(drain(channel, name), [body], "one channel's message")


def server_properties_name_the_capabilities():
    with connected(client_properties={"connection_name": "pika with a name", "nested": {"a": [1, 2]}}) as connection:
        properties = connection._impl.server_properties
        capabilities = properties["capabilities"]
        for capability in ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "exchange_exchange_bindings"):
            equal(capabilities[capability], True, capability)
        assert properties["product"] and properties["version"], properties


def heartbeats_keep_an_idle_connection():
    with connected(heartbeat=1) as connection:
        channel = connection.channel()
        queue = exclusive_queue(channel)
        until = time.monotonic() + 4  # the subject is time itself: both ends would give up after two missed seconds
        while time.monotonic() < until:
            connection.process_data_events(time_limit=0.5)
        channel.basic_publish(exchange="", routing_key=queue, body="awake")
        equal(drain(channel, queue), [b"awake"], "after four idle seconds")


run(vhosts_are_separate_worlds, unknown_vhost, wrong_password, passive_declare_of_nothing, inequivalent_redeclare,
    exclusive_queue_is_locked_and_goes_with_its_connection, auto_delete, fifty_channels_side_by_side,
    server_properties_name_the_capabilities, heartbeats_keep_an_idle_connection)
