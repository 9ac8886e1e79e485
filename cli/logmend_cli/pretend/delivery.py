"""Deliver the demo's messages: as Pub/Sub would, or through the real Pub/Sub emulator."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from logmend.model.json import JsonObject
from logmend_cli.pretend.entries import push
from logmend_cli.pretend.story import Scene

TRIES = 6
"""Attempts to push a message before the demo gives up; Pub/Sub itself makes ten."""
SETTLED = 60.0
"""Seconds after which a message without a final outcome counts as lost."""
INTERIM = ("deferred", "parked", "requested", "unverified", "interrupted")

Show = Callable[[Scene, JsonObject], None]


async def directly(url: str, scenes: Sequence[Scene], outcomes: Path, show: Show) -> None:
    """Push every scene; after any status but 2xx push again, with backoff."""
    del outcomes
    bodies = {scene.message_id: push(scene.body(), scene.message_id) for scene in scenes}

    async def one(scene: Scene, threads: ThreadPoolExecutor) -> None:
        for number in range(TRIES):
            answered = asyncio.get_running_loop().run_in_executor(
                threads, post, url, bodies[scene.message_id]
            )
            status, answer = await answered
            show(scene, answer)
            if status < 300:
                return
            await asyncio.sleep(0.2 * 2**number)

    with ThreadPoolExecutor(len(bodies)) as threads:
        for act in _acts(scenes):
            await asyncio.gather(*(one(scene, threads) for scene in act))


def post(url: str, body: bytes) -> tuple[int, JsonObject]:
    """Push once; return the status and the JSON document of the answer."""
    import requests

    answer = requests.post(url, body, headers={"content-type": "application/json"}, timeout=SETTLED)
    return answer.status_code, answer.json()


async def by_emulator(url: str, scenes: Sequence[Scene], outcomes: Path, show: Show) -> None:
    """Publish every scene to a topic of the real emulator, whose subscription pushes to the function."""
    from logmend_cli.pretend import emulator

    with emulator.running(emulator.pubsub_emulator_process(), "PUBSUB_EMULATOR_HOST"):
        topic = await asyncio.to_thread(_subscribe, url)
        published: dict[str, Scene] = {}
        for act in _acts(scenes)[:2]:  # a second delivery cannot be forced: the emulator decides
            for scene in act:
                published[await asyncio.to_thread(_publish, topic, scene)] = scene
            await _settled(published, outcomes, show)


def _acts(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Split the scenes: those that come first, those that follow, and those delivered again at the end."""
    return [
        [scene for scene in scenes if not scene.follows],
        [scene for scene in scenes if scene.follows],
        [scene for scene in scenes if scene.again],
    ]


def _subscribe(url: str) -> str:
    from google.cloud import pubsub_v1

    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    topic = publisher.topic_path("demo-project", "logmend")
    publisher.create_topic(name=topic)
    with subscriber:
        subscriber.create_subscription(
            request={
                "name": subscriber.subscription_path("demo-project", "logmend"),
                "topic": topic,
                "push_config": {"push_endpoint": url},
                "ack_deadline_seconds": 60,
                "retry_policy": {
                    "minimum_backoff": timedelta(seconds=1),
                    "maximum_backoff": timedelta(seconds=5),
                },
            }
        )
    return str(topic)


def _publish(topic: str, scene: Scene) -> str:
    from google.cloud import pubsub_v1

    body = scene.body()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    publisher = pubsub_v1.PublisherClient()
    return str(publisher.publish(topic, data, scene=scene.message_id).result(30))


async def _settled(published: dict[str, Scene], outcomes: Path, show: Show) -> None:
    """Wait until every message has a final outcome, or the time is over."""
    open_ones, deadline = dict(published), asyncio.get_running_loop().time() + SETTLED
    while open_ones and asyncio.get_running_loop().time() < deadline:
        for outcome in read(outcomes):
            scene = published.get(outcome["message_id"])
            if scene is not None:
                show(scene, outcome)
                if outcome["result"] not in INTERIM:
                    open_ones.pop(outcome["message_id"], None)
        await asyncio.sleep(0.1)


def read(path: Path) -> list[JsonObject]:
    """Read a file of outcomes: one JSON document a line."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
