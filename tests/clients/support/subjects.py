"""What every Python program here shares: where the broker is, fresh names, and the runner.

A subject is one small function. The runner prints its name as it passes; a failure names it, and
the program's exit code is 1. Every subject has a deadline, so that a silent broker can't hang a run.
"""
import asyncio
import os
import random
import signal
import sys
import traceback
import uuid
from urllib.parse import quote, urlsplit

AMQP_URL = os.environ["AMQP_URL"]
PATIENCE_SECONDS = 20


def fresh(label):
    """A name no earlier run has used, since a broker may remember durable things."""
    return f"clients.{label}.{uuid.uuid4().hex[:8]}"


def url_of(user=None, password=None, vhost="/"):
    """The broker's URL for another user (by default the same) or another vhost."""
    parts = urlsplit(AMQP_URL)
    login = f"{quote(user or parts.username or 'guest')}:{quote(password or parts.password or 'guest')}"
    return f"amqp://{login}@{parts.hostname}:{parts.port or 5672}/{quote(vhost, safe='')}"


def user_name():
    return urlsplit(AMQP_URL).username or "guest"


def bytes_of(size):
    """A body in which a lost, doubled or swapped piece shows."""
    return random.Random(size).randbytes(size)


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {_short(expected)}, got {_short(actual)}")


def run(*subjects):
    """Runs plain functions, each under an alarm that raises where it hangs."""
    signal.signal(signal.SIGALRM, _out_of_patience)

    def call(subject):
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
        try:
            subject()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    _run_all(subjects, call)


def run_async(*subjects):
    """Runs coroutine functions, each in an event loop of its own."""

    async def bounded(subject):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await subject()

    _run_all(subjects, lambda subject: asyncio.run(bounded(subject)))


def _run_all(subjects, call):
    failed = 0
    for subject in subjects:
        name = subject.__name__.replace("_", " ")
        try:
            call(subject)
            print(f"passed: {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED: {name}\n{traceback.format_exc()}", flush=True)
    sys.exit(1 if failed else 0)


def _out_of_patience(_signal, _frame):
    raise TimeoutError(f"nothing happened for {PATIENCE_SECONDS} s")


def _short(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"
