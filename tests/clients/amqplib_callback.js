// amqplib, callback API: the tutorials as RabbitMQ's site has them, each in one piece.
'use strict';
const amqp = require('amqplib/callback_api');
const { AMQP_URL, assert, fresh, run } = require('./support/subjects');

// Runs a tutorial with a channel; `done` closes the connection, and any error on the way fails the subject.
function tutorial(body, create = 'createChannel') {
  return new Promise((resolve, reject) => {
    amqp.connect(AMQP_URL, (error, connection) => {
      if (error) return reject(error);
      connection.on('error', reject);
      connection[create]((failure, channel) => {
        if (failure) return reject(failure);
        const done = (problem) => connection.close(() => (problem ? reject(problem) : resolve()));
        channel.on('error', () => {}); // the callback that caused it has it too
        try {
          body(channel, done, connection);
        } catch (thrown) {
          done(thrown);
        }
      });
    });
  });
}

// Collects `count` texts, then compares and finishes.
function expecting(expected, done) {
  const got = [];
  return (message) => {
    got.push(message.content.toString());
    if (got.length < expected.length) return;
    try {
      assert.deepEqual(got, expected);
      done();
    } catch (error) {
      done(error);
    }
  };
}

const helloWorld = () => tutorial((channel, done) => {
  const queue = fresh('hello');
  channel.assertQueue(queue, { durable: false, exclusive: true });
  channel.sendToQueue(queue, Buffer.from('Hello World!'));
  channel.consume(queue, expecting(['Hello World!'], done), { noAck: true });
});

const workQueue = () => tutorial((channel, done) => {
  const queue = fresh('task_queue');
  const tasks = ['First.', 'Second..', 'Third...', 'Fourth....'];
  channel.assertQueue(queue, { durable: true });
  channel.prefetch(1);
  for (const task of tasks) channel.sendToQueue(queue, Buffer.from(task), { persistent: true });
  const finish = expecting(tasks, (problem) => channel.deleteQueue(queue, {}, (error, ok) => {
    done(problem || error || (ok.messageCount === 0 ? undefined : new Error(`${ok.messageCount} left over`)));
  }));
  channel.consume(queue, (message) => setImmediate(() => {
    channel.ack(message);
    finish(message);
  }), { noAck: false });
});

const publishAndSubscribe = () => tutorial((channel, done) => {
  const exchange = fresh('logs');
  channel.assertExchange(exchange, 'fanout', { durable: false, autoDelete: true });
  channel.assertQueue('', { exclusive: true }, (error, { queue }) => {
    if (error) return done(error);
    channel.bindQueue(queue, exchange, '');
    channel.consume(queue, expecting(['info: Hello World!'], done), { noAck: true }, () => {
      channel.publish(exchange, '', Buffer.from('info: Hello World!'));
    });
  });
});

const topics = () => tutorial((channel, done) => {
  const exchange = fresh('topic_logs');
  channel.assertExchange(exchange, 'topic', { durable: false, autoDelete: true });
  channel.assertQueue('', { exclusive: true }, (error, { queue }) => {
    if (error) return done(error);
    for (const pattern of ['kern.*', '*.critical']) channel.bindQueue(queue, exchange, pattern);
    channel.consume(queue, expecting(['kern.info', 'kern.critical', 'cron.critical'], done), { noAck: true }, () => {
      for (const key of ['kern.info', 'cron.info', 'kern.critical', 'kern', 'cron.critical']) channel.publish(exchange, key, Buffer.from(key));
    });
  });
});

const rpc = () => tutorial((channel, done) => {
  const requests = fresh('rpc_queue');
  channel.assertQueue(requests, { exclusive: true });
  channel.consume(requests, (message) => {
    const { replyTo, correlationId } = message.properties;
    channel.sendToQueue(replyTo, Buffer.from(String(2 * Number(message.content))), { correlationId });
    channel.ack(message);
  });
  channel.assertQueue('', { exclusive: true }, (error, { queue }) => {
    if (error) return done(error);
    channel.consume(queue, (reply) => {
      done(reply.properties.correlationId === 'only-one' && reply.content.toString() === '42' ? undefined : new Error('another answer'));
    }, { noAck: true });
    channel.sendToQueue(requests, Buffer.from('21'), { correlationId: 'only-one', replyTo: queue });
  });
});

const confirms = () => tutorial((channel, done) => {
  channel.assertQueue('', { exclusive: true }, (error, { queue }) => {
    if (error) return done(error);
    let confirmed = 0;
    for (let number = 0; number < 1000; number++) channel.sendToQueue(queue, Buffer.from('x'), {}, (nack) => (nack ? done(nack) : confirmed++));
    channel.waitForConfirms((failure) => done(failure || (confirmed === 1000 ? undefined : new Error(`${confirmed} confirms`))));
  });
}, 'createConfirmChannel');

const getAndPurge = () => tutorial((channel, done) => {
  const queue = fresh('counts');
  channel.assertQueue(queue, { exclusive: true });
  for (let number = 0; number < 3; number++) channel.sendToQueue(queue, Buffer.from(String(number)));
  channel.get(queue, { noAck: true }, (_error, message) => {
    channel.purgeQueue(queue, (_failure, ok) => {
      done(message.content.toString() === '0' && ok.messageCount === 2 ? undefined : new Error(`purged ${ok.messageCount}`));
    });
  });
});

const passiveDeclareOfNothing = () => tutorial((channel, done, connection) => {
  channel.checkQueue(fresh('nothing'), (error) => {
    if (!error || !/404/.test(error.message)) return done(new Error(`expected 404, got ${error}`));
    connection.createChannel((failure, second) => {
      if (failure) return done(failure);
      second.assertQueue('', { exclusive: true }, (problem) => done(problem));
    });
  });
});

run(helloWorld, workQueue, publishAndSubscribe, topics, rpc, confirms, getAndPurge, passiveDeclareOfNothing);
