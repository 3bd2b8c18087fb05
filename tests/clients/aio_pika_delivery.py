"""aio-pika: acknowledgements, dispatch, lost connections, get, counts, transactions, confirms (tutorials 2 and 7)."""
import asyncio

import aio_pika
from aio_pika import DeliveryMode, Message

from support.asynchronous import Inbox, Relay, channels, declared, drain, ready_count, send
from support.subjects import AMQP_URL, equal, fresh, run_async


async def fair_dispatch():
    async with channels(3) as (producer, slow, quick):
        name = fresh("task_queue")
        for worker in (slow, quick):
            await worker.set_qos(prefetch_count=1)
        held = await Inbox.of(await slow.declare_queue(name, durable=True))
        queue = await quick.declare_queue(name, durable=True)
        done = asyncio.Queue()

        async def work(message):
            async with message.process():
                await done.put(message.body)

        await queue.consume(work)
        tasks = [b"task %d" % number for number in range(12)]
        await send(producer, queue, *tasks, delivery_mode=DeliveryMode.PERSISTENT)
        first = await held.get()
        finished = [await done.get() for _ in range(len(tasks) - 1)]
        await ready_count(slow, queue)  # a round trip: whatever was on its way to the slow worker is here now
        equal(held.qsize(), 0, "tasks hoarded by the slow worker")
        equal(sorted([first.body, *finished]), sorted(tasks), "tasks in all")
        await first.ack()
        await slow.queue_delete(name)


async def reject_and_requeue():
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        inbox = await Inbox.of(queue)
        await send(channel, queue, b"again")
        first = await inbox.get()
        await first.reject(requeue=True)
        second = await inbox.get()
        equal((first.redelivered, second.redelivered, second.body), (False, True, b"again"), "deliveries")
        await second.ack()


async def reject_without_requeue():
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        await send(channel, queue, b"bad", b"good")
        await (await queue.get()).reject(requeue=False)
        try:
            async with (await queue.get()).process(requeue=True):
                raise RuntimeError("the handler failed")
        except RuntimeError:
            pass
        last = await queue.get()
        equal((last.body, last.redelivered), (b"good", True), "requeued by a failing handler")
        await last.ack()
        equal(await ready_count(channel, queue), 0, "left over")


async def nack_multiple():
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        bodies = [b"%d" % number for number in range(6)]
        await send(channel, queue, *bodies)
        messages = [await queue.get() for _ in bodies]
        await messages[1].ack(multiple=True)
        await messages[4].nack(multiple=True, requeue=True)
        equal(await drain(queue), bodies[2:5], "requeued by one nack")
        await messages[5].nack(requeue=False)


async def redelivery_after_a_lost_connection():
    async with Relay() as relay, channels() as (survivor,):
        queue = await survivor.declare_queue(fresh("lost"), auto_delete=False)
        await send(survivor, queue, b"unacknowledged")
        doomed = await aio_pika.connect(relay.url)
        channel = await doomed.channel()
        first = await (await Inbox.of(await channel.get_queue(queue.name))).get()
        inbox = await Inbox.of(queue)
        relay.cut()
        second = await inbox.get()
        equal((first.redelivered, second.redelivered, second.body), (False, True, b"unacknowledged"), "deliveries")
        await second.ack()
        await queue.delete(if_unused=False)


async def robust_connection_recovers():
    """connect_robust comes back with its exclusive queue, binding, prefetch and consumer declared again."""
    async with Relay() as relay:
        connection = await aio_pika.connect_robust(relay.url, reconnect_interval=0.05)
        recovered = asyncio.Event()
        connection.reconnect_callbacks.add(lambda *_arguments: recovered.set())
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=1)
            exchange = await channel.declare_exchange(fresh("robust"), auto_delete=True)
            queue = await channel.declare_queue(fresh("robust"), exclusive=True)
            await queue.bind(exchange, "key")
            inbox = await Inbox.of(queue)
            await exchange.publish(Message(b"before"), "key")
            equal((await inbox.get()).body, b"before", "before the loss")
            relay.cut()
            await recovered.wait()
            await exchange.publish(Message(b"after"), "key")
            message = await inbox.get()
            equal(message.body, b"after", "after the loss")
            await message.ack()


