"""The package `websockets`, which offers permessage-deflate: a subscriber of M2's documents."""

import json
import os
import uuid

import requests
from websockets.sync.client import connect

URL = os.environ["FANFARE_URL"]
PLACE = {"X-M2-Organization": "testOrg", "X-M2-Project": "testProj"}
KEY = {"X-Api-Key": os.environ["FANFARE_API_KEY"]}
SOCKET = URL.replace("http", "ws") + "/api/realtime/"
PATIENCE_SECONDS = 15


def put(name, data):
    """Writes a document over HTTP."""
    address = f"{URL}/api/realtime/resources/kvStore/{name}"
    headers = {**PLACE, **KEY}
    answer = requests.put(address, json={"data": data}, headers=headers, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"


def listen(compression):
    """Opens a connection with or without an offer of compression."""
    client = connect(SOCKET, additional_headers={**PLACE, **KEY}, compression=compression)
    names = [extension.name for extension in client.protocol.extensions]
    assert names == (["permessage-deflate"] if compression else []), names
    return client


def hear(client):
    """Returns the data of the next document."""
    return json.loads(client.recv(timeout=PATIENCE_SECONDS))["data"]


def main():
    name = str(uuid.uuid4())
    versions = [{"n": n, "text": f"é {n} " * 2_000} for n in range(20)]
    put(name, versions[0])
    clients = [listen("deflate"), listen(None), listen("deflate")]
    for client in clients:
        # In fragments, which this client compresses together.
        message = json.dumps({"action": "subscribe", "resource": {"type": "kvStore", "id": name}})
        client.send([message[:10], message[10:]])
        assert hear(client) == versions[0]
    for data in versions[1:]:
        put(name, data)
        for client in clients:
            assert hear(client) == data
    for client in clients:
        client.close()


main()
