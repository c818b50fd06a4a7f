// A headless Chromium, controlled through its DevTools protocol over a pipe: no port is needed, and
// it ends with the program that holds the other end.
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { assert, sleep, within } from './harness.mjs';

const FLAGS = [
  '--headless=new',
  '--remote-debugging-pipe',
  // Containers offer no sandbox, no GPU and little shared memory.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-extensions',
  '--disable-background-networking',
  '--disable-component-update',
];
// On a loaded machine its first start takes long, and so does each command.
const START_MS = 120_000;
const PAGE_MS = 80_000;

export class Chromium {
  #asked = new Map();
  #lastId = 0;
  #said = '';

  static async start() {
    const browser = new Chromium();
    browser.profile = await mkdtemp(path.join(tmpdir(), 'chromium-'));
    const key = process.env.FANFARE_TRUSTED_KEY;
    const trust = key ? [`--ignore-certificate-errors-spki-list=${key}`] : [];
    const flags = [...FLAGS, ...trust, `--user-data-dir=${browser.profile}`, 'about:blank'];
    const stdio = ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'];
    // It also writes files outside of its profile: these variables move them there.
    const env = { ...process.env, HOME: browser.profile, XDG_CONFIG_HOME: browser.profile };
    browser.process = spawn('chromium', flags, { stdio, env });
    browser.#listen();
    await browser.ask('Browser.getVersion', {}, { ms: START_MS });
    return browser;
  }

  /**
   * Sends one command and returns its result. Without `sessionId` the command is for the browser
   * itself.
   */
  ask(method, params = {}, { sessionId, ms } = {}) {
    this.#lastId += 1;
    const id = this.#lastId;
    const answer = new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return within(`${method} by Chromium`, answer, ms);
  }

  /** Opens a new tab. */
  async open(url) {
    const { targetId } = await this.ask('Target.createTarget', { url });
    const flat = { targetId, flatten: true };
    const { sessionId } = await this.ask('Target.attachToTarget', flat);
    return new Page(this, sessionId);
  }

  async close() {
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill();
    await within('the end of Chromium', ended).finally(() => this.process.kill('SIGKILL'));
    // Child processes may still write there for a moment.
    await rm(this.profile, { recursive: true, force: true, maxRetries: 20 });
  }

  #listen() {
    this.process.stderr.on('data', (text) => (this.#said += text));
    this.process.on('error', (error) => this.#fail(error));
    this.process.on('exit', () => this.#fail(new Error(`Chromium has ended:\n${this.#said}`)));
    // The `exit` handler above reports the end, with the output.
    this.process.stdio[3].on('error', () => {});
    let text = '';
    this.process.stdio[4].setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
      const messages = text.split('\0');
      text = messages.pop();
      for (const message of messages) this.#receive(JSON.parse(message));
    });
  }

  #receive({ id, result, error }) {
    const { resolve, reject } = this.#asked.get(id) ?? {};
    this.#asked.delete(id);
    if (error) reject?.(new Error(error.message));
    else resolve?.(result);
  }

  #fail(error) {
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }
}

class Page {
  constructor(browser, sessionId) {
    this.browser = browser;
    this.sessionId = sessionId;
  }

  /** Returns the value of an expression in the page. If it is a promise, waits for it. */
  async evaluate(expression) {
    const params = { expression, awaitPromise: true, returnByValue: true };
    const options = { sessionId: this.sessionId, ms: PAGE_MS };
    const answer = await this.browser.ask('Runtime.evaluate', params, options);
    const { exceptionDetails, result } = answer;
    assert.equal(exceptionDetails, undefined, exceptionDetails?.exception?.description);
    return result.value;
  }

  /** Waits until an expression is true in the page. */
  async until(expression, ms = PAGE_MS) {
    let isTrue = false;
    const look = async () => {
      for (; !isTrue; await sleep(10)) isTrue = Boolean(await this.evaluate(expression));
    };
    await within(`in the page: ${expression}`, look(), ms).finally(() => (isTrue = true));
  }
}
