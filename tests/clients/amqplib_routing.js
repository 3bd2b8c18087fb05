// amqplib, promise API: who gets a message (tutorials 1, 3, 4, 5 and 6, and the headers exchange).
'use strict';
const { Inbox, assert, fresh, run } = require('./support/subjects');
const { drain, exclusiveQueue, inboxOf, onChannels, onConfirmChannel, text } = require('./support/amqplib');

async function helloWorld() {
  await onChannels(2, async (sender, receiver) => {
    const queue = fresh('hello');
    await sender.assertQueue(queue, { durable: false });
    sender.sendToQueue(queue, Buffer.from('Hello World!'));
    await receiver.assertQueue(queue, { durable: false });
    const message = await (await inboxOf(receiver, queue, { noAck: true })).one();
    assert.equal(text(message), 'Hello World!');
    assert.equal(message.fields.redelivered, false);
    assert.equal(message.fields.routingKey, queue);
    await receiver.deleteQueue(queue);
  });
}

// The tutorials' way: nothing is awaited, and the broker has to take it all in order.
async function pipelinedWithoutAwaiting() {
  await onChannels(1, async (channel) => {
    const [queue, exchange] = [fresh('pipelined'), fresh('pipelined')];
    const inbox = new Inbox();
    channel.assertQueue(queue, { exclusive: true });
    channel.sendToQueue(queue, Buffer.from('first'));
    channel.consume(queue, inbox.put, { noAck: true });
    channel.assertExchange(exchange, 'fanout', { autoDelete: true });
    channel.bindQueue(queue, exchange, '');
    assert.equal(text(await inbox.one()), 'first');
    await channel.bindQueue(queue, exchange, '');
    channel.publish(exchange, '', Buffer.from('second'));
    for (let number = 0; number < 200; number++) channel.sendToQueue(queue, Buffer.from(String(number)));
    assert.deepEqual((await inbox.take(201)).map(text), ['second', ...Array.from({ length: 200 }, (_, number) => String(number))]);
  });
}

async function publishAndSubscribe() {
  await onChannels(4, async (publisher, ...subscribers) => {
    const exchange = fresh('logs');
    await publisher.assertExchange(exchange, 'fanout', { durable: false });
    const inboxes = await Promise.all(subscribers.map(async (channel) => {
      const queue = await exclusiveQueue(channel);
      assert.match(queue, /^amq\.gen/);
      await channel.bindQueue(queue, exchange, '');
      return inboxOf(channel, queue, { noAck: true });
    }));
    const sent = Array.from({ length: 20 }, (_, number) => `info: ${number}`);
    for (const line of sent) publisher.publish(exchange, '', Buffer.from(line));
    for (const inbox of inboxes) assert.deepEqual((await inbox.take(sent.length)).map(text), sent);
    await publisher.deleteExchange(exchange);
  });
}

// Declares an exchange and a queue per binding, publishes [body, key, headers], and tells what each queue got.
async function routed(type, bindings, messages) {
  return onConfirmChannel(async (channel) => {
    const { exchange } = await channel.assertExchange(fresh('routed'), type, { durable: false, autoDelete: true });
    const got = {};
    for (const [label, [pattern, table]] of Object.entries(bindings)) {
      got[label] = await exclusiveQueue(channel);
      await channel.bindQueue(got[label], exchange, pattern, table);
    }
    for (const [body, key, headers] of messages) channel.publish(exchange, key, Buffer.from(body), { headers });
    await channel.waitForConfirms();
    for (const label of Object.keys(got)) got[label] = await drain(channel, got[label]);
    return got;
  });
}

async function directRouting() {
  const got = await routed('direct', { info: ['info'], error: ['error'] }, ['info', 'warning', 'error'].map((key) => [key, key]));
  assert.deepEqual(got, { info: ['info'], error: ['error'] });
}

async function topics() {
  const keys = ['quick.orange.rabbit', 'lazy.orange.elephant', 'lazy.brown.fox', 'quick.brown.fox', 'lazy', 'kern.critical', 'kern.a.b'];
  const patterns = ['*.orange.*', 'lazy.#', 'kern.*', '#'];
  const got = await routed('topic', Object.fromEntries(patterns.map((pattern) => [pattern, [pattern]])), keys.map((key) => [key, key]));
  assert.deepEqual(got, {
    '*.orange.*': ['quick.orange.rabbit', 'lazy.orange.elephant'],
    'lazy.#': ['lazy.orange.elephant', 'lazy.brown.fox', 'lazy'],
    'kern.*': ['kern.critical'],
    '#': keys,
  });
}

async function headersExchange() {
  const got = await routed('headers', {
    all: ['', { 'x-match': 'all', format: 'pdf', pages: 2 }],
    any: ['', { 'x-match': 'any', format: 'pdf', type: 'report' }],
  }, [['a', '', { format: 'pdf', pages: 2 }], ['b', '', { format: 'pdf' }], ['c', '', { type: 'report' }], ['d', '', { type: 'log' }]]);
  assert.deepEqual(got, { all: ['a'], any: ['a', 'b', 'c'] });
}

async function exchangeBoundToExchange() {
  await onConfirmChannel(async (channel) => {
    const [source, destination] = [fresh('source'), fresh('destination')];
    await channel.assertExchange(source, 'topic', { autoDelete: true });
    await channel.assertExchange(destination, 'fanout', { autoDelete: true });
    const queue = await exclusiveQueue(channel);
    await channel.bindQueue(queue, destination, '');
    await channel.bindExchange(destination, source, 'audit.#');
    channel.publish(source, 'audit.login', Buffer.from('yes'));
    channel.publish(source, 'login', Buffer.from('no'));
    await channel.waitForConfirms();
    assert.deepEqual(await drain(channel, queue), ['yes']);
    await channel.unbindExchange(destination, source, 'audit.#');
  });
}

async function unbind() {
  await onConfirmChannel(async (channel) => {
    const { exchange } = await channel.assertExchange(fresh('unbind'), 'direct', { durable: false });
    const queue = await exclusiveQueue(channel);
    await channel.bindQueue(queue, exchange, 'key');
    await channel.unbindQueue(queue, exchange, 'key');
    channel.publish(exchange, 'key', Buffer.from('nowhere'));
    await channel.waitForConfirms();
    assert.deepEqual(await drain(channel, queue), []);
    await channel.deleteExchange(exchange, { ifUnused: true });
  });
}

// CC and BCC: amqplib has options for both. BCC is taken out of the headers before delivery.

async function rpc() {
  await onChannels(2, async (server, client) => {
    const requests = fresh('rpc_queue');
    await server.assertQueue(requests, { exclusive: true });
    server.prefetch(1);
    await server.consume(requests, (request) => {
      const number = Number(text(request));
      server.sendToQueue(request.properties.replyTo, Buffer.from(String(number * number)), { correlationId: request.properties.correlationId });
      server.ack(request);
    });
    const replyTo = await exclusiveQueue(client);
    const replies = await inboxOf(client, replyTo, { noAck: true });
    for (let number = 0; number < 10; number++) client.sendToQueue(requests, Buffer.from(String(number)), { correlationId: `call-${number}`, replyTo });
    for (const reply of await replies.take(10)) {
      assert.equal(Number(text(reply)), Number(reply.properties.correlationId.slice(5)) ** 2);
    }
  });
}

run(helloWorld, pipelinedWithoutAwaiting, publishAndSubscribe, directRouting, topics, headersExchange, exchangeBoundToExchange, unbind,
  rpc);