async def basic_get_and_counts():
    async with channels() as (channel,):
        queue = await channel.declare_queue(fresh("counts"))
        equal(await queue.get(fail=False), None, "get from an empty queue")
        await send(channel, queue, *(b"%d" % number for number in range(5)))
        message = await queue.get()
        equal((message.body, message.message_count, message.redelivered), (b"0", 4, False), "first get")
        await message.ack()
        counts = await declared(channel, queue)
        equal((counts.message_count, counts.consumer_count), (4, 0), "declare-ok")
        equal((await queue.purge()).message_count, 4, "purged")
        await send(channel, queue, b"a", b"b")
        equal((await queue.delete(if_empty=False)).message_count, 2, "deleted with")


async def transactions():
    async with channels(publisher_confirms=False) as (channel,), channels() as (observer,):
        queue = await channel.declare_queue(fresh("tx"))
        async with channel.transaction():
            await send(channel, queue, b"one", b"two")
            equal(await ready_count(observer, queue), 0, "before the commit")
        equal(await ready_count(observer, queue), 2, "after the commit")
        transaction = channel.transaction()
        await transaction.select()
        await send(channel, queue, b"never")
        await transaction.rollback()
        equal(await ready_count(observer, queue), 2, "after the rollback")
        await observer.queue_delete(queue.name)


async def consumer_cancel():
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        inbox = await Inbox.of(queue, no_ack=True)
        await send(channel, queue, b"while consuming")
        equal((await inbox.get()).body, b"while consuming", "consumed")
        await queue.cancel(inbox.tag)
        await send(channel, queue, b"after cancel")
        equal((await drain(queue), inbox.qsize()), ([b"after cancel"], 0), "left in the queue")


async def iterator_gives_back_what_it_prefetched():
    async with channels(2) as (channel, other):
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue(fresh("iterator"))
        await send(channel, queue, *(b"%d" % number for number in range(10)))
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                if message.body == b"2":
                    break
        await channel.close()
        again = await other.get_queue(queue.name)
        equal(await drain(again), [b"%d" % number for number in range(3, 10)], "left in the queue")
        await again.delete()


async def a_thousand_confirms_at_once():
    async with channels() as (channel,):
        queue = await channel.declare_queue(fresh("confirms"), durable=True)
        messages = [Message(b"%d" % number, delivery_mode=DeliveryMode.PERSISTENT) for number in range(1000)]
        for batch in (messages[:500], messages[500:]):
            confirms = await asyncio.gather(*(channel.default_exchange.publish(message, queue.name) for message in batch))
            equal({type(confirm).__name__ for confirm in confirms}, {"Ack"}, "answers")
        equal(await drain(queue), [message.body for message in messages], "messages in their order")
        await queue.delete()


async def confirms_one_by_one():
    async with channels() as (channel,):
        queue = await channel.declare_queue(exclusive=True)
        for number in range(1000):
            await channel.default_exchange.publish(Message(b"%d" % number), queue.name)
        equal(await ready_count(channel, queue), 1000, "in the queue")


async def unroutable_messages():
    async with channels(on_return_raises=True) as (channel,), channels() as (lenient,):
        try:
            await channel.default_exchange.publish(Message(b"to nowhere"), fresh("nowhere"))
            raise AssertionError("a mandatory message to nowhere was taken")
        except aio_pika.exceptions.DeliveryError as error:
            equal((error.message.delivery.reply_code, error.message.body), (312, b"to nowhere"), "returned")
        returned = await lenient.default_exchange.publish(Message(b"handed back"), fresh("nowhere"))
        equal(returned.body, b"handed back", "returned")
        confirm = await lenient.default_exchange.publish(Message(b"dropped"), fresh("nowhere"), mandatory=False)
        equal(type(confirm).__name__, "Ack", "not mandatory")


async def heartbeats_keep_an_idle_connection():
    connection = await aio_pika.connect(AMQP_URL + ("&" if "?" in AMQP_URL else "?") + "heartbeat=1")
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await asyncio.sleep(4)  # the subject is time itself: both ends would give up after two missed seconds
        await send(channel, queue, b"awake")
        equal(await drain(queue), [b"awake"], "after four idle seconds")


run_async(fair_dispatch, reject_and_requeue, reject_without_requeue, nack_multiple, redelivery_after_a_lost_connection,
          robust_connection_recovers, basic_get_and_counts, transactions, consumer_cancel, iterator_gives_back_what_it_prefetched,
          a_thousand_confirms_at_once, confirms_one_by_one, unroutable_messages, heartbeats_keep_an_idle_connection)
