// The JavaScript example of the public document, run against a node. Its statements are copied from
// the document with two exceptions: URL and token, and the transports that the caller chose (none:
// the example's own). The last two, unsubscribe and disconnect, wait until the others have been
// checked, because run at once they would undo the subscription before anything arrives.
import { io } from 'socket.io-client';
import * as harness from './harness.mjs';
import { assert, nextNode, publish } from './harness.mjs';

await harness.run(60, async () => {
  const user = harness.freshUser();
  await harness.createChannel('orders');

  // The example shows its results only on the console.
  const said = [];
  const saying = (log) => (...words) => {
    said.push(words);
    log(...words);
  };
  console.log = saying(console.log);
  console.error = saying(console.error);
  const heard = async (words) => {
    const line = () => said.find(([first]) => first === words);
    await harness.until(`the example says "${words}"`, line);
    return line()[1];
  };

  const socket = io(nextNode(), {
    auth: {
      token: harness.userToken(user)
    },
    ...harness.transports
  });

  // Not in the example, which publishes an event without a listener for it.
  const published = harness.next(socket, 'order.created');
  const left = harness.next(socket, 'disconnect');

  // Subscribe to a channel
  socket.emit('REALTIME_SUBSCRIBE', { channel: 'orders' }, (response) => {
    if (response.ok) {
      console.log('Subscribed to:', response.channel);
    } else {
      console.error('Subscribe failed:', response.error);
    }
  });

  // Listen for events
  socket.on('INSERT', (message) => {
    console.log('New record inserted:', message);
  });

  socket.on('UPDATE', (message) => {
    console.log('Record updated:', message);
  });

  socket.on('DELETE', (message) => {
    console.log('Record deleted:', message);
  });

  // Publish a message
  socket.emit('REALTIME_PUBLISH', {
    channel: 'orders',
    event: 'order.created',
    payload: { orderId: '123', status: 'pending' }
  });

  assert.equal(await heard('Subscribed to:'), 'orders');

  const own = await published;
  assert.deepEqual(own, {
    channel: 'orders',
    messageId: own.messageId,
    senderType: 'user',
    senderId: user,
    payload: { orderId: '123', status: 'pending' },
  });
  assert.match(own.messageId, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);

  const listeners = [
    ['INSERT', 'New record inserted:', { id: 1, items: ['bell', 'drum'] }],
    ['UPDATE', 'Record updated:', { id: 1, items: [] }],
    ['DELETE', 'Record deleted:', { id: 1 }],
  ];
  for (const [event, words, payload] of listeners) {
    const { messageId } = await publish('orders', event, payload);
    assert.deepEqual(await heard(words), {
      channel: 'orders',
      messageId,
      senderType: 'system',
      senderId: null,
      payload,
    });
  }

  // Unsubscribe
  socket.emit('REALTIME_UNSUBSCRIBE', { channel: 'orders' });

  // Disconnect
  socket.disconnect();

  assert.equal(await left, 'io client disconnect');
  assert.ok(said.every(([words]) => words !== 'Subscribe failed:'));
});
