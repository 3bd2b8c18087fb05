// rabbitmq-client: acknowledgements, dispatch, lost connections, get, counts, transactions, confirms.
'use strict';
const { once } = require('node:events');
const { ConsumerStatus } = require('rabbitmq-client');
const { Inbox, assert, fresh, run, using } = require('./support/subjects');
const { connect, connected, consumerOf, cutTheWire, drain, exclusiveQueue, inboxOf } = require('./support/rabbitmq_client');

const numbers = (count) => Array.from({ length: count }, (_, number) => String(number));
const readyCount = async (channel, queue) => (await channel.queueDeclare({ queue, passive: true })).messageCount;

// One channel on one connection, both closed at the end.
const onChannel = (body) => connected(1, async (connection) => {
  const channel = await connection.acquire();
  await body(channel, connection);
  await channel.close();
});

async function fairDispatch() {
  await connected(3, async (producing, slow, quick) => {
    const [queue, held, done] = [fresh('task_queue'), new Inbox(), new Inbox()];
    let release;
    const released = new Promise((resolve) => (release = resolve));
    const options = { queue, queueOptions: { durable: true }, qos: { prefetchCount: 1 } };
    const hoarder = await consumerOf(slow, options, async (message) => {
      held.put(message.body);
      await released;
    });
    const worker = await consumerOf(quick, options, async (message) => done.put(message.body));
    const publisher = producing.createPublisher({ confirm: true });
    const tasks = numbers(12);
    for (const task of tasks) await publisher.send({ routingKey: queue, durable: true }, task);
    const first = await held.one();
    const finished = await done.take(tasks.length - 1);
    assert.equal(held.ready.length, 0);
    assert.deepEqual([first, ...finished].sort(), [...tasks].sort());
    release();
    for (const closable of [publisher, worker, hoarder]) await closable.close();
    assert.equal((await producing.queueDelete(queue)).messageCount, 0);
  });
}

async function handlersResultSettlesTheMessage() {
  await connected(1, async (connection) => {
    const [queue, inbox, results] = [fresh('settled'), new Inbox(), [ConsumerStatus.REQUEUE, ConsumerStatus.DROP, ConsumerStatus.ACK]];
    const consumer = await consumerOf(connection, { queue, qos: { prefetchCount: 1 } }, async (message) => {
      inbox.put(message);
      return results.shift();
    });
    const publisher = connection.createPublisher({ confirm: true });
    await publisher.send(queue, 'requeued, then dropped');
    const [first, second] = await inbox.take(2);
    assert.deepEqual([first.redelivered, second.redelivered], [false, true]);
    await publisher.send(queue, 'acknowledged');
    assert.equal((await inbox.one()).body, 'acknowledged');
    await consumer.close();
    await publisher.close();
    assert.equal((await connection.queueDelete(queue)).messageCount, 0);
  });
}

async function failingHandlerRequeues() {
  await connected(1, async (connection) => {
    const [queue, inbox] = [fresh('failing'), new Inbox()];
    const consumer = await consumerOf(connection, { queue, requeue: true, queueOptions: { exclusive: true } }, async (message) => {
      inbox.put(message);
      if (!message.redelivered) throw new Error('the handler failed');
    });
    const channel = await connection.acquire();
    await channel.basicPublish(queue, 'once more');
    assert.deepEqual((await inbox.take(2)).map(({ redelivered }) => redelivered), [false, true]);
    await channel.close();
    await consumer.close();
  });
}

async function nackMultiple() {
  await onChannel(async (channel) => {
    const queue = await exclusiveQueue(channel);
    for (const body of numbers(6)) await channel.basicPublish(queue, body);
    const inbox = await inboxOf(channel, queue);
    const messages = await inbox.take(6);
    await channel.basicCancel(inbox.consumerTag);
    channel.basicAck({ deliveryTag: messages[1].deliveryTag, multiple: true });
    channel.basicNack({ deliveryTag: messages[3].deliveryTag, multiple: true, requeue: true });
    assert.deepEqual(await drain(channel, queue), ['2', '3']);
    channel.basicNack({ deliveryTag: messages[5].deliveryTag, multiple: true, requeue: false });
    assert.deepEqual(await drain(channel, queue), []);
  });
}

async function redeliveryAfterALostConnection() {
  await onChannel(async (survivor) => {
    const queue = fresh('lost');
    await survivor.queueDeclare({ queue });
    await survivor.basicPublish(queue, 'unacknowledged');
    const doomed = await connect();
    const first = await (await inboxOf(await doomed.acquire(), queue)).one();
    const inbox = await inboxOf(survivor, queue);
    cutTheWire(doomed);
    const second = await inbox.one();
    assert.deepEqual([first.redelivered, second.redelivered, second.body], [false, true, 'unacknowledged']);
    survivor.basicAck(second);
    await survivor.queueDelete(queue);
  });
}

