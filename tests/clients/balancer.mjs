// A load balancer that sends each request to the next node, whatever client it is from. Prints its
// URL, and serves until its stdin ends.
import http from 'node:http';
import net from 'node:net';
import { everyNode } from './harness.mjs';

const nodes = everyNode().map((node) => new URL(node));
const agent = new http.Agent({ keepAlive: true });
let requests = 0;

const next = () => nodes[requests++ % nodes.length];

const server = http.createServer((request, response) => {
  const { hostname, port } = next();
  const { method, url: path, headers } = request;
  const passed = http.request({ agent, hostname, port, method, path, headers });
  passed.on('response', (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    answer.pipe(response);
    answer.on('error', () => response.destroy());
  });
  // A node that ends takes its clients' requests with it.
  passed.on('error', () => response.destroy());
  response.on('close', () => response.writableFinished || passed.destroy());
  request.pipe(passed);
});

server.on('upgrade', (request, near, head) => {
  const { hostname, port } = next();
  const far = net.connect(Number(port), hostname);
  const fields = request.rawHeaders.map((text, at) => text + (at % 2 ? '\r\n' : ': '));
  far.write(`${request.method} ${request.url} HTTP/1.1\r\n${fields.join('')}\r\n`);
  far.write(head);
  for (const [one, other] of [
    [near, far],
    [far, near],
  ]) {
    one.setNoDelay(true);
    one.on('error', () => {});
    one.on('close', () => other.destroy());
    one.pipe(other);
  }
});

server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
process.stdin.resume().on('end', () => process.exit(0));
