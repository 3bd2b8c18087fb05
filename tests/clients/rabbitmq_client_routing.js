// rabbitmq-client: who gets a message, by its Publisher and Consumer and by raw channels.
'use strict';
const { Inbox, assert, fresh, run } = require('./support/subjects');
const { connected, consumerOf, drain, exclusiveQueue } = require('./support/rabbitmq_client');

// The README's quick start.
async function quickStart() {
  await connected(1, async (connection) => {
    const [queue, exchange, inbox] = [fresh('user-events'), fresh('my-events'), new Inbox()];
    const subscription = await consumerOf(connection, {
      queue, queueOptions: { durable: true }, qos: { prefetchCount: 2 }, exchanges: [{ exchange, type: 'topic' }],
      queueBindings: [{ exchange, routingKey: 'users.*' }],
    }, async (message) => inbox.put(message));
    const publisher = connection.createPublisher({ confirm: true, maxAttempts: 2, exchanges: [{ exchange, type: 'topic' }] });
    await publisher.send({ exchange, routingKey: 'users.visit' }, { id: 1, name: 'Alan Turing' });
    await publisher.send(queue, { id: 2, name: 'Grace Hopper' });
    const [first, second] = await inbox.take(2);
    assert.deepEqual([first.body, first.routingKey, first.redelivered], [{ id: 1, name: 'Alan Turing' }, 'users.visit', false]);
    assert.deepEqual(second.body, { id: 2, name: 'Grace Hopper' });
    await publisher.close();
    await subscription.close();
    assert.equal((await connection.queueDelete(queue)).messageCount, 0);
    await connection.exchangeDelete({ exchange });
  });
}

async function publishAndSubscribe() {
  await connected(4, async (publishing, ...subscribing) => {
    const exchange = fresh('logs');
    const subscribers = await Promise.all(subscribing.map(async (connection) => {
      const inbox = new Inbox();
      const consumer = await consumerOf(connection, {
        queue: '', noAck: true, queueOptions: { exclusive: true }, exchanges: [{ exchange, type: 'fanout', autoDelete: true }], queueBindings: [{ exchange }],
      }, inbox.put);
      assert.match(consumer.queue, /^amq\.gen/);
      return { inbox, consumer };
    }));
    const publisher = publishing.createPublisher({ confirm: true });
    const sent = Array.from({ length: 20 }, (_, number) => `info: ${number}`);
    for (const line of sent) await publisher.send({ exchange }, line);
    for (const { inbox } of subscribers) assert.deepEqual((await inbox.take(sent.length)).map(({ body }) => body), sent);
    await publisher.close();
    for (const { consumer } of subscribers) await consumer.close();
  });
}

async function routed(type, bindings, messages) {
  return connected(1, async (connection) => {
    const channel = await connection.acquire();
    await channel.confirmSelect();
    const exchange = fresh('routed');
    await channel.exchangeDeclare({ exchange, type, autoDelete: true });
    const got = {};
    for (const [label, binding] of Object.entries(bindings)) {
      got[label] = await exclusiveQueue(channel);
      await channel.queueBind({ exchange, queue: got[label], ...binding });
    }
    for (const [body, envelope] of messages) await channel.basicPublish({ exchange, ...envelope }, body);
    for (const label of Object.keys(got)) got[label] = await drain(channel, got[label]);
    await channel.close();
    return got;
  });
}

async function directRouting() {
  const severities = ['info', 'warning', 'error'];
  const got = await routed('direct', { info: { routingKey: 'info' }, error: { routingKey: 'error' } }, severities.map((key) => [key, { routingKey: key }]));
  assert.deepEqual(got, { info: ['info'], error: ['error'] });
}

