"""Small Gymnasium environments, each with something that a trial must see."""

import itertools
import os
import threading
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(gymnasium.Env):
    """A bright column that moves; each subclass spoils one thing."""

    observation_space = spaces.Box(0, 255, (64, 64, 1), np.uint8)
    action_space = spaces.Discrete(3)
    length, scale, limit = 20, 255, None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.place = 0, int(self.np_random.integers(64))
        return self.seen(), {}

    def step(self, action):
        self.t += 1
        self.place = (self.place + int(action) - 1) % 64
        is_over = self.t == self.length
        return self.seen(), self.reward(), is_over, self.t == self.limit, {}

    def seen(self):
        image = np.zeros((64, 64, 1), np.uint8)
        image[:, self.place] = self.scale
        return image

    def reward(self):
        return float(self.place == 0)


class Black(Odd):
    scale = 1


class Still(Odd):
    def seen(self):
        return np.full((64, 64, 1), 100, np.uint8)


class Unseeded(Odd):
    places = itertools.count()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = next(self.places) % 64
        return self.seen(), {}


class Endless(Odd):
    length = None


class Poor(Odd):
    def reward(self):
        return 0.0


class Rich(Odd):
    def reward(self):
        return 250.0 * (self.place % 2)


class Crashing(Odd):
    def step(self, action):
        if self.t == 5:
            raise KeyError("no such key")
        return super().step(action)


class Limited(Odd):
    length, limit = None, 10


class Short(Odd):
    length = 2


class Large(Odd):
    observation_space = spaces.Box(-1e6, 1e6, (3,), np.float64)

    def seen(self):
        return np.array([self.place, 1000.0 * self.t, 0.0])


class Slow(Odd):
    def step(self, action):
        time.sleep(0.035)
        return super().step(action)


class Threaded(Odd):
    def __init__(self):
        threading.Thread(target=time.sleep, args=(600,), name="physics").start()


class Single(Odd):
    made = 0

    def __init__(self):
        Single.made += 1
        if Single.made % 2 == 0:
            raise OSError("the port is taken")


class Varying(Odd):
    made = 0

    def __init__(self):
        super().__init__()
        Varying.made += 1
        self.action_space = spaces.Discrete(2 + Varying.made)


class Unclosable(Odd):
    def close(self):
        raise ConnectionError("the game server did not answer")


class Wandering(Odd):
    def __init__(self):
        os.chdir("/")


class Idle(Odd):
    action_space = spaces.Discrete(1)
