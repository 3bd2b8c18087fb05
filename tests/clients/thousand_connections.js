// A thousand connections at once (amqplib): each has its exclusive queue, publishes to itself, and receives it.
'use strict';
const { assert, run } = require('./support/subjects');
const { connect, exclusiveQueue, inboxOf, quiet, text } = require('./support/amqplib');

const CONNECTIONS = 1000;
const HANDSHAKES_AT_ONCE = 50; // below any listen backlog: what is asked is how many live, not how many knock

// Runs `job` for 0..count with so many at once.
async function inParallel(count, atOnce, job) {
  let next = 0;
  const worker = async () => {
    while (next < count) await job(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

async function aThousandConnections() {
  const clients = [];
  await inParallel(CONNECTIONS, HANDSHAKES_AT_ONCE, async (number) => {
    const connection = await connect();
    const channel = await quiet((open) => open.createChannel())(connection);
    const queue = await exclusiveQueue(channel);
    clients[number] = { connection, channel, queue, inbox: await inboxOf(channel, queue) };
  });
  assert.equal(new Set(clients.map(({ queue }) => queue)).size, CONNECTIONS);
  for (const [number, { channel, queue }] of clients.entries()) channel.sendToQueue(queue, Buffer.from(`to ${number}`));
  for (const [number, { channel, inbox }] of clients.entries()) {
    const message = await inbox.one();
    assert.equal(text(message), `to ${number}`);
    channel.ack(message);
  }
  await inParallel(CONNECTIONS, HANDSHAKES_AT_ONCE, (number) => clients[number].connection.close());
}

run(aThousandConnections);