async function topics() {
  const keys = ['quick.orange.rabbit', 'lazy.orange.elephant', 'lazy.brown.fox', 'quick.brown.fox', 'lazy', 'kern.critical', 'kern.a.b'];
  const bindings = Object.fromEntries(['*.orange.*', 'lazy.#', 'kern.*', '#'].map((pattern) => [pattern, { routingKey: pattern }]));
  assert.deepEqual(await routed('topic', bindings, keys.map((key) => [key, { routingKey: key }])), {
    '*.orange.*': ['quick.orange.rabbit', 'lazy.orange.elephant'],
    'lazy.#': ['lazy.orange.elephant', 'lazy.brown.fox', 'lazy'],
    'kern.*': ['kern.critical'],
    '#': keys,
  });
}

async function headersExchange() {
  const got = await routed('headers', {
    all: { arguments: { 'x-match': 'all', format: 'pdf', pages: 2 } },
    any: { arguments: { 'x-match': 'any', format: 'pdf', type: 'report' } },
  }, [['a', { format: 'pdf', pages: 2 }], ['b', { format: 'pdf' }], ['c', { type: 'report' }], ['d', { type: 'log' }]].map(([body, headers]) => [body, { headers }]));
  assert.deepEqual(got, { all: ['a'], any: ['a', 'b', 'c'] });
}

async function exchangeBoundToExchange() {
  await connected(1, async (connection) => {
    const channel = await connection.acquire();
    await channel.confirmSelect();
    const [source, destination] = [fresh('source'), fresh('destination')];
    await channel.exchangeDeclare({ exchange: source, type: 'topic', autoDelete: true });
    await channel.exchangeDeclare({ exchange: destination, type: 'fanout', autoDelete: true });
    const queue = await exclusiveQueue(channel);
    await channel.queueBind({ exchange: destination, queue });
    await channel.exchangeBind({ destination, source, routingKey: 'audit.#' });
    await channel.basicPublish({ exchange: source, routingKey: 'audit.login' }, 'yes');
    await channel.basicPublish({ exchange: source, routingKey: 'login' }, 'no');
    assert.deepEqual(await drain(channel, queue), ['yes']);
    await channel.exchangeUnbind({ destination, source, routingKey: 'audit.#' });
    await channel.close();
  });
}

// RPCClient knows direct reply-to only, so the callback queue is spelled out here.
async function rpcWithCallbackQueue() {
  await connected(2, async (serving, calling) => {
    const queue = fresh('rpc_queue');
    const server = await consumerOf(serving, { queue, queueOptions: { exclusive: true } }, async (request, reply) => reply(request.body ** 2));
    const channel = await calling.acquire();
    const replyTo = await exclusiveQueue(channel);
    const replies = new Inbox();
    await channel.basicConsume({ queue: replyTo, noAck: true }, replies.put);
    for (let number = 0; number < 10; number++) await channel.basicPublish({ routingKey: queue, replyTo, correlationId: `call-${number}` }, number);
    for (const reply of await replies.take(10)) assert.equal(reply.body, Number(reply.correlationId.slice(5)) ** 2);
    await channel.close();
    await server.close();
  });
}

// The README's RPC client, over amq.rabbitmq.reply-to. It forgets a reply that overtakes its request's confirm (5.0.8
// registers the request only after the confirm), so a confirm that dawdles shows here as RPC_TIMEOUT.
async function rpcClient() {
  await connected(2, async (serving, calling) => {
    const queue = fresh('my-rpc-queue');
    const server = await consumerOf(serving, { queue, queueOptions: { autoDelete: true } }, async (request, reply) => reply(`${request.body} pong`));
    const client = calling.createRPCClient({ confirm: true, timeout: 10_000 });
    const answers = await Promise.all(['ping', 'king', 'sing'].map((body) => client.send(queue, body)));
    assert.deepEqual(answers.map(({ body }) => body), ['ping pong', 'king pong', 'sing pong']);
    await client.close();
    await server.close();
  });
}

run(quickStart, publishAndSubscribe, directRouting, topics, headersExchange, exchangeBoundToExchange, rpcWithCallbackQueue, rpcClient);
