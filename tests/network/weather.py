"""What a network does to packets beside delaying them: jitter, loss, reordering, from one seed.

Given as words NAME=VALUE: jitter (milliseconds, at most so many more), loss and reorder (the share of
packets, from 0 to 1), seed. Without any the weather is fine: every packet arrives, late by the delay,
in order.
"""

import random


class Weather:
    def __init__(self, words):
        given = dict(word.split("=", 1) for word in words)
        self.jitter = float(given.pop("jitter", 0)) / 1000
        self.loss = float(given.pop("loss", 0))
        self.reorder = float(given.pop("reorder", 0))
        self.random = random.Random(int(given.pop("seed", 0)))
        # When the last packet on each way is due, so that jitter alone does not reorder.
        self.last = {}
        if given:
            raise ValueError(f"no weather is called {', '.join(given)}")

    def due(self, now, delay, way):
        """When a packet that comes now on that way is due at its end; None if it is lost."""
        if self.loss and self.random.random() < self.loss:
            return None
        if self.reorder and self.random.random() < self.reorder:
            # It overtakes what is on its way.
            return now + delay / 2
        due = now + delay + (self.random.random() * self.jitter if self.jitter else 0)
        self.last[way] = due = max(due, self.last.get(way, 0))
        return due
