"""Celery: a prefork worker as its user guide starts one, late acknowledgement, ETA, retries, remote control, results by rpc."""
import os
import time
from datetime import UTC, datetime, timedelta

from support.subjects import equal, fresh, run
from support.workers import worker

os.environ["CELERY_QUEUE"] = fresh("celery")

from celery.result import ResultSet  # noqa: E402
from support.celery_tasks import add, app, fail, kill_own_process_once, succeed_at_third_try  # noqa: E402


def inspect(timeout=5):
    """Asks the one worker there is; what it says first is all that it says."""
    return app.control.inspect(timeout=timeout, limit=1)


def worker_answers_to_ping():
    while not (answers := inspect(timeout=0.5).ping()):
        pass
    equal(list(answers.values()), [{"ok": "pong"}], "answers")


def result_comes_back():
    equal(add.delay(4, 4).get(timeout=10), 8, "sum")


def failure_comes_back():
    result = fail.delay()
    result.get(timeout=10, propagate=False)
    equal((result.state, str(result.result)), ("FAILURE", "as asked"), "outcome")


def many_results_at_once():
    results = ResultSet([add.delay(number, number) for number in range(200)])
    equal(results.join(timeout=20), [2 * number for number in range(200)], "sums")


def task_with_an_eta_runs_then():
    due = datetime.now(UTC) + timedelta(seconds=1)
    results = [add.apply_async((number, 1), eta=due) for number in range(5)] + [add.apply_async((5, 1), countdown=1)]
    begun = time.monotonic()
    equal([result.get(timeout=10) for result in results], [1, 2, 3, 4, 5, 6], "sums")
    assert time.monotonic() - begun > 0.9, "they ran before their time"


def task_that_expires_is_not_run():
    add.apply_async((1, 1), countdown=0.5)
    result = add.apply_async((1, 2), countdown=0.5, expires=0.1)
    equal(result.get(timeout=10, propagate=False).__class__.__name__, "TaskRevokedError", "result")


def task_is_retried():
    equal(succeed_at_third_try.delay().get(timeout=10), 2, "retries")


def task_acknowledged_late_survives_its_process():
    equal(kill_own_process_once.delay().get(timeout=15), "survived", "result")


def remote_control():
    (queues,) = inspect().active_queues().values()
    equal([queue["name"] for queue in queues], [os.environ["CELERY_QUEUE"]], "queues")
    result = add.apply_async((1, 1), countdown=30)
    while not any(inspect().scheduled().values()):
        pass
    app.control.revoke(result.id)
    ((scheduled,),) = [list(inspect().revoked().values())]
    assert result.id in scheduled, scheduled
    app.control.add_consumer(fresh("celery.more"), reply=True, timeout=5, limit=1)
    # It answers before it does so.
    while len(next(iter(inspect().active_queues().values()))) < 2:
        pass


def queue_is_purged_and_deleted():
    app.control.cancel_consumer(os.environ["CELERY_QUEUE"], reply=True, timeout=5, limit=1)
    for _ in range(3):
        add.delay(1, 1)
    equal(app.control.purge(), 3, "purged")
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete(os.environ["CELERY_QUEUE"])


with worker("celery", "-A", "support.celery_tasks", "worker", "--loglevel=WARNING", "--concurrency=2"):
    run(worker_answers_to_ping, result_comes_back, failure_comes_back, many_results_at_once, task_with_an_eta_runs_then,
        task_that_expires_is_not_run, task_is_retried, task_acknowledged_late_survives_its_process, remote_control,
        queue_is_purged_and_deleted)
