"""kombu: producers with a retry policy, consumers, mixins, simple queues, and arguments by kombu's own names."""
import socket
import threading

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.mixins import ConsumerMixin, ConsumerProducerMixin
from kombu.pools import producers

from support.subjects import AMQP_URL, equal, fresh, run

RETRY = {"interval_start": 0, "interval_step": 0.05, "interval_max": 0.2, "max_retries": 10}


def topology(label, kind="direct", **options):
    name = fresh(label)
    exchange = Exchange(name, type=kind, durable=True)
    return exchange, Queue(name, exchange, routing_key="video", **options)


def drain(connection, received, count):
    while len(received) < count:
        connection.drain_events(timeout=10)


def publish_and_consume():
    exchange, queue = topology("kombu")
    received = []
    with Connection(AMQP_URL) as connection:
        producer = connection.Producer(serializer="json")
        producer.publish({"name": "/tmp/lolcat1.avi", "size": 1301013}, exchange=exchange, routing_key="video",
                         declare=[queue], retry=True, retry_policy=RETRY)

        def keep(body, message):
            received.append(body)
            message.ack()

        with connection.Consumer(queue, callbacks=[keep], accept=["json"]):
            drain(connection, received, 1)
        equal(received, [{"name": "/tmp/lolcat1.avi", "size": 1301013}], "messages")
        queue(connection.default_channel).delete()
        exchange(connection.default_channel).delete()


def publish_is_retried_on_a_lost_connection():
    exchange, queue = topology("kombu.retry")
    with Connection(AMQP_URL, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer()
        lost = []
        for number in range(4):
            producer.publish(f"message {number}", exchange=exchange, routing_key="video", declare=[queue], retry=True,
                             retry_policy=RETRY | {"errback": lambda error, _interval: lost.append(error)})
            if number == 1:
                producer.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        simple = connection.SimpleQueue(queue)
        bodies = []
        for _ in range(4):
            message = simple.get(timeout=10)
            bodies.append(message.payload)
            message.ack()
        equal(bodies, [f"message {number}" for number in range(4)], "messages")
        assert lost, "the producer noticed nothing"
        simple.close()
        queue(connection.default_channel).delete()
        exchange(connection.default_channel).delete()


def producers_from_a_pool():
    exchange, queue = topology("kombu.pool")
    connection = Connection(AMQP_URL)
    with producers[connection].acquire(block=True) as producer:
        producer.publish("pooled", exchange=exchange, routing_key="video", declare=[queue], compression="zlib", priority=3)
        message = queue(producer.channel).get()
        equal((message.payload, message.properties["priority"]), ("pooled", 3), "message")
        message.ack()
        equal(queue(producer.channel).get(), None, "message")
        queue(producer.channel).delete()
        exchange(producer.channel).delete()
    producers[connection].force_close_all()


def arguments_by_their_names():
    dead = Queue(fresh("kombu.dead"))
    exchange, queue = topology("kombu.arguments", message_ttl=0.1, expires=60, max_length=2, max_priority=5, queue_arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name})
    received = []
    with Connection(AMQP_URL) as connection:
        channel = connection.channel()
        dead(channel).declare()
        producer = Producer(channel, exchange=exchange, routing_key="video")
        for number in range(3):
            producer.publish(f"message {number}", declare=[queue], expiration=30)
        with Consumer(channel, dead, callbacks=[lambda _body, message: received.append(message)], no_ack=True):
            drain(connection, received, 3)
        reasons = {message.headers["x-death"][0]["reason"] for message in received}
        equal(reasons, {"maxlen", "expired"}, "reasons")
        queue(channel).delete()
        dead(channel).delete()
        exchange(channel).delete()


def fanout_to_queues_of_ones_own():
    exchange = Exchange(fresh("kombu.fanout"), type="fanout", durable=False, auto_delete=True)
    received = []
    with Connection(AMQP_URL) as connection:
        consumers = []
        for _ in range(3):
            queue = Queue("", exchange, exclusive=True)
            consumers.append(Consumer(connection.channel(), queue, callbacks=[lambda body, _message: received.append(body)], no_ack=True))
        for consumer in consumers:
            consumer.consume()
        connection.Producer().publish("news", exchange=exchange)
        drain(connection, received, 3)
        equal(received, ["news"] * 3, "messages")


def mixin_comes_back_after_a_cut():
    exchange, queue = topology("kombu.mixin")

    class Worker(ConsumerMixin):
        def __init__(self, connection):
            self.connection, self.received, self.came = connection, [], threading.Semaphore(0)

        def get_consumers(self, consumer_class, _channel):
            return [consumer_class([queue], callbacks=[self.on_task], prefetch_count=1)]

        def on_task(self, body, message):
            self.received.append(body)
            message.ack()
            self.came.release()
            if body == "cut":
                message.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)

    with Connection(AMQP_URL) as connection, Connection(AMQP_URL) as sender:
        worker = Worker(connection)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        producer = sender.Producer(exchange=exchange, routing_key="video")
        for body in ("first", "cut", "third"):
            producer.publish(body, declare=[queue])
        # What was acknowledged in the same breath as the cut may come again.
        while "third" not in worker.received:
            assert worker.came.acquire(timeout=10), worker.received
        equal([body for at, body in enumerate(worker.received) if body not in worker.received[:at]], ["first", "cut", "third"], "messages")
        worker.should_stop = True
        thread.join(10)
        queue(sender.default_channel).delete()
        exchange(sender.default_channel).delete()


def request_and_reply():
    queue = Queue(fresh("kombu.rpc"))

    class Server(ConsumerProducerMixin):
        def __init__(self, connection):
            self.connection = connection

        def get_consumers(self, consumer_class, _channel):
            return [consumer_class(queues=[queue], on_message=self.on_request, accept={"json"}, prefetch_count=1)]

        def on_request(self, message):
            self.producer.publish({"result": message.payload["n"] * 2}, exchange="", routing_key=message.properties["reply_to"],
                                  correlation_id=message.properties["correlation_id"], serializer="json", retry=True)
            message.ack()

    with Connection(AMQP_URL) as connection, Connection(AMQP_URL) as asking:
        server = Server(connection)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        answers = []
        callback = Queue(fresh("kombu.answers"), exclusive=True, auto_delete=True)
        with asking.Producer() as producer:
            producer.publish({"n": 21}, exchange="", routing_key=queue.name, declare=[queue, callback], reply_to=callback.name,
                             correlation_id="c", serializer="json")
        with Consumer(asking, queues=[callback], callbacks=[lambda body, _message: answers.append(body)], no_ack=True):
            drain(asking, answers, 1)
        equal(answers, [{"result": 42}], "answers")
        server.should_stop = True
        thread.join(10)
        queue(asking.default_channel).delete()


run(publish_and_consume, publish_is_retried_on_a_lost_connection, producers_from_a_pool, arguments_by_their_names,
    fanout_to_queues_of_ones_own, mixin_comes_back_after_a_cut, request_and_reply)