async function consumerAndPublisherRecover() {
  await connected(1, async (connection) => {
    const [queue, inbox] = [fresh('recovering'), new Inbox()];
    const consumer = await consumerOf(connection, { queue, queueOptions: { exclusive: true }, qos: { prefetchCount: 1 } }, async (message) => inbox.put(message.body));
    const publisher = connection.createPublisher({ confirm: true, maxAttempts: 3 });
    await publisher.send(queue, 'before the loss');
    assert.equal(await inbox.one(), 'before the loss');
    const ready = new Promise((resolve) => consumer.once('ready', resolve)); // events.once would throw the loss
    connection._socket.destroy(); // the library's public way ends the connection for good
    await ready;
    await publisher.send(queue, 'after the loss');
    assert.equal(await inbox.one(), 'after the loss');
    await publisher.close();
    await consumer.close();
  });
}

async function getAndCounts() {
  await onChannel(async (channel) => {
    const queue = fresh('counts');
    assert.deepEqual(await channel.queueDeclare({ queue }), { queue, messageCount: 0, consumerCount: 0 });
    assert.equal(await channel.basicGet(queue), undefined);
    for (const body of numbers(5)) await channel.basicPublish(queue, body);
    const message = await channel.basicGet(queue);
    assert.deepEqual([message.body, message.messageCount], ['0', 4]);
    channel.basicAck(message);
    assert.equal(await readyCount(channel, queue), 4);
    assert.equal((await channel.queuePurge(queue)).messageCount, 4);
    for (const body of numbers(2)) await channel.basicPublish(queue, body);
    assert.equal((await channel.queueDelete(queue)).messageCount, 2);
  });
}

async function transactions() {
  await onChannel(async (channel, connection) => {
    const observer = await connection.acquire();
    const queue = await exclusiveQueue(observer);
    await channel.txSelect();
    for (const body of ['one', 'two']) await channel.basicPublish(queue, body);
    assert.equal(await readyCount(observer, queue), 0);
    await channel.txCommit();
    assert.equal(await readyCount(observer, queue), 2);
    await channel.basicPublish(queue, 'never');
    await channel.txRollback();
    assert.deepEqual(await drain(observer, queue), ['one', 'two']);
    await observer.close();
  });
}

async function consumerCancel() {
  await onChannel(async (channel) => {
    const queue = await exclusiveQueue(channel);
    const inbox = await inboxOf(channel, queue, { noAck: true, consumerTag: 'mine' });
    assert.equal(inbox.consumerTag, 'mine');
    await channel.basicPublish(queue, 'while consuming');
    assert.equal((await inbox.one()).body, 'while consuming');
    await channel.basicCancel('mine');
    await channel.basicPublish(queue, 'after cancel');
    assert.deepEqual(await drain(channel, queue), ['after cancel']);
  });
}

async function brokerCancelsWhenTheQueueGoes() {
  await connected(2, async (consuming, deleting) => {
    const channel = await consuming.acquire();
    const { queue } = await channel.queueDeclare(fresh('doomed'));
    const { consumerTag } = await inboxOf(channel, queue);
    const cancelled = once(channel, 'basic.cancel');
    await deleting.queueDelete(queue);
    assert.equal((await cancelled)[0], consumerTag);
    await channel.close();
  });
}

async function aThousandConfirms() {
  await connected(1, async (connection) => {
    const queue = fresh('confirms');
    const publisher = connection.createPublisher({ confirm: true, queues: [{ queue, durable: true }] });
    for (let batch = 0; batch < 10; batch++) {
      await Promise.all(numbers(100).map((body) => publisher.send({ routingKey: queue, durable: true }, body)));
    }
    for (let number = 0; number < 200; number++) await publisher.send(queue, 'one by one');
    assert.equal((await connection.queueDelete(queue)).messageCount, 1200);
    await publisher.close();
  });
}

async function returnsComeBeforeTheirConfirms() {
  await connected(1, async (connection) => {
    const events = [];
    const publisher = connection.createPublisher({ confirm: true });
    publisher.on('basic.return', (message) => events.push(['returned', message.replyCode, message.body]));
    await publisher.send({ routingKey: fresh('nowhere'), mandatory: true }, 'a');
    // The library hands a return over one setImmediate after reading it, and a confirm at once.
    await new Promise(setImmediate);
    assert.deepEqual(events, [['returned', 312, 'a']]);
    await publisher.send({ routingKey: fresh('nowhere') }, 'dropped and confirmed');
    await publisher.close();
  });
}

async function heartbeatsKeepAnIdleConnection() {
  await using([connect({ heartbeat: 1 })], async (connection) => {
    const channel = await connection.acquire();
    const queue = await exclusiveQueue(channel);
    await new Promise((resolve) => setTimeout(resolve, 4000)); // the subject is time itself
    await channel.basicPublish(queue, 'awake');
    assert.deepEqual(await drain(channel, queue), ['awake']);
    await channel.close();
  });
}

run(fairDispatch, handlersResultSettlesTheMessage, failingHandlerRequeues, nackMultiple, redeliveryAfterALostConnection,
  consumerAndPublisherRecover, getAndCounts, transactions, consumerCancel, brokerCancelsWhenTheQueueGoes, aThousandConfirms,
  returnsComeBeforeTheirConfirms, heartbeatsKeepAnIdleConnection);
