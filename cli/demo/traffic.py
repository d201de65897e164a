"""What happens in the demo's tools: people open and change tickets, deliveries are repeated, forged and broken, a tool fails."""

from __future__ import annotations

import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

from cli.demo.scene import Connection, Scene

SUBJECTS = (
    "VPN drops every few minutes", "Printer on floor 3 is out of toner", "Cannot open the payroll report", "Laptop battery swells",
    "Mailbox is over its quota", "Database pool exhausted after the backup", "Badge reader at the north door is dead",
    "Video calls freeze at the regional office", "New starter needs an account", "Disk of the build server is full",
    "Password reset link expired", "Warehouse scanner loses its network", "Certificate of the shop expires on Friday",
)  # fmt: skip
PEOPLE = ("mira@customers.example", "jonas@customers.example", "aiko@customers.example", "tomas@customers.example")
PRIORITIES = ("low", "medium", "medium", "high", "urgent")
COMMENTS = ("Any news?", "It happens again since this morning.", "Works on my colleague's machine.", "Restarting did not help.")


@dataclass(slots=True)
class Sent:
    """What the traffic did, for the summary."""

    created: int = 0
    updated: int = 0
    redelivered: int = 0
    forged: int = 0
    forged_refused: int = 0
    broken: int = 0
    tickets: dict[Connection, list[str]] = field(default_factory=dict)


class Traffic:
    """Plays the traffic; reproducible by its seed. `tick` is called after each small step, to show progress."""

    def __init__(self, scene: Scene, ingestion_url: str, seed: int, tick: Callable[[], None]) -> None:
        self.scene = scene
        self.url = ingestion_url
        self.rng = random.Random(seed)  # noqa: S311 - a demo's dice
        self.tick = tick
        self.sent = Sent()

    def create(self, c: Connection, count: int, **fixed: str) -> None:
        """People open tickets."""
        for _ in range(count):
            kind = self.rng.choice(("incident", "incident", "request", "change" if c.tenant == "acme" else "problem"))
            words = {"subject": self.rng.choice(SUBJECTS), "type": kind, "priority": self.rng.choice(PRIORITIES)}
            words["description"] = f"{words['subject']}. Reported by {self.rng.choice(PEOPLE)}."
            ticket = c.sandbox.person_creates(**{**words, **fixed})
            self.sent.tickets.setdefault(c, []).append(ticket)
            self.sent.created += 1
            self.tick()

    def until_taken(self, c: Connection, act: Callable[[], None], timeout: float = 60) -> None:
        """Acts again while the door, killed a moment ago, misses some of it: there are tools that tell a thing only once."""
        end = time.monotonic() + timeout
        while True:
            missed = c.missed
            act()
            self.scene.settled(timeout)
            if c.missed == missed or time.monotonic() > end:
                return
            time.sleep(2)

    def update(self, c: Connection, count: int) -> None:
        """People change and comment their tickets."""
        known = self.sent.tickets.get(c, [])
        for _ in range(count if known else 0):
            ticket = self.rng.choice(known)
            what = self.rng.random()
            if what < 0.4:
                c.sandbox.person_updates(ticket, comment=self.rng.choice(COMMENTS), public=True)
            elif what < 0.7:
                c.sandbox.person_updates(ticket, priority=self.rng.choice(PRIORITIES))
            else:
                c.sandbox.person_updates(ticket, status=self.rng.choice(("open", "pending", "resolved")))
            self.sent.updated += 1
            self.tick()

    def redeliver(self, c: Connection, count: int) -> None:
        """The tool did not see our answer, and delivers again."""
        self.sent.redelivered += c.sandbox.redeliver(count)
        self.tick()

    def forge(self, c: Connection, count: int) -> None:
        """Somebody without the secret delivers; each must be answered 401."""
        for n in range(count):
            body = b'{"request": {"id": "1", "subject": "forged"}}'
            headers = {"Content-Type": "application/json", "X-Hub-Signature": "sha256=" + "0" * 64, "X-Webhook-Secret": f"guess-{n}"}
            request = urllib.request.Request(self.url + c.path, data=body, headers=headers, method="POST")  # noqa: S310 - our own door
            self.sent.forged += 1
            for _ in range(120):
                try:
                    with urllib.request.urlopen(request, timeout=5):  # noqa: S310 - our own door
                        break
                except urllib.error.HTTPError as exc:
                    self.sent.forged_refused += exc.code == 401
                    break
                except OSError:  # the door is being restarted; a forger tries again
                    time.sleep(0.25)
            self.tick()

    def break_bodies(self, c: Connection, count: int) -> None:
        """The tool signs a body that was cut off: nothing can be made of it."""
        for n in range(count):
            c.sandbox.deliver('{"id": "' + str(9000 + n) + '", "subject": "the printer at the')
            self.sent.broken += 1
            self.tick()
