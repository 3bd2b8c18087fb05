// amqplib, promise API: properties, headers, body sizes, vhosts, and errors that close a channel.
'use strict';
const amqp = require('amqplib');
const { assert, bytesOf, fresh, run, urlOf, userName, using } = require('./support/subjects');
const { closesChannel, connect, drain, exclusiveQueue, inboxOf, onChannels, onConfirmChannel, text } = require('./support/amqplib');

async function messageProperties() {
  const properties = {
    contentType: 'application/json', contentEncoding: 'utf-8', headers: { trace: 'abc' }, priority: 5, correlationId: 'correlation-1',
    replyTo: 'somewhere', expiration: '600000', messageId: 'message-1', timestamp: 1700000000, type: 'order.created',
    userId: userName(), appId: 'clients',
  };
  await onChannels(1, async (channel) => {
    const queue = await exclusiveQueue(channel);
    const inbox = await inboxOf(channel, queue, { noAck: true });
    channel.sendToQueue(queue, Buffer.from('{}'), { ...properties, persistent: true });
    const message = await inbox.one();
    for (const [name, value] of Object.entries(properties)) assert.deepEqual({ ...message.properties }[name], value, name);
    assert.equal(message.properties.deliveryMode, 2);
  });
}

async function headersOfEveryType() {
  const typed = (type, value) => ({ '!': type, value });
  const asSent = {
    string: 'plain', unicode: 'žlutý kůň 🐇 兎', empty: '', long: 'x'.repeat(20_000), binary: Buffer.from([0, 255, 254]),
    true: true, false: false, int8: -7, int16: 3000, int32: -(2 ** 31), int64: 2 ** 40, double: Math.PI, null: null,
    timestamp: typed('timestamp', 1709208000), decimal: typed('decimal', { places: 2, digits: 314 }),
    table: { inner: { innermost: { list: [1, 'two', null] } } }, array: [1, 'two', false, null, { k: 'v' }, [['deep']]],
    'empty table': {}, 'empty array': [], klíč: "a key that isn't ASCII",
  };
  const converted = { uint8: [200], uint16: [65535], uint32: [2 ** 32 - 1], float: [1.5], int64: [2 ** 50], int8: [1] };
  const headers = { ...asSent };
  for (const [type, [value]] of Object.entries(converted)) headers[`explicit ${type}`] = typed(type, value);
  await onChannels(1, async (channel) => {
    const queue = await exclusiveQueue(channel);
    channel.sendToQueue(queue, Buffer.alloc(0), { headers });
    const received = (await channel.get(queue, { noAck: true })).properties.headers;
    assert.deepEqual(Object.keys(received).sort(), Object.keys(headers).sort());
    for (const [name, value] of Object.entries(asSent)) assert.deepEqual(received[name], value, name);
    for (const [type, [value]] of Object.entries(converted)) assert.equal(received[`explicit ${type}`], value, type);
  });
}

async function sizesPass(publisher, consumer, sizes) {
  const queue = await exclusiveQueue(consumer);
  const inbox = await inboxOf(consumer, queue, { noAck: true });
  for (const size of sizes) {
    const body = bytesOf(size);
    publisher.sendToQueue(queue, body);
    const message = await inbox.one();
    assert.ok(message.content.equals(body), `body of ${size} bytes came as ${message.content.length}`);
  }
}

async function bodySizes() {
  await onChannels(1, async (channel) => {
    const payloadMax = channel.connection.frameMax - 8; // a frame's own header and end take 8 bytes
    const sizes = [0, 1, payloadMax - 1, payloadMax, payloadMax + 1, 2 * payloadMax, 1024 * 1024, 5 * 1024 * 1024];
    await sizesPass(channel, channel, sizes);
  });
}

async function bodiesAreCutAnewForTheConsumersFrameSize() {
  await using([connect(urlOf({ query: '?frameMax=4096' })), connect(urlOf({ query: '?frameMax=131072' }))], async (...connections) => {
    const [narrow, wide] = await Promise.all(connections.map((connection) => connection.createChannel()));
    for (const [publisher, consumer] of [[narrow, wide], [wide, narrow]]) {
      await sizesPass(publisher, consumer, [4087, 4088, 4089, 8176, 131_064, 131_065, 300_000]);
    }
  });
}

