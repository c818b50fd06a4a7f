// A TCP proxy to a node, which passes bytes unchanged until a test makes it lose connections.
import net from 'node:net';

export class Proxy {
  #pairs = new Set();
  #isOpen = true;

  /** Listens on a free loopback port. */
  static async to(url) {
    const proxy = new Proxy();
    const { protocol, hostname, port } = new URL(url);
    proxy.server = net.createServer((near) => proxy.#join(near, { host: hostname, port }));
    await new Promise((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    proxy.url = `${protocol}//127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  /**
   * Loses every connection and refuses new ones until it is mended. The client gets a reset. The
   * node gets one only if `isNoticed`, and otherwise goes on writing to a connection that no client
   * reads.
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

  /** Stops passing bytes on all present connections, without telling either side. */
  freeze() {
    for (const { near, far } of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  mend() {
    this.#isOpen = true;
  }

  /** The number of open connections to the node, including lost ones that it has not noticed. */
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
    // The loss of one side is passed on to the other.
    pair.far.on('close', () => {
      near.destroy();
      this.#pairs.delete(pair);
    });
    near.on('close', () => this.#isOpen && pair.far.destroy());
  }
}
