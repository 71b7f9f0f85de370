"""The episodes a replay holds: of each its rows without gaps, and where every record lies.

What stays true whatever is added or forgotten:

- episodes are in the order in which they arrived; none is empty, and only the newest can be open;
- the records of an episode follow each other without a gap, so that its rows are those from
  `first_step` to `end`;
- `stored_steps` and `short_episodes` are exact.

An episode that lost its head to eviction, or a part to damage, goes on as one or two episodes of
the rows it has left in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dreamer_core.replay.format import Record


@dataclass(slots=True)
class Episode:
    """The rows of one episode that are held, without gaps."""

    key: tuple[int, int]
    """(incarnation, episode)."""
    records: list[Record]
    first_steps: list[int]
    """Of each record, for bisecting."""
    end: int
    """Step after the newest row."""
    is_closed: bool
    is_terminal: bool

    @property
    def rows(self) -> int:
        """So many are held."""
        return self.end - self.first_steps[0]

    def is_followed_by(self, record: Record) -> bool:
        """Whether its next row is the record's first."""
        return (
            not self.is_closed and self.key == record.episode_key and self.end == record.first_step
        )

    def append(self, record: Record) -> None:
        """Takes a record that follows; its flags are the episode's."""
        self.records.append(record)
        self.first_steps.append(record.first_step)
        self.end += record.rows
        self.is_closed, self.is_terminal = record.is_last, record.is_terminal

    def without(self, record: Record) -> list[Episode]:
        """Returns what lies before the record, which is closed by it, and what lies behind."""
        at = self.records.index(record)
        head = replace(
            self,
            records=self.records[:at],
            first_steps=self.first_steps[:at],
            end=record.first_step,
            is_closed=True,
            is_terminal=False,
        )
        rest = replace(self, records=self.records[at + 1 :], first_steps=self.first_steps[at + 1 :])
        return [piece for piece in (head, rest) if piece.records]


class EpisodeIndex:
    """The episodes held, oldest first, and the sums over them.

    Args:
        batch_length: T; closed episodes of fewer rows are counted as short, and an open one
            is not drawn before it has so many.
    """

    def __init__(self, batch_length: int) -> None:
        self.batch_length = batch_length
        self._episodes: list[Episode] = []
        self._newest_by_key: dict[tuple[int, int], Episode] = {}
        self._stored_steps = 0
        self._short_episodes = 0

    @property
    def episodes(self) -> Sequence[Episode]:
        """Oldest first."""
        return self._episodes

    @property
    def stored_steps(self) -> int:
        """Rows held."""
        return self._stored_steps

    @property
    def short_episodes(self) -> int:
        """Closed episodes of fewer than T rows."""
        return self._short_episodes

    @property
    def newest(self) -> Episode | None:
        """The one that arrived last."""
        return self._episodes[-1] if self._episodes else None

    @property
    def num_open(self) -> int:
        """1 while the newest episode goes on, else 0."""
        return int(self.newest is not None and not self.newest.is_closed)

    @property
    def num_eligible(self) -> int:
        """Episodes that may be drawn: all but an open one that is shorter than T."""
        newest = self.newest
        if newest is None:
            return 0
        is_eligible = newest.is_closed or newest.rows >= self.batch_length
        return len(self._episodes) - (not is_eligible)

    def find(self, key: tuple[int, int]) -> Episode | None:
        """Returns the newest rows held of an episode."""
        return self._newest_by_key.get(key)

    def add(self, record: Record) -> None:
        """Adds a record to the newest episode, or closes that and begins another."""
        newest = self.newest
        if newest is None or not newest.is_followed_by(record):
            if newest is not None and not newest.is_closed:
                newest.is_closed = True
                self._short_episodes += self._is_short(newest)
            newest = Episode(
                record.episode_key, [], [], record.first_step, is_closed=False, is_terminal=False
            )
            self._episodes.append(newest)
            self._newest_by_key[newest.key] = newest
        newest.append(record)
        self._short_episodes += self._is_short(newest)
        self._stored_steps += record.rows

    def forget_oldest(self, num_records: int) -> None:
        """Forgets so many records that arrived first."""
        num_emptied = 0
        while num_records:
            episode = self._episodes[num_emptied]
            num_gone = min(num_records, len(episode.records))
            num_records -= num_gone
            self._short_episodes -= self._is_short(episode)
            self._stored_steps -= sum(record.rows for record in episode.records[:num_gone])
            del episode.records[:num_gone], episode.first_steps[:num_gone]
            if episode.records:
                self._short_episodes += self._is_short(episode)
                continue
            num_emptied += 1
            if self._newest_by_key.get(episode.key) is episode:
                del self._newest_by_key[episode.key]
        del self._episodes[:num_emptied]

    def forget(self, record: Record) -> None:
        """Forgets one record; the rows around it become episodes of their own."""
        at = next(i for i, episode in enumerate(self._episodes) if record in episode.records)
        whole = self._episodes[at]
        pieces = whole.without(record)
        self._episodes[at : at + 1] = pieces
        self._stored_steps -= record.rows
        self._short_episodes += sum(map(self._is_short, pieces)) - self._is_short(whole)
        if self._newest_by_key.get(whole.key) is whole:
            del self._newest_by_key[whole.key]
            left = at + len(pieces)
            nearest = self._episodes[max(0, left - 1) : left]
            self._newest_by_key.update(
                (each.key, each) for each in nearest if each.key == whole.key
            )

    def _is_short(self, episode: Episode) -> bool:
        return episode.is_closed and episode.rows < self.batch_length
