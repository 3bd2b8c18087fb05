// Rascal on amqplib: an application from its configuration, with retries delayed by dead letters, replies and shovels.
'use strict';
const Rascal = require('rascal');
const { AMQP_URL, Inbox, assert, fresh, run } = require('./support/subjects');

// The configuration that Rascal's documentation gives for limited, delayed retries.
function configuration(name) {
  return Rascal.withDefaultConfig({
    vhosts: {
      v1: {
        connection: { url: AMQP_URL, management: undefined },
        publicationChannelPools: { confirmPool: { max: 2, min: 1 } },
        exchanges: {
          [`${name}.service`]: { type: 'topic' },
          [`${name}.delay`]: { type: 'direct' },
          [`${name}.retry`]: { type: 'direct' },
          [`${name}.dead`]: { type: 'fanout' },
        },
        queues: {
          [`${name}.work`]: { options: { arguments: { 'x-dead-letter-exchange': `${name}.dead`, 'x-dead-letter-routing-key': `${name}.work` } } },
          [`${name}.delay.200ms`]: { options: { arguments: { 'x-message-ttl': 200, 'x-dead-letter-exchange': `${name}.retry` } } },
          [`${name}.dead`]: {},
        },
        bindings: [
          `${name}.service[a.b.c] -> ${name}.work`,
          `${name}.delay[200ms] -> ${name}.delay.200ms`,
          `${name}.retry[#] -> ${name}.work`,
          `${name}.retry[200ms] -> ${name}.work`,
          `${name}.dead -> ${name}.dead`,
        ],
        publications: {
          work: { exchange: `${name}.service`, routingKey: 'a.b.c', options: { mandatory: true } },
          lost: { exchange: `${name}.service`, routingKey: 'nobody', options: { mandatory: true } },
          later: { exchange: `${name}.delay`, options: { CC: [`${name}.work`] } },
        },
        subscriptions: {
          work: { queue: `${name}.work`, prefetch: 3, contentType: 'application/json' },
          dead: { queue: `${name}.dead` },
        },
      },
    },
    recovery: {},
  });
}

async function withBroker(label, body) {
  const name = fresh(`rascal.${label}`);
  const broker = await Rascal.BrokerAsPromised.create(configuration(name));
  broker.on('error', () => {});
  try {
    await body(broker, name);
  } finally {
    await broker.nuke();
  }
}

async function inboxOf(broker, subscription) {
  const inbox = new Inbox();
  const session = await broker.subscribe(subscription);
  session.on('message', (message, content, ackOrNack) => inbox.put({ message, content, ackOrNack }));
  session.on('invalid_content', (error, message, ackOrNack) => ackOrNack(error));
  session.on('error', () => {});
  return inbox;
}

const published = (publication) => new Promise((resolve, reject) => {
  publication.on('success', resolve).on('error', reject).on('return', (message) => reject(Object.assign(new Error('returned'), { returned: message })));
});

async function messageIsPublishedAndConsumed() {
  await withBroker('plain', async (broker) => {
    const inbox = await inboxOf(broker, 'work');
    await published(await broker.publish('work', { hello: 'world' }));
    const { content, message, ackOrNack } = await inbox.one();
    assert.deepEqual(content, { hello: 'world' });
    assert.equal(message.fields.routingKey, 'a.b.c');
    ackOrNack();
  });
}

async function mandatoryMessageIsReturned() {
  await withBroker('lost', async (broker) => {
    const returned = await published(await broker.publish('lost', 'nowhere')).then(() => null, (error) => error.returned);
    assert.equal(returned.fields.replyCode, 312);
  });
}

async function failedMessageIsRetriedLaterAndThenDead() {
  await withBroker('retry', async (broker, name) => {
    const [work, dead] = [await inboxOf(broker, 'work'), await inboxOf(broker, 'dead')];
    await published(await broker.publish('work', { n: 1 }));
    const recovery = [
      { strategy: 'forward', publication: 'later', options: { routingKey: '200ms' }, attempts: 2 },
      { strategy: 'nack' },
    ];
    const begun = Date.now();
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const { content, message, ackOrNack } = await work.one();
      assert.deepEqual(content, { n: 1 });
      if (attempt > 1) assert.equal(message.properties.headers['x-death'][0].reason, 'expired');
      ackOrNack(new Error('as asked'), recovery);
    }
    assert.ok(Date.now() - begun > 380, 'retried before their time');
    const { message, ackOrNack } = await dead.one();
    assert.equal(message.properties.headers['x-death'][0].queue, `${name}.work`);
    assert.equal(message.properties.headers['x-death'][0].reason, 'rejected');
    ackOrNack();
  });
}

async function republishedMessageGoesToTheEnd() {
  await withBroker('republish', async (broker) => {
    const inbox = await inboxOf(broker, 'work');
    await published(await broker.publish('work', { n: 'again' }));
    const first = await inbox.one();
    first.ackOrNack(new Error('as asked'), { strategy: 'republish', attempts: 1 });
    const second = await inbox.one();
    assert.deepEqual(second.content, { n: 'again' });
    second.ackOrNack();
  });
}

async function purgeAndShutDown() {
  await withBroker('purge', async (broker) => {
    for (let n = 0; n < 5; n += 1) await published(await broker.publish('work', { n }));
    await broker.purge();
    const inbox = await inboxOf(broker, 'work');
    await published(await broker.publish('work', { n: 'last' }));
    const { content, ackOrNack } = await inbox.one();
    assert.deepEqual(content, { n: 'last' });
    ackOrNack();
  });
}

run(messageIsPublishedAndConsumed, mandatoryMessageIsReturned, failedMessageIsRetriedLaterAndThenDead, republishedMessageGoesToTheEnd,
  purgeAndShutDown);
