// A NestJS microservice on its RMQ transport, as Nest's documentation sets one up: requests with replies by direct
// reply-to, events with manual acknowledgements, and patterns with wildcards over a topic exchange.
'use strict';
require('reflect-metadata');
const { Controller, Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { ClientProxyFactory, Ctx, EventPattern, MessagePattern, Payload, RpcException, Transport } = require('@nestjs/microservices');
const { from, firstValueFrom, lastValueFrom, toArray } = require('rxjs');
const { AMQP_URL, Inbox, assert, fresh, run } = require('./support/subjects');

// What TypeScript makes of decorators on a method and its first two parameters.
function handler(prototype, name, decorator) {
  Payload()(prototype, name, 0);
  Ctx()(prototype, name, 1);
  decorator(prototype, name, Object.getOwnPropertyDescriptor(prototype, name));
}

function controllerOf(inbox) {
  class Handlers {
    sum(numbers, context) {
      settle({ context }, acknowledge);
      return numbers.reduce((sum, number) => sum + number, 0);
    }

    count(upto, context) {
      settle({ context }, acknowledge);
      return from(Array.from({ length: upto }, (_, index) => index + 1));
    }

    fail(reason, context) {
      settle({ context }, acknowledge);
      throw new RpcException(reason);
    }

    created(data, context) {
      inbox.put({ data, context });
    }

    logged(data, context) {
      inbox.put({ data, context });
    }
  }
  for (const name of ['sum', 'count', 'fail']) handler(Handlers.prototype, name, MessagePattern(name));
  handler(Handlers.prototype, 'created', EventPattern('created'));
  handler(Handlers.prototype, 'logged', EventPattern('log.*.error'));
  Controller()(Handlers);
  return Handlers;
}

async function withService(label, more, body) {
  const inbox = new Inbox();
  class Application {}
  Module({ controllers: [controllerOf(inbox)] })(Application);
  const queue = fresh(`nest.${label}`);
  const rmq = (own) => ({
    transport: Transport.RMQ,
    options: { urls: [AMQP_URL], queue, queueOptions: { durable: false, autoDelete: true }, ...more(queue), ...own },
  });
  const service = await NestFactory.createMicroservice(Application, { ...rmq({ noAck: false, prefetchCount: 1 }), logger: false });
  await service.listen();
  const client = ClientProxyFactory.create(rmq({}));
  try {
    await client.connect();
    await body(client, inbox);
  } finally {
    await client.close();
    await service.close();
  }
}

const plain = () => ({});
const sent = (event) => lastValueFrom(event, { defaultValue: undefined });
const acknowledge = (channel, message) => channel.ack(message);
const settle = ({ context }, how) => how(context.getChannelRef(), context.getMessage());

async function requestsAreAnsweredAndErrorsComeBack() {
  await withService('rpc', plain, async (client) => {
    assert.equal(await firstValueFrom(client.send('sum', [1, 2, 3])), 6);
    assert.deepEqual(await lastValueFrom(client.send('count', 3).pipe(toArray())), [1, 2, 3]);
    await assert.rejects(firstValueFrom(client.send('fail', 'not today')), (error) => /not today/.test(JSON.stringify(error)));
    const sums = Array.from({ length: 50 }, (_, index) => firstValueFrom(client.send('sum', [index, 1])));
    assert.deepEqual(await Promise.all(sums), Array.from({ length: 50 }, (_, index) => index + 1));
  });
}

async function anEventThatIsReturnedComesAgain() {
  await withService('events', plain, async (client, inbox) => {
    await sent(client.emit('created', { id: 7 }));
    const first = await inbox.one();
    assert.deepEqual(first.data, { id: 7 });
    settle(first, (channel, message) => channel.nack(message, false, true));
    const again = await inbox.one();
    assert.ok(again.context.getMessage().fields.redelivered);
    settle(again, acknowledge);
  });
}

async function wildcardsAreBindingsOfATopicExchange() {
  const wild = (queue) => ({ wildcards: true, exchange: `${queue}.topic`, exchangeType: 'topic' });
  await withService('wild', wild, async (client, inbox) => {
    await sent(client.emit('log.kern.info', 'nobody wants it'));
    await sent(client.emit('log.kern.error', 'bad'));
    const event = await inbox.one();
    assert.equal(event.data, 'bad');
    settle(event, acknowledge);
  });
}

run(requestsAreAnsweredAndErrorsComeBack, anEventThatIsReturnedComesAgain, wildcardsAreBindingsOfATopicExchange);
