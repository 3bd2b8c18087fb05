// amqplib, promise API: acknowledgements, dispatch, lost connections, get, counts, confirms (tutorials 2 and 7).
'use strict';
const amqp = require('amqplib');
const { once } = require('node:events');
const { AMQP_URL, Inbox, assert, fresh, run, urlOf, using } = require('./support/subjects');
const { connect, drain, exclusiveQueue, inboxOf, onChannels, onConfirmChannel, text } = require('./support/amqplib');

const numbers = (count) => Array.from({ length: count }, (_, number) => String(number));

async function fairDispatch() {
  await onChannels(3, async (producer, slow, quick) => {
    const queue = fresh('task_queue');
    for (const worker of [slow, quick]) {
      await worker.assertQueue(queue, { durable: true });
      await worker.prefetch(1);
    }
    const held = await inboxOf(slow, queue);
    const done = new Inbox();
    await quick.consume(queue, (message) => {
      done.put(text(message));
      quick.ack(message);
    });
    const tasks = numbers(12);
    for (const task of tasks) producer.sendToQueue(queue, Buffer.from(task), { persistent: true });
    const first = await held.one();
    const finished = await done.take(tasks.length - 1);
    await slow.checkQueue(queue); // a round trip: whatever was on its way to the slow worker is here now
    assert.equal(held.ready.length, 0);
    assert.deepEqual([text(first), ...finished].sort(), [...tasks].sort());
    slow.ack(first);
    assert.equal((await slow.deleteQueue(queue)).messageCount, 0);
  });
}

async function rejectAndRequeue() {
  await onChannels(1, async (channel) => {
    const queue = await exclusiveQueue(channel);
    const inbox = await inboxOf(channel, queue);
    channel.sendToQueue(queue, Buffer.from('again'));
    const first = await inbox.one();
    channel.reject(first, true);
    const second = await inbox.one();
    assert.deepEqual([first.fields.redelivered, second.fields.redelivered, text(second)], [false, true, 'again']);
    channel.ack(second);
  });
}

async function rejectWithoutRequeue() {
  await onChannels(1, async (channel) => {
    const queue = await exclusiveQueue(channel);
    for (const body of ['bad', 'good']) channel.sendToQueue(queue, Buffer.from(body));
    channel.reject(await channel.get(queue), false);
    assert.deepEqual(await drain(channel, queue), ['good']);
  });
}

async function nackMultiple() {
  await onChannels(1, async (channel) => {
    const queue = await exclusiveQueue(channel);
    for (const body of numbers(7)) channel.sendToQueue(queue, Buffer.from(body));
    const messages = [];
    for (let number = 0; number < 7; number++) messages.push(await channel.get(queue));
    channel.ack(messages[1], true);
    channel.nack(messages[3], true, true);
    assert.deepEqual(await drain(channel, queue), ['2', '3']);
    channel.nackAll(true);
    assert.deepEqual(await drain(channel, queue), ['4', '5', '6']);
  });
}

async function recover() {
  await onChannels(1, async (channel) => {
    const queue = await exclusiveQueue(channel);
    const inbox = await inboxOf(channel, queue);
    channel.sendToQueue(queue, Buffer.from('recovered'));
    await inbox.one();
    await channel.recover();
    const message = await inbox.one();
    assert.equal(message.fields.redelivered, true);
    channel.ackAll();
  });
}

async function redeliveryAfterALostConnection() {
  await onChannels(1, async (survivor) => {
    const queue = fresh('lost');
    await survivor.assertQueue(queue, { durable: false });
    survivor.sendToQueue(queue, Buffer.from('unacknowledged'));
    const doomed = await connect();
    const first = await (await inboxOf(await doomed.createChannel(), queue)).one();
    const inbox = await inboxOf(survivor, queue);
    doomed.connection.stream.destroy(new Error('the cable is pulled'));
    const second = await inbox.one();
    assert.deepEqual([first.fields.redelivered, second.fields.redelivered, text(second)], [false, true, 'unacknowledged']);
    survivor.ack(second);
    await survivor.deleteQueue(queue);
  });
}

async function channelCloseRequeues() {
  await using([connect()], async (connection) => {
    const [worker, other] = [await connection.createChannel(), await connection.createChannel()];
    const queue = await exclusiveQueue(other);
    other.sendToQueue(queue, Buffer.from('kept'));
    await (await inboxOf(worker, queue)).one();
    await worker.close();
    const message = await (await inboxOf(other, queue)).one();
    assert.equal(message.fields.redelivered, true);
    other.ack(message);
  });
}

async function getAndCounts() {
  await onChannels(1, async (channel) => {
    const queue = fresh('counts');
    assert.deepEqual(await channel.assertQueue(queue), { queue, messageCount: 0, consumerCount: 0 });
    assert.equal(await channel.get(queue), false);
    for (const body of numbers(5)) channel.sendToQueue(queue, Buffer.from(body));
    const message = await channel.get(queue);
    assert.deepEqual([text(message), message.fields.messageCount], ['0', 4]);
    channel.ack(message);
    assert.deepEqual(await channel.checkQueue(queue), { queue, messageCount: 4, consumerCount: 0 });
    assert.equal((await channel.purgeQueue(queue)).messageCount, 4);
    for (const body of numbers(2)) channel.sendToQueue(queue, Buffer.from(body));
    assert.equal((await channel.deleteQueue(queue)).messageCount, 2);
  });
}

