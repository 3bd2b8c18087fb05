// Helpers around amqplib's promise API.
'use strict';
const amqp = require('amqplib');
const { AMQP_URL, Inbox, assert, using } = require('./subjects');

async function connect(url = AMQP_URL, options = undefined) {
  const connection = await amqp.connect(url, options);
  connection.on('error', () => {});
  return connection;
}

// So many channels, each on a connection of its own, closed at the end.
function onChannels(count, body, open = (connection) => connection.createChannel()) {
  const opened = Array.from({ length: count }, () => connect());
  return using(opened, async (...connections) => body(...(await Promise.all(connections.map(quiet(open))))));
}

const onConfirmChannel = (body) => onChannels(1, body, (connection) => connection.createConfirmChannel());

// A channel's error reaches the promise that caused it; without a listener it would also end the process.
const quiet = (open) => async (connection) => {
  const channel = await open(connection);
  channel.on('error', () => {});
  return channel;
};

async function exclusiveQueue(channel) {
  return (await channel.assertQueue('', { exclusive: true })).queue;
}

async function inboxOf(channel, queue, options) {
  const inbox = new Inbox();
  inbox.consumerTag = (await channel.consume(queue, inbox.put, options)).consumerTag;
  return inbox;
}

const text = (message) => message.content.toString();

// All bodies that are ready in the queue, by basic.get.
async function drain(channel, queue) {
  const bodies = [];
  for (let message; (message = await channel.get(queue, { noAck: true })); ) bodies.push(text(message));
  return bodies;
}

// Opens a channel, expects the operation to close it with this reply code, and gives back the error.
async function closesChannel(connection, code, operation) {
  const channel = await connection.createChannel();
  const closed = new Promise((resolve) => channel.on('close', resolve));
  const error = await new Promise((resolve, reject) => {
    channel.on('error', resolve);
    operation(channel).then(() => reject(new Error('allowed')), () => {});
  });
  assert.equal(error.code, code);
  await closed;
  return error;
}

module.exports = { closesChannel, connect, drain, exclusiveQueue, inboxOf, onChannels, onConfirmChannel, quiet, text };
