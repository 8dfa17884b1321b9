"""What noida-db has, after it was killed with -9, of what it had acknowledged to a bare client.

    pip install confluent-kafka==2.16.0
    python3 benches/peers/kafka_kill.py

A thousand messages are acknowledged and 500 of them committed; then the broker is killed, at once or a while later, and started
again on the same folder.
"""

import os
import pathlib
import signal
import subprocess
import tempfile
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SCRIPT = pathlib.Path(__file__).parents[2] / "deploy/setup/kafka.sh"
MESSAGES = 1000
COMMITTED = 500
PATIENCE_S = 30


def start(folder, port):
    """The broker's script, its address and its process id."""
    script = subprocess.Popen([SCRIPT, "run", folder, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return script, script.stdout.readline().strip(), int(script.stdout.readline())


def left(consumer):
    partition = TopicPartition("topic", 0)
    try:
        _, end = consumer.get_watermark_offsets(partition, timeout=PATIENCE_S)
        [committed] = consumer.committed([partition], timeout=PATIENCE_S)
    except KafkaException as error:
        return f"nothing, {error.args[0].name()}"
    return f"{end} of {MESSAGES} messages, offset {max(committed.offset, 0)} of {COMMITTED}"


def run(pause_s):
    with tempfile.TemporaryDirectory() as folder:
        script, address, pid = start(folder, "0")
        client = {"bootstrap.servers": address, "group.id": "bare", "log_level": 0, "error_cb": lambda error: None}
        admin = AdminClient(client)
        admin.create_topics([NewTopic("topic", 1, 1)])["topic"].result(PATIENCE_S)
        acknowledged = []
        producer = Producer({"bootstrap.servers": address, "acks": "all", "log_level": 0, "error_cb": lambda error: None})
        for number in range(MESSAGES):
            producer.produce("topic", str(number), on_delivery=lambda error, _: acknowledged.append(error))
        producer.flush(PATIENCE_S)
        assert acknowledged == [None] * MESSAGES, "all are acknowledged"
        consumer = Consumer(client)
        consumer.commit(offsets=[TopicPartition("topic", 0, COMMITTED)], asynchronous=False)
        time.sleep(pause_s)
        os.kill(pid, signal.SIGKILL)
        script.stdin.close()
        script.wait()
        script, _, _ = start(folder, address.rsplit(":", 1)[1])
        print(f"killed {pause_s} s later: {left(consumer)}")
        script.stdin.close()
        script.wait()


for pause_s in (0, 0.1, 0.2, 0.5, 1):
    run(pause_s)
