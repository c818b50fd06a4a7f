"""python-socketio's synchronous client: connects, subscribes, publishes, receives, leaves.

Runs the cases that are named on the command line, or all.
"""

import collections
import os
import sys
import threading
import uuid

import requests
import socketio

# The nodes of a cluster, or the only node. The next client takes the first.
NODES = collections.deque(os.environ.get("FANFARE_URLS", os.environ["FANFARE_URL"]).split(","))
API_KEY = os.environ["FANFARE_API_KEY"]
ANON_KEY = os.environ["FANFARE_ANON_KEY"]
TRANSPORTS = os.environ.get("FANFARE_TRANSPORTS", "default")
PATIENCE_SECONDS = 15
LIMIT_SECONDS = 60


def fresh_channel():
    return f"room:{uuid.uuid4()}"


def next_node():
    """Returns the URL of the node for one more client. In a cluster, clients take turns."""
    NODES.rotate(-1)
    return NODES[-1]


def admin(node, path, body):
    headers = {"Authorization": f"Bearer {API_KEY}"}
    answer = requests.post(node + path, json=body, headers=headers, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 201, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()


def create_channel(pattern, **options):
    """Defines a channel. In a cluster, all nodes have the definition then."""
    admin(NODES[0], "/api/realtime/channels", {"pattern": pattern, **options})


def publish(channel, event, payload):
    """Publishes over HTTP. In a cluster, the newest client has another node."""
    publication = {"channel": channel, "event": event, "payload": payload}
    return admin(NODES[0], "/api/realtime/messages", publication)


class Inbox:
    """Events as they arrive; the client calls handlers on threads of its own."""

    def __init__(self, client, *events):
        self.heard = {event: [] for event in events}
        self.changed = threading.Condition()
        for event in events:
            client.on(event, self.listener(event))

    def listener(self, event):
        def hear(message=None):
            with self.changed:
                self.heard[event].append(message)
                self.changed.notify_all()

        return hear

    def wait(self, event, count=1):
        with self.changed:
            enough = self.changed.wait_for(
                lambda: len(self.heard[event]) >= count, PATIENCE_SECONDS
            )
            assert enough, f"{event}: {len(self.heard[event])} of {count} heard"
            return self.heard[event][-1]


def connect(client, auth):
    transports = None if TRANSPORTS == "default" else [TRANSPORTS]
    client.connect(next_node(), auth=auth, transports=transports, wait_timeout=PATIENCE_SECONDS)


def ask(client, event, body):
    return client.call(event, body, timeout=PATIENCE_SECONDS)


def a_client_subscribes_publishes_and_receives():
    documented, sdk = fresh_channel(), fresh_channel()
    for channel in (documented, sdk):
        create_channel(channel)

    client = socketio.Client(reconnection=False)
    inbox = Inbox(client, "note", "INSERT", "disconnect")
    connect(client, {"token": ANON_KEY})
    expected = "polling" if TRANSPORTS == "polling" else "websocket"
    assert client.transport() == expected, client.transport()

    for event, channel in (("REALTIME_SUBSCRIBE", documented), ("realtime:subscribe", sdk)):
        answer = ask(client, event, {"channel": channel})
        assert answer["ok"] is True and answer["channel"] == channel, answer
        [member] = answer["presence"]["members"]
        assert member["type"] == "anonymous", member
        assert member["presenceId"] == client.get_sid(), member

    payload = {"text": "grüß dich", "numbers": [1, 2.5, None]}
    publication = {"channel": documented, "event": "note", "payload": payload}
    answer = ask(client, "REALTIME_PUBLISH", publication)
    assert answer["ok"] is True, answer
    assert inbox.wait("note") == {
        "channel": documented,
        "messageId": answer["messageId"],
        "senderType": "user",
        "senderId": None,
        "payload": payload,
    }

    receipt = publish(sdk, "INSERT", payload)
    message = inbox.wait("INSERT")
    meta = message.pop("meta")
    assert message == payload, message
    assert meta == {
        "channel": f"realtime:{sdk}",
        "senderType": "system",
        "messageId": receipt["messageId"],
        "timestamp": receipt["timestamp"],
    }, meta

    # Binary arguments are sent as binary packets, but arrive as JSON.
    publication["payload"] = {"blob": b"\x00\xff"}
    client.emit("REALTIME_PUBLISH", publication)
    message = inbox.wait("note", 2)
    assert message["payload"] == {"blob": {"type": "Buffer", "data": [0, 255]}}, message

    assert ask(client, "REALTIME_UNSUBSCRIBE", {"channel": documented}) == {"ok": True}
    client.disconnect()
    inbox.wait("disconnect")
    assert not client.connected


def handle_in_order(client):
    """python-engineio starts a thread for each message, and these have no order among them."""
    trigger = client.eio._trigger_event

    def trigger_here(event, *arguments, **options):
        return trigger(event, *arguments, **{**options, "run_async": False})

    client.eio._trigger_event = trigger_here


def a_channel_with_many_kept_messages_can_be_joined():
    """python-engineio drops the connection if one poll is answered with more than 16 packets."""
    channel, count = fresh_channel(), 60
    create_channel(channel, replaySeconds=600)
    for number in range(count):
        publish(channel, "kept", number)
    client = socketio.Client(reconnection=False)
    handle_in_order(client)
    inbox = Inbox(client, "kept", "disconnect")
    connect(client, {"token": ANON_KEY})
    assert ask(client, "REALTIME_SUBSCRIBE", {"channel": channel})["ok"] is True
    inbox.wait("kept", count)
    numbers = [message["payload"] for message in inbox.heard["kept"]]
    assert numbers == list(range(count)), numbers
    assert inbox.heard["disconnect"] == []
    client.disconnect()


def a_wrong_token_is_refused():
    client = socketio.Client(reconnection=False)
    refusal = Inbox(client, "connect_error")
    try:
        connect(client, {"token": "nonsense"})
    except socketio.exceptions.ConnectionError:
        data = {"code": "TOKEN_MALFORMED", "message": "the token is malformed"}
        expected = {"message": "Invalid token", "data": data}
        assert refusal.wait("connect_error") == expected, refusal.heard
    else:
        raise AssertionError("connected with a wrong token")


def stop():
    print(f"not done after {LIMIT_SECONDS} s", file=sys.stderr, flush=True)
    os._exit(1)


CASES = [
    a_client_subscribes_publishes_and_receives,
    a_channel_with_many_kept_messages_can_be_joined,
    a_wrong_token_is_refused,
]


if __name__ == "__main__":
    limit = threading.Timer(LIMIT_SECONDS, stop)
    limit.daemon = True
    limit.start()
    names = sys.argv[1:]
    unknown = set(names) - {case.__name__ for case in CASES}
    assert not unknown, f"no cases {unknown}"
    for case in CASES:
        if not names or case.__name__ in names:
            case()
    limit.cancel()
