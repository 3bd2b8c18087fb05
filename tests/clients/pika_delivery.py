"""pika, BlockingConnection: acknowledgements, dispatch, get, counts, transactions, RPC (tutorials 2 and 6)."""
import multiprocessing
import uuid

import pika

from support.blocking import Inbox, channel_of, connected, drain, exclusive_queue, ready_count
from support.subjects import AMQP_URL, equal, fresh, run


def fair_dispatch():
    queue = fresh("task_queue")
    tasks = [f"task {number}".encode() for number in range(12)]
    with channel_of() as producer, channel_of() as slow, channel_of() as quick:
        for worker in (slow, quick):
            worker.queue_declare(queue=queue, durable=True)
            worker.basic_qos(prefetch_count=1)
        held = Inbox(slow, queue)
        done = []

        def work(channel, method, _properties, body):
            done.append(body)
            channel.basic_ack(delivery_tag=method.delivery_tag)

        quick.basic_consume(queue, work)
        for task in tasks:
            producer.basic_publish(exchange="", routing_key=queue, body=task,
                                   properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
        held.wait_for(1)
        while len(done) < len(tasks) - 1:
            quick.connection.process_data_events(time_limit=1)
        ready_count(slow, queue)  # a round trip: whatever was on its way to the slow worker is here now
        slow.connection.process_data_events(time_limit=0)
        equal(len(held.deliveries), 1, "tasks the slow worker was given")
        equal(sorted(done + held.bodies()), sorted(tasks), "tasks in all")
        slow.basic_ack(held.deliveries[0][0].delivery_tag)
        equal(slow.queue_delete(queue).method.message_count, 0, "left over")


def round_robin():
    with connected() as connection:
        queue = exclusive_queue(connection.channel())
        inboxes = [Inbox(connection.channel(), queue, auto_ack=True) for _ in range(3)]
        producer = connection.channel()
        for number in range(9):
            producer.basic_publish(exchange="", routing_key=queue, body=str(number))
        for inbox in inboxes:
            inbox.wait_for(3)
        equal(sorted(body for inbox in inboxes for body in inbox.bodies()), [b"%d" % n for n in range(9)], "all bodies")


def reject_and_requeue():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        inbox = Inbox(channel, queue)
        channel.basic_publish(exchange="", routing_key=queue, body="again")
        method = inbox.wait_for(1)[0][0]
        equal(method.redelivered, False, "first time")
        channel.basic_reject(method.delivery_tag, requeue=True)
        again, _, body = inbox.wait_for(2)[1]
        equal((body, again.redelivered), (b"again", True), "second time")
        channel.basic_ack(again.delivery_tag)


def reject_without_requeue():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        for body in ("bad", "good"):
            channel.basic_publish(exchange="", routing_key=queue, body=body)
        inbox = Inbox(channel, queue)
        channel.basic_reject(inbox.wait_for(2)[0][0].delivery_tag, requeue=False)
        channel.basic_nack(inbox.deliveries[1][0].delivery_tag, requeue=True)
        inbox.wait_for(3)
        equal(inbox.bodies(), [b"bad", b"good", b"good"], "deliveries")
        channel.basic_ack(inbox.deliveries[2][0].delivery_tag)
        equal(ready_count(channel, queue), 0, "left over")


def nack_and_ack_multiple():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        for number in range(6):
            channel.basic_publish(exchange="", routing_key=queue, body=str(number))
        tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(6)]
        channel.basic_ack(tags[1], multiple=True)
        channel.basic_nack(tags[3], multiple=True, requeue=True)
        for expected in ([b"2", b"3"], [b"4", b"5"]):
            returned = [channel.basic_get(queue, auto_ack=True) for _ in expected]
            equal([body for _, _, body in returned], expected, "back in their old order")
            equal([method.redelivered for method, _, _ in returned], [True, True], "redelivered flags")
            channel.basic_nack(0, multiple=True, requeue=True)  # 0: all that are still unacknowledged
        equal(channel.basic_get(queue), (None, None, None), "left over")


