"""dramatiq on its RabbitMQ broker: a worker by its command, delays, retries, dead letters (queues NAME, NAME.DQ and NAME.XQ)."""
import os
import time

from support.blocking import Inbox, channel_of, ready_count
from support.subjects import equal, fresh, run
from support.workers import worker

os.environ["DRAMATIQ_QUEUE"] = fresh("dramatiq")

from support.dramatiq_tasks import QUEUE, TOLD, broker, fail, say, too_late  # noqa: E402


class Told:
    """What the actors say, in order."""

    def __init__(self, channel):
        channel.queue_declare(TOLD)
        self.inbox, self.read = Inbox(channel, TOLD, auto_ack=True), 0

    def next(self, count):
        self.inbox.wait_for(self.read + count)
        texts = [body.decode() for body in self.inbox.bodies()[self.read:self.read + count]]
        self.read += count
        return texts


def messages_are_handled():
    with channel_of() as channel:
        told = Told(channel)
        say.send("hello")
        equal(told.next(1), ["hello"], "said")
        for number in range(50):
            say.send(str(number))
        equal(sorted(told.next(50), key=int), [str(number) for number in range(50)], "said")


def delayed_message_waits():
    with channel_of() as channel:
        told = Told(channel)
        begun = time.monotonic()
        say.send_with_options(args=("later",), delay=700)
        say.send("now")
        equal(told.next(2), ["now", "later"], "said")
        assert time.monotonic() - begun > 0.65, "before its time"


def failing_message_ends_as_a_dead_letter():
    with channel_of() as channel:
        told = Told(channel)
        fail.send("it")
        equal(told.next(3), ["it fails"] * 3, "said")
        while ready_count(channel, f"{QUEUE}.XQ") == 0:
            channel.connection.process_data_events(time_limit=0.05)
        _, properties, _ = channel.basic_get(f"{QUEUE}.XQ", auto_ack=True)
        equal(properties.headers["x-death"][0]["reason"], "rejected", "reason")


def outdated_message_is_a_dead_letter_too():
    with channel_of() as channel:
        Told(channel)
        too_late.send_with_options(delay=100)
        while ready_count(channel, f"{QUEUE}.XQ") == 0:
            channel.connection.process_data_events(time_limit=0.05)


def queue_is_flushed():
    broker.flush_all()
    with channel_of() as channel:
        for queue in (QUEUE, f"{QUEUE}.DQ", f"{QUEUE}.XQ"):
            equal(ready_count(channel, queue), 0, queue)


def clean_up():
    broker.close()
    with channel_of() as channel:
        for queue in (QUEUE, f"{QUEUE}.DQ", f"{QUEUE}.XQ", TOLD):
            channel.queue_delete(queue)


with worker("dramatiq", "support.dramatiq_tasks", "--processes", "1", "--threads", "2"):
    run(messages_are_handled, delayed_message_waits, failing_message_ends_as_a_dead_letter, outdated_message_is_a_dead_letter_too,
        queue_is_flushed, clean_up)