async function consumerCancel() {
  await onChannels(1, async (channel) => {
    const queue = await exclusiveQueue(channel);
    const inbox = await inboxOf(channel, queue, { noAck: true, consumerTag: 'mine' });
    assert.equal(inbox.consumerTag, 'mine');
    channel.sendToQueue(queue, Buffer.from('while consuming'));
    assert.equal(text(await inbox.one()), 'while consuming');
    await channel.cancel('mine');
    channel.sendToQueue(queue, Buffer.from('after cancel'));
    assert.deepEqual(await drain(channel, queue), ['after cancel']);
  });
}

// amqplib hands null to a consumer that the broker has cancelled.
async function brokerCancelsWhenTheQueueGoes() {
  await onChannels(2, async (channel, other) => {
    const queue = fresh('doomed');
    await channel.assertQueue(queue);
    const inbox = await inboxOf(channel, queue);
    await other.deleteQueue(queue);
    assert.equal(await inbox.one(), null);
  });
}

async function aThousandConfirms() {
  await onConfirmChannel(async (channel) => {
    const queue = fresh('confirms');
    await channel.assertQueue(queue, { durable: true });
    for (let batch = 0; batch < 10; batch++) {
      for (let number = 0; number < 100; number++) channel.sendToQueue(queue, Buffer.from(String(100 * batch + number)), { persistent: true });
      await channel.waitForConfirms();
      assert.equal((await channel.checkQueue(queue)).messageCount, 100 * (batch + 1));
    }
    assert.deepEqual(await drain(channel, queue), numbers(1000));
    await channel.deleteQueue(queue);
  });
}

async function everyPublishHasItsConfirm() {
  await onConfirmChannel(async (channel) => {
    const queue = await exclusiveQueue(channel);
    const confirm = () => new Promise((resolve, reject) => {
      channel.sendToQueue(queue, Buffer.from('x'), {}, (error) => (error ? reject(error) : resolve()));
    });
    await Promise.all(Array.from({ length: 1000 }, confirm));
    for (let number = 0; number < 200; number++) await confirm();
    assert.equal((await channel.checkQueue(queue)).messageCount, 1200);
  });
}

async function returnsComeBeforeTheirConfirms() {
  await onConfirmChannel(async (channel) => {
    const events = [];
    channel.on('return', (message) => events.push(['returned', message.fields.replyCode, text(message)]));
    for (const body of ['a', 'b']) {
      await new Promise((resolve) => channel.sendToQueue(fresh('nowhere'), Buffer.from(body), { mandatory: true }, () => {
        events.push(['confirmed', body]);
        resolve();
      }));
    }
    assert.deepEqual(events, [['returned', 312, 'a'], ['confirmed', 'a'], ['returned', 312, 'b'], ['confirmed', 'b']]);
  });
}

// The library's opt-in recovery: `setup` runs after every connect, and consumes anew.
async function recoveringConnection() {
  const inbox = new Inbox();
  const [queue, models] = [fresh('recovering'), []];
  const setup = async (model) => {
    models.push(model);
    const channel = await model.createChannel();
    await channel.assertQueue(queue, { exclusive: true });
    await channel.consume(queue, inbox.put, { noAck: true });
  };
  const recovery = { initialDelay: 50, maxDelay: 200, setup };
  await using([amqp.connect(AMQP_URL, { recovery })], async (connection) => {
    connection.on('error', () => {});
    const reconnected = new Promise((resolve) => connection.on('connect', () => resolve()));
    models[0].connection.stream.destroy(new Error('the cable is pulled'));
    await reconnected;
    (await connection.createChannel()).sendToQueue(queue, Buffer.from('after the loss'));
    assert.equal(text(await inbox.one()), 'after the loss');
  });
}

async function heartbeatsKeepAnIdleConnection() {
  await using([connect(urlOf({ query: '?heartbeat=1' }))], async (connection) => {
    const channel = await connection.createChannel();
    const queue = await exclusiveQueue(channel);
    // The subject is time itself: both ends would give up after two missed seconds.
    const lost = once(connection, 'close').then(() => assert.fail('the connection was lost'));
    await Promise.race([lost, new Promise((resolve) => setTimeout(resolve, 4000))]);
    channel.sendToQueue(queue, Buffer.from('awake'));
    assert.deepEqual(await drain(channel, queue), ['awake']);
    connection.removeAllListeners('close');
  });
}

run(fairDispatch, rejectAndRequeue, rejectWithoutRequeue, nackMultiple, recover, redeliveryAfterALostConnection, channelCloseRequeues,
  getAndCounts, consumerCancel, brokerCancelsWhenTheQueueGoes, aThousandConfirms, everyPublishHasItsConfirm,
  returnsComeBeforeTheirConfirms, recoveringConnection, heartbeatsKeepAnIdleConnection);
