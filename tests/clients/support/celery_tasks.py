"""The module that `celery -A support.celery_tasks worker` serves: Celery's first steps, with a queue for each run."""
import os
import signal

from celery import Celery

from support.subjects import AMQP_URL

app = Celery("tasks", broker=AMQP_URL, backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["CELERY_QUEUE"],
    control_exchange=os.environ["CELERY_QUEUE"] + ".pidbox",
    event_exchange=os.environ["CELERY_QUEUE"] + ".event",
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    result_expires=60,
)


@app.task
def add(x, y):
    return x + y


@app.task(acks_late=True, reject_on_worker_lost=True, bind=True)
def kill_own_process_once(self):
    """Takes its pool process down at its first delivery."""
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task(bind=True, max_retries=2, default_retry_delay=0.2)
def succeed_at_third_try(self):
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task
def fail():
    raise ValueError("as asked")
