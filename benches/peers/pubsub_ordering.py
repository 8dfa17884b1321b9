"""What a subscriber of Google's Python client is given after another one was killed, on a subscription that keeps the order of keys.

    pip install google-cloud-pubsub==2.44.0
    PUBSUB_EMULATOR_HOST=127.0.0.1:PORT python3 benches/peers/pubsub_ordering.py [KEYS]

The first subscriber acknowledges three messages of thirty, and is killed half a second later; the second one acknowledges all.
"""

import os
import signal
import subprocess
import sys
import threading
import uuid

from google.cloud import pubsub_v1

MESSAGES = 30
LEASE_S = 10
PATIENCE_S = 3 * LEASE_S


def subscribe(subscription, acknowledged):
    """Prints the key of each message that comes; dies after it acknowledged so many."""
    lock, seen = threading.Lock(), 0

    def take(message):
        nonlocal seen
        with lock:
            seen += 1
            if seen <= acknowledged:
                message.ack()
                print(message.ordering_key, message.data.decode(), flush=True)
            if seen == acknowledged < MESSAGES:
                threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()

    try:
        pubsub_v1.SubscriberClient().subscribe(subscription, callback=take).result(timeout=PATIENCE_S)
    except TimeoutError:
        pass


def child(subscription, acknowledged):
    command = [sys.executable, __file__, "subscribe", subscription, str(acknowledged)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout.split("\n")[:-1]


def main(keys):
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher, subscriber = pubsub_v1.PublisherClient(publisher_options=options), pubsub_v1.SubscriberClient()
    project = f"ordering-{uuid.uuid4().hex[:8]}"
    topic, subscription = publisher.topic_path(project, "uploads"), subscriber.subscription_path(project, "uploads")
    publisher.create_topic(name=topic)
    subscriber.create_subscription(
        request={"name": subscription, "topic": topic, "ack_deadline_seconds": LEASE_S, "enable_message_ordering": True}
    )
    for number in range(MESSAGES):
        publisher.publish(topic, str(number).encode(), ordering_key=f"customer-{number % keys}").result()
    first, second = child(subscription, 3), child(subscription, MESSAGES)
    for key in range(keys):
        name = f"customer-{key}"
        of = [{int(line.split()[1]) for line in lines if line.startswith(f"{name} ")} for lines in (first, second)]
        never = sorted(set(range(key, MESSAGES, keys)) - of[0] - of[1])
        print(f"{name}: {len(of[0])} to the first, {len(of[1])} to the second, {len(never)} to nobody")


if __name__ == "__main__":
    if sys.argv[1:2] == ["subscribe"]:
        subscribe(sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