def ack_of_an_unknown_tag_closes_the_channel():
    with connected() as connection:
        channel = connection.channel()
        channel.basic_ack(delivery_tag=99)
        try:
            channel.queue_declare(queue="", exclusive=True)
            raise AssertionError("the channel survived")
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406, "reply code")


def _take_one_and_wait_for_death(queue, pipe):
    connection = pika.BlockingConnection(pika.URLParameters(AMQP_URL))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1)
    method, _, body = next(channel.consume(queue))
    pipe.send((method.redelivered, body))
    pipe.recv()


def worker_killed_before_its_ack():
    queue = fresh("killed")
    with channel_of() as survivor:
        survivor.queue_declare(queue=queue)
        survivor.basic_publish(exchange="", routing_key=queue, body="unacknowledged")
        here, there = multiprocessing.Pipe()
        worker = multiprocessing.get_context("fork").Process(target=_take_one_and_wait_for_death, args=(queue, there), daemon=True)
        worker.start()
        assert here.poll(10), "the worker got nothing"
        equal(here.recv(), (False, b"unacknowledged"), "the worker's delivery")
        inbox = Inbox(survivor, queue)
        worker.kill()
        method, _, body = inbox.wait_for(1)[0]
        equal((body, method.redelivered), (b"unacknowledged", True), "the survivor's delivery")
        survivor.basic_ack(method.delivery_tag)
        survivor.queue_delete(queue)


def channel_close_requeues():
    with connected() as connection:
        worker, other = connection.channel(), connection.channel()
        queue = exclusive_queue(other)
        other.basic_publish(exchange="", routing_key=queue, body="kept")
        Inbox(worker, queue).wait_for(1)
        worker.close()
        inbox = Inbox(other, queue, auto_ack=True)
        method, _, body = inbox.wait_for(1)[0]
        equal((body, method.redelivered), (b"kept", True), "after the channel's close")


def recover():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        channel.basic_publish(exchange="", routing_key=queue, body="recovered")
        inbox = Inbox(channel, queue)
        inbox.wait_for(1)
        channel.basic_recover(requeue=True)
        method = inbox.wait_for(2)[1][0]
        equal(method.redelivered, True, "redelivered")
        channel.basic_ack(method.delivery_tag)


def basic_get():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        equal(channel.basic_get(queue), (None, None, None), "get from an empty queue")
        for body in ("one", "two", "three"):
            channel.basic_publish(exchange="", routing_key=queue, body=body)
        method, _, body = channel.basic_get(queue)
        equal((body, method.message_count, method.redelivered, method.routing_key), (b"one", 2, False, queue), "first get")
        channel.basic_ack(method.delivery_tag)
        equal(drain(channel, queue), [b"two", b"three"], "the rest")


def purge_and_delete_counts():
    queue = fresh("counts")
    with channel_of() as channel:
        channel.confirm_delivery()  # a count may overtake publishes that aren't confirmed yet
        channel.queue_declare(queue=queue)
        for number in range(7):
            channel.basic_publish(exchange="", routing_key=queue, body=str(number))
        channel.basic_get(queue)  # one unacknowledged: a purge doesn't touch it
        equal(ready_count(channel, queue), 6, "declare-ok counts the ready ones")
        equal(channel.queue_purge(queue).method.message_count, 6, "purged")
        for number in range(3):
            channel.basic_publish(exchange="", routing_key=queue, body=str(number))
        inbox = Inbox(channel, queue, auto_ack=True)
        inbox.wait_for(3)
        declared = channel.queue_declare(queue=queue, passive=True).method
        equal((declared.message_count, declared.consumer_count), (0, 1), "messages and consumers")
        channel.basic_cancel(inbox.tag)
        for number in range(4):
            channel.basic_publish(exchange="", routing_key=queue, body=str(number))
        equal(ready_count(channel, queue), 4, "ready before the delete")
        channel.queue_delete(queue)


def delete_if_empty_and_if_unused():
    queue = fresh("conditions")
    with connected() as connection:
        channel = connection.channel()
        channel.queue_declare(queue=queue)
        channel.basic_publish(exchange="", routing_key=queue, body="still here")
        try:
            channel.queue_delete(queue, if_empty=True)
            raise AssertionError("a queue with a message was deleted")
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406, "reply code")
        channel = connection.channel()
        equal(channel.queue_delete(queue, if_unused=True).method.message_count, 1, "deleted with")