async function vhostsAreSeparateWorlds() {
  const there = urlOf({ user: 'alice', password: 'secret', vhost: 'orders' });
  await using([connect(), connect(there)], async (...connections) => {
    const name = fresh('same-name');
    const channels = await Promise.all(connections.map((connection) => connection.createConfirmChannel()));
    for (const [index, channel] of channels.entries()) {
      await channel.assertQueue(name, { durable: false });
      channel.sendToQueue(name, Buffer.from(`for ${index}`));
      await channel.waitForConfirms();
    }
    for (const [index, channel] of channels.entries()) {
      assert.deepEqual(await drain(channel, name), [`for ${index}`]);
      await channel.deleteQueue(name);
    }
  });
}

async function unknownVhostAndWrongPassword() {
  const alice = { user: 'alice', password: 'secret' };
  await assert.rejects(amqp.connect(urlOf({ ...alice, vhost: 'no-such-vhost' })), /got <ConnectionClose/);
  await assert.rejects(amqp.connect(urlOf({ ...alice, password: 'wrong' })), /403|ACCESS.REFUSED/);
}

async function passiveDeclareOfNothing() {
  await using([connect()], async (connection) => {
    const error = await closesChannel(connection, 404, (channel) => channel.checkQueue(fresh('nothing')));
    assert.match(error.message, /NOT_FOUND - no queue/);
    await closesChannel(connection, 404, (channel) => channel.checkExchange(fresh('nothing')));
    await closesChannel(connection, 404, (channel) => channel.consume(fresh('nothing'), () => {}));
    await closesChannel(connection, 404, async (channel) => channel.bindQueue(await exclusiveQueue(channel), fresh('nothing'), ''));
    const channel = await connection.createChannel();
    const queue = await exclusiveQueue(channel);
    channel.sendToQueue(queue, Buffer.from('alive'));
    assert.deepEqual(await drain(channel, queue), ['alive']);
  });
}

async function inequivalentRedeclare() {
  await using([connect()], async (connection) => {
    const name = fresh('redeclared');
    const first = await connection.createChannel();
    await first.assertQueue(name, { durable: false, autoDelete: true });
    await first.assertExchange(name, 'direct', { durable: false, autoDelete: true });
    const error = await closesChannel(connection, 406, (channel) => channel.assertQueue(name, { durable: true, autoDelete: true }));
    assert.match(error.message, /inequivalent arg 'durable'/);
    await closesChannel(connection, 406, (channel) => channel.assertQueue(name, { durable: false, autoDelete: true, messageTtl: 1000 }));
    await closesChannel(connection, 406, (channel) => channel.assertExchange(name, 'topic', { durable: false, autoDelete: true }));
    await first.deleteQueue(name);
    await first.deleteExchange(name);
  });
}

async function exclusiveQueueIsLocked() {
  await using([connect(), connect()], async (owner, other) => {
    const queue = await exclusiveQueue(await owner.createChannel());
    await closesChannel(other, 405, (channel) => channel.checkQueue(queue));
  });
}

async function publishToAMissingExchange() {
  await using([connect()], async (connection) => {
    await closesChannel(connection, 404, async (channel) => {
      channel.publish(fresh('missing'), '', Buffer.from('x'));
      await channel.assertQueue('', { exclusive: true });
      await channel.assertQueue('', { exclusive: true });
    });
  });
}

// An expired and a rejected message reach the dead-letter queue, and tell why in x-death.

run(messageProperties, headersOfEveryType, bodySizes, bodiesAreCutAnewForTheConsumersFrameSize, vhostsAreSeparateWorlds,
  unknownVhostAndWrongPassword, passiveDeclareOfNothing, inequivalentRedeclare, exclusiveQueueIsLocked, publishToAMissingExchange);
