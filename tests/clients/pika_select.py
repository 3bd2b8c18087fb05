"""pika, SelectConnection: the asynchronous publisher and consumer of pika's own documentation."""
import pika

from support.subjects import AMQP_URL, equal, fresh, run


class Asynchronous:
    """Opens a connection and a channel, calls `started(channel)`, and runs until `stop()`."""

    def __init__(self, url=AMQP_URL):
        self.failure = None
        self.connection = pika.SelectConnection(
            pika.URLParameters(url), on_open_callback=self._opened, on_open_error_callback=self._failed, on_close_callback=self._closed)
        self.stopping = False

    def run(self):
        self.connection.ioloop.start()
        if self.failure:
            raise self.failure

    def stop(self):
        self.stopping = True
        self.connection.close()

    def started(self, channel):
        raise NotImplementedError

    def _opened(self, connection):
        connection.channel(on_open_callback=self.started)

    def _failed(self, _connection, error):
        self.failure = error
        self.connection.ioloop.stop()

    def _closed(self, connection, reason):
        if not self.stopping:
            self.failure = reason
        connection.ioloop.stop()


class ExamplePublisherAndConsumer(Asynchronous):
    """Sets up exchange, queue and binding, publishes with confirms, consumes, cancels, closes."""

    COUNT = 1000

    def __init__(self):
        super().__init__()
        self.exchange, self.queue = fresh("message"), fresh("text")
        self.received, self.unconfirmed = [], set()

    def started(self, channel):
        self.channel = channel
        channel.exchange_declare(self.exchange, exchange_type="topic", callback=self.exchange_declared)

    def exchange_declared(self, _frame):
        self.channel.queue_declare(self.queue, auto_delete=True, callback=self.queue_declared)

    def queue_declared(self, frame):
        equal(frame.method.queue, self.queue, "queue")
        self.channel.queue_bind(self.queue, self.exchange, routing_key="example.text", callback=self.bound)

    def bound(self, _frame):
        self.channel.basic_qos(prefetch_count=100, callback=self.prefetch_set)

    def prefetch_set(self, _frame):
        self.channel.confirm_delivery(ack_nack_callback=self.on_confirm, callback=self.confirms_selected)

    def confirms_selected(self, _frame):
        self.tag = self.channel.basic_consume(self.queue, self.on_message)
        for number in range(1, self.COUNT + 1):
            self.unconfirmed.add(number)
            self.channel.basic_publish(self.exchange, "example.text", f"message {number}", pika.BasicProperties(content_type="text/plain"))

    def on_confirm(self, frame):
        assert isinstance(frame.method, pika.spec.Basic.Ack), frame
        settled = {n for n in self.unconfirmed if n <= frame.method.delivery_tag} if frame.method.multiple else {frame.method.delivery_tag}
        assert settled <= self.unconfirmed, f"confirmed twice: {settled - self.unconfirmed}"
        self.unconfirmed -= settled
        self.finish_when_done()

    def on_message(self, channel, method, _properties, body):
        self.received.append(body)
        channel.basic_ack(method.delivery_tag)
        self.finish_when_done()

    def finish_when_done(self):
        if len(self.received) == self.COUNT and not self.unconfirmed:
            self.channel.basic_cancel(self.tag, self.cancelled)

    def cancelled(self, _frame):
        self.channel.exchange_delete(self.exchange, callback=lambda _frame: self.stop())


def publisher_and_consumer():
    example = ExamplePublisherAndConsumer()
    example.run()
    equal(example.received, [f"message {n}".encode() for n in range(1, example.COUNT + 1)], "messages")


def returns_come_before_their_confirms():
    class Mandatory(Asynchronous):
        def started(self, channel):
            self.events = []
            channel.add_on_return_callback(self.on_return)
            channel.confirm_delivery(self.on_confirm)
            for number in range(1, 4):
                channel.basic_publish("", fresh("nowhere"), f"message {number}", mandatory=True)

        def on_return(self, _channel, method, _properties, body):
            equal(method.reply_code, 312, "reply code")
            self.events.append(("return", int(body.split()[1])))

        def on_confirm(self, frame):
            tag = frame.method.delivery_tag
            self.events.append(("confirm", tag))
            returned = {number for kind, number in self.events if kind == "return"}
            expected = set(range(1, tag + 1)) if frame.method.multiple else {tag}
            if not expected <= returned:
                self.failure = AssertionError(f"confirmed before returned: {self.events}")
            if tag == 3:
                self.stop()

    Mandatory().run()


def channel_error_leaves_the_connection():
    class Passive(Asynchronous):
        def started(self, channel):
            self.passed = False
            channel.add_on_close_callback(self.channel_closed)
            channel.queue_declare(fresh("nothing"), passive=True)

        def channel_closed(self, _channel, reason):
            equal(reason.reply_code, 404, "reply code")
            self.connection.channel(on_open_callback=self.second)

        def second(self, channel):
            channel.queue_declare("", exclusive=True, callback=self.declared)

        def declared(self, _frame):
            self.passed = True
            self.stop()

    example = Passive()
    example.run()
    assert example.passed


def consumer_cancelled_by_the_broker():
    class Cancelled(Asynchronous):
        def started(self, channel):
            self.queue, self.channel = fresh("doomed"), channel
            channel.add_on_cancel_callback(self.on_cancel)
            channel.queue_declare(self.queue, callback=lambda _frame: channel.basic_consume(
                self.queue, lambda *_arguments: None, callback=lambda _frame: channel.queue_delete(self.queue)))

        def on_cancel(self, _frame):
            self.stop()

    Cancelled().run()


run(publisher_and_consumer, returns_come_before_their_confirms, channel_error_leaves_the_connection,
    consumer_cancelled_by_the_broker)