def transactions():
    with channel_of() as channel, channel_of() as observer:
        queue = fresh("tx")
        channel.queue_declare(queue=queue)
        channel.tx_select()
        for body in ("one", "two"):
            channel.basic_publish(exchange="", routing_key=queue, body=body)
        equal(ready_count(observer, queue), 0, "before the commit")
        channel.tx_commit()
        equal(ready_count(observer, queue), 2, "after the commit")
        channel.basic_publish(exchange="", routing_key=queue, body="never")
        channel.tx_rollback()
        channel.tx_commit()
        equal(ready_count(observer, queue), 2, "after the rollback")
        method, _, body = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        channel.tx_commit()
        equal((body, drain(observer, queue)), (b"one", [b"two"]), "an ack in a transaction")
        observer.queue_delete(queue)


def consumer_cancel():
    with channel_of() as channel:
        queue = exclusive_queue(channel)
        inbox = Inbox(channel, queue, auto_ack=True, consumer_tag="my-own-tag")
        equal(inbox.tag, "my-own-tag", "consumer tag")
        channel.basic_publish(exchange="", routing_key=queue, body="while consuming")
        inbox.wait_for(1)
        channel.basic_cancel(inbox.tag)
        channel.basic_publish(exchange="", routing_key=queue, body="after cancel")
        equal(drain(channel, queue), [b"after cancel"], "left in the queue")
        equal(inbox.bodies(), [b"while consuming"], "consumed")


def broker_cancels_when_the_queue_goes():
    queue = fresh("goes")
    with channel_of() as channel, channel_of() as other:
        channel.queue_declare(queue=queue)
        cancelled = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        inbox = Inbox(channel, queue)
        other.queue_delete(queue)
        while not cancelled:
            channel.connection.process_data_events(time_limit=1)
        equal(cancelled, [inbox.tag], "cancelled by the broker")
        assert channel.is_open


def exclusive_consumer():
    with connected() as connection:
        channel, other = connection.channel(), connection.channel()
        queue = exclusive_queue(channel)
        Inbox(channel, queue, exclusive=True)
        try:
            Inbox(other, queue)
            raise AssertionError("a second consumer beside an exclusive one")
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 403, "reply code")


def rpc():
    queue = fresh("rpc_queue")
    with connected() as connection:
        server, client = connection.channel(), connection.channel()
        server.queue_declare(queue=queue, exclusive=True)
        server.basic_qos(prefetch_count=1)

        def fibonacci_of(number):
            return number if number < 2 else fibonacci_of(number - 1) + fibonacci_of(number - 2)

        def answer(channel, method, properties, body):
            channel.basic_publish(exchange="", routing_key=properties.reply_to, body=str(fibonacci_of(int(body))),
                                  properties=pika.BasicProperties(correlation_id=properties.correlation_id))
            channel.basic_ack(method.delivery_tag)

        server.basic_consume(queue, answer)
        callback_queue = exclusive_queue(client)
        replies = Inbox(client, callback_queue, auto_ack=True)
        identifiers = {str(uuid.uuid4()): number for number in range(10)}
        for identifier, number in identifiers.items():
            client.basic_publish(exchange="", routing_key=queue, body=str(number),
                                 properties=pika.BasicProperties(reply_to=callback_queue, correlation_id=identifier))
        replies.wait_for(len(identifiers))
        answers = {properties.correlation_id: int(body) for _, properties, body in replies.deliveries}
        equal(answers, {identifier: fibonacci_of(number) for identifier, number in identifiers.items()}, "answers")


run(fair_dispatch, round_robin, reject_and_requeue, reject_without_requeue, nack_and_ack_multiple,
    ack_of_an_unknown_tag_closes_the_channel, worker_killed_before_its_ack, channel_close_requeues, recover, basic_get,
    purge_and_delete_counts, delete_if_empty_and_if_unused, transactions, consumer_cancel,
    broker_cancels_when_the_queue_goes, exclusive_consumer, rpc)
