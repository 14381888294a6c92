"""Publishes rides at a steady pace, each with the moment at which it was published.

python paced.py BROKER TOPIC EVENTS PER_SECOND
"""

import json
import sys
import time
from datetime import UTC, datetime

from stream.data import events
from trivet import brokers

url, topic, count, pace = sys.argv[1:]
made = [(key, value.partition(b'"time":"')) for key, value in events(int(count))]
broker = brokers.connect(url)
appender = broker.appender()
began = time.perf_counter()
late = 0.0
for number, (key, (head, name, tail)) in enumerate(made):
    due = began + number / int(pace)
    while (now := time.perf_counter()) < due:
        time.sleep(due - now)
    late = max(late, now - due)
    moment = datetime.now(UTC).isoformat().encode()
    appender.append(topic, key, head + name + moment + tail[tail.index(b'"') :])
while appender.flush(10):
    pass
appender.close()
broker.close()
print(json.dumps({"events": int(count), "late_ms": late * 1000}))
