// Helpers around rabbitmq-client.
'use strict';
const { once } = require('node:events');
const { Connection } = require('rabbitmq-client');
const { AMQP_URL, Inbox, assert, using } = require('./subjects');

async function connect(options = {}) {
  const connection = new Connection({ url: AMQP_URL, retryLow: 50, retryHigh: 200, ...options });
  connection.on('error', () => {}); // what a lost connection or a closed channel also says to the operation at hand
  await connection.onConnect(10_000);
  return connection;
}

const connected = (count, body) => using(Array.from({ length: count }, () => connect()), body);

// A connection that ends without a word of AMQP.
function cutTheWire(connection) {
  connection.unsafeDestroy();
}

async function exclusiveQueue(channel) {
  return (await channel.queueDeclare({ exclusive: true })).queue;
}

// A raw channel's consumer.
async function inboxOf(channel, queue, options = {}) {
  const inbox = new Inbox();
  inbox.consumerTag = (await channel.basicConsume({ queue, ...options }, inbox.put)).consumerTag;
  return inbox;
}

// A Consumer of the library's own kind, ready.
async function consumerOf(connection, options, handler) {
  const consumer = connection.createConsumer(options, handler);
  consumer.on('error', () => {});
  await once(consumer, 'ready');
  return consumer;
}

async function drain(channel, queue) {
  const bodies = [];
  for (let message; (message = await channel.basicGet({ queue, noAck: true })); ) bodies.push(message.body);
  return bodies;
}

async function closesChannel(connection, code, operation) {
  const channel = await connection.acquire();
  await assert.rejects(operation(channel), { code });
  assert.equal(channel.active, false);
}

module.exports = { closesChannel, connect, connected, consumerOf, cutTheWire, drain, exclusiveQueue, inboxOf };
