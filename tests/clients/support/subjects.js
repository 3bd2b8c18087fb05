// What every Node program here shares: where the broker is, fresh names, and the runner.
//
// A subject is one small async function. The runner prints its name as it passes; a failure names it,
// and the program's exit code is 1. A program that leaves a connection open doesn't end, and so fails too.
'use strict';
const assert = require('node:assert/strict');
const crypto = require('node:crypto');

const AMQP_URL = process.env.AMQP_URL;
const PATIENCE_MS = 20_000;

// A name no earlier run has used, since a broker may remember durable things.
const fresh = (label) => `clients.${label}.${crypto.randomBytes(4).toString('hex')}`;

// The broker's URL for another user, or another vhost.
function urlOf({ user, password, vhost, query } = {}) {
  const url = new URL(AMQP_URL);
  if (user) [url.username, url.password] = [user, password];
  if (vhost) url.pathname = `/${encodeURIComponent(vhost)}`;
  if (query) url.search = query;
  return url.toString();
}

const userName = () => decodeURIComponent(new URL(AMQP_URL).username) || 'guest';

// A body in which a lost, doubled or swapped piece shows: no period, the same for the same size.
function bytesOf(size) {
  const cipher = crypto.createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16, size & 0xff));
  return cipher.update(Buffer.alloc(size));
}

async function within(promise, what, milliseconds = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing happened for ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function run(...subjects) {
  let failed = 0;
  for (const subject of subjects) {
    const name = subject.name.replace(/([A-Z])/g, (letter) => ` ${letter.toLowerCase()}`);
    try {
      await within(subject(), name);
      console.log(`passed: ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED: ${name}\n${error.stack}`);
    }
  }
  if (failed) process.exit(1);
}

// Messages as they come, to be awaited one by one or several at a time.
class Inbox {
  constructor() {
    this.ready = [];
    this.waiting = [];
    this.put = (item) => {
      if (this.waiting.length) this.waiting.shift()(item);
      else this.ready.push(item);
    };
  }

  one() {
    return this.ready.length ? Promise.resolve(this.ready.shift()) : new Promise((resolve) => this.waiting.push(resolve));
  }

  async take(count) {
    const items = [];
    while (items.length < count) items.push(await this.one());
    return items;
  }
}

// Runs `body` with connections that are closed at the end, whatever happens. An error after the loss of one is expected.
async function using(opened, body) {
  const connections = await Promise.all(opened);
  try {
    return await body(...connections);
  } finally {
    await Promise.all(connections.map((connection) => connection.close().catch(() => {})));
  }
}

module.exports = { AMQP_URL, Inbox, assert, bytesOf, fresh, run, urlOf, userName, using, within };
