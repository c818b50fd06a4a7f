// A way to a node that a test can cut: TCP, byte for byte, until it is told to lose connections.
import net from 'node:net';

export class Proxy {
  #pairs = new Set();
  #isOpen = true;

  /** Listens on a port of its own, on loopback. */
  static async to(url) {
    const proxy = new Proxy();
    const { hostname, port } = new URL(url);
    proxy.server = net.createServer((near) => proxy.#join(near, { host: hostname, port }));
    await new Promise((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  /**
   * Loses every connection, and lets nobody through until it is mended. The client is told by a
   * reset; the node is told so only when it `isNoticed`, and otherwise goes on writing to a
   * connection that nobody reads.
   */
  cut({ isNoticed }) {
    this.#isOpen = false;
    for (const { near, far } of this.#pairs) {
      near.unpipe(far);
      far.unpipe(near);
      near.resetAndDestroy();
      if (isNoticed) far.resetAndDestroy();
      else far.resume();
    }
  }

  /** Nothing passes any more on the connections that there are, and neither side is told. */
  freeze() {
    for (const { near, far } of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  mend() {
    this.#isOpen = true;
  }

  /** How many connections lead through it to the node, lost ones included that it holds on to. */
  get size() {
    return [...this.#pairs].filter(({ far }) => !far.destroyed).length;
  }

  close() {
    this.server.close();
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }

  #join(near, address) {
    if (!this.#isOpen) {
      near.resetAndDestroy();
      return;
    }
    const pair = { near, far: net.connect(address) };
    this.#pairs.add(pair);
    for (const socket of [near, pair.far]) {
      socket.setNoDelay(true);
      socket.on('error', () => {});
    }
    near.pipe(pair.far).pipe(near);
    // An end that comes without a goodbye reaches the other side in the same way.
    pair.far.on('close', () => {
      near.destroy();
      this.#pairs.delete(pair);
    });
    near.on('close', () => this.#isOpen && pair.far.destroy());
  }
}
