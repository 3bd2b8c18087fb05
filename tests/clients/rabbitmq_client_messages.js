// rabbitmq-client: properties, headers, body sizes, vhosts, and errors that close a channel.
'use strict';
const { Connection } = require('rabbitmq-client');
const { assert, bytesOf, fresh, run, urlOf, userName, using } = require('./support/subjects');
const { closesChannel, connect, connected, drain, exclusiveQueue, inboxOf } = require('./support/rabbitmq_client');

async function roundTrip(connection, envelope, body) {
  const channel = await connection.acquire();
  const queue = await exclusiveQueue(channel);
  const inbox = await inboxOf(channel, queue, { noAck: true });
  await channel.basicPublish({ routingKey: queue, ...envelope }, body);
  const message = await inbox.one();
  await channel.close();
  return message;
}

async function messageProperties() {
  const properties = {
    contentType: 'application/octet-stream', contentEncoding: 'identity', headers: { trace: 'abc' }, priority: 5, correlationId: 'correlation-1',
    replyTo: 'somewhere', expiration: '600000', messageId: 'message-1', timestamp: 1700000000, type: 'order.created',
    userId: userName(), appId: 'clients', clusterId: 'cluster',
  };
  await connected(1, async (connection) => {
    const message = await roundTrip(connection, { ...properties, durable: true }, Buffer.from('{}'));
    for (const [name, value] of Object.entries(properties)) assert.deepEqual(message[name], value, name);
    assert.equal(message.durable, true);
    assert.deepEqual(message.body, Buffer.from('{}'));
  });
}

async function headersOfEveryType() {
  const headers = {
    string: 'plain', unicode: 'žlutý kůň 🐇 兎', empty: '', long: 'x'.repeat(5000), true: true, false: false, int8: -7, int16: 3000,
    int32: -(2 ** 31), int64: 2 ** 40, double: Math.PI, null: null, table: { inner: { innermost: { list: [1, 'two', null] } } },
    array: [1, 'two', false, null, { k: 'v' }, [['deep']]], 'empty table': {}, 'empty array': [], klíč: "a key that isn't ASCII",
  };
  await connected(1, async (connection) => {
    assert.deepEqual((await roundTrip(connection, { headers }, 'x')).headers, headers);
  });
}

async function bodiesAsTextAndJson() {
  await connected(1, async (connection) => {
    for (const body of ['žlutý kůň', { nested: [1, { two: null }] }, [1, 2, 3], 42]) {
      assert.deepEqual((await roundTrip(connection, {}, body)).body, body);
    }
  });
}

// The library counts the frames it expects as if each but the last were full, and itself fills
// frames 8 bytes further than frame_max allows; RabbitMQ suffers that.
async function bodySizes() {
  for (const frameMax of [8192, 131_072]) {
    const payloadMax = frameMax - 8;
    const sizes = [0, 1, payloadMax - 1, payloadMax, payloadMax + 1, frameMax - 1, frameMax, frameMax + 1, 2 * payloadMax, 1024 * 1024, 5 * 1024 * 1024];
    await using([connect({ frameMax })], async (connection) => {
      for (const size of sizes) {
        const { body } = await roundTrip(connection, {}, bytesOf(size));
        assert.ok(body.equals(bytesOf(size)), `body of ${size} bytes came as ${body.length}`);
      }
    });
  }
}

async function vhostsAreSeparateWorlds() {
  await using([connect(), connect({ url: urlOf({ user: 'alice', password: 'secret', vhost: 'orders' }) })], async (...connections) => {
    const queue = fresh('same-name');
    for (const [index, connection] of connections.entries()) {
      await connection.queueDeclare({ queue });
      const publisher = connection.createPublisher({ confirm: true });
      await publisher.send(queue, `for ${index}`);
      await publisher.close();
    }
    for (const [index, connection] of connections.entries()) {
      assert.deepEqual(await drain(connection, queue), [`for ${index}`]);
      await connection.queueDelete(queue);
    }
  });
}

async function unknownVhostAndWrongPassword() {
  const alice = { user: 'alice', password: 'secret' };
  for (const [changed, code] of [[{ vhost: 'no-such-vhost' }, 'NOT_ALLOWED'], [{ password: 'wrong' }, 'ACCESS_REFUSED']]) {
    const connection = new Connection({ url: urlOf({ ...alice, ...changed }) });
    // not events.once, which would throw what it is waiting for
    const error = await new Promise((resolve) => connection.once('error', resolve));
    assert.equal(error.code, code);
    connection.on('error', () => {});
    await connection.close();
  }
}

async function passiveDeclareOfNothing() {
  await connected(1, async (connection) => {
    await closesChannel(connection, 'NOT_FOUND', (channel) => channel.queueDeclare({ queue: fresh('nothing'), passive: true }));
    await closesChannel(connection, 'NOT_FOUND', (channel) => channel.exchangeDeclare({ exchange: fresh('nothing'), passive: true }));
    await closesChannel(connection, 'NOT_FOUND', (channel) => channel.basicGet(fresh('nothing')));
    assert.equal((await roundTrip(connection, {}, 'alive')).body, 'alive');
  });
}

async function inequivalentRedeclare() {
  await connected(1, async (connection) => {
    const name = fresh('redeclared');
    await connection.queueDeclare({ queue: name, autoDelete: true });
    await connection.exchangeDeclare({ exchange: name, type: 'direct', autoDelete: true });
    await closesChannel(connection, 'PRECONDITION_FAILED', (channel) => channel.queueDeclare({ queue: name, durable: true, autoDelete: true }));
    await closesChannel(connection, 'PRECONDITION_FAILED', (channel) => channel.exchangeDeclare({ exchange: name, type: 'topic', autoDelete: true }));
    await connection.queueDelete(name);
    await connection.exchangeDelete({ exchange: name });
  });
}

async function exclusiveQueueIsLocked() {
  await connected(2, async (owner, other) => {
    const { queue } = await owner.queueDeclare({ exclusive: true });
    await closesChannel(other, 'RESOURCE_LOCKED', (channel) => channel.queueDeclare({ queue, passive: true }));
  });
}

async function publishToAMissingExchange() {
  await connected(1, async (connection) => {
    await closesChannel(connection, 'NOT_FOUND', async (channel) => {
      await channel.confirmSelect();
      await channel.basicPublish({ exchange: fresh('missing') }, 'x');
    });
  });
}

run(messageProperties, headersOfEveryType, bodiesAsTextAndJson, bodySizes, vhostsAreSeparateWorlds, unknownVhostAndWrongPassword,
  passiveDeclareOfNothing, inequivalentRedeclare, exclusiveQueueIsLocked, publishToAMissingExchange);
