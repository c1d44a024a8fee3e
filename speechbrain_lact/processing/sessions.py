"""Sessions: consecutive utterances of one voice that share a memory.

Authors
* speechbrain_lact contributors 2026
"""

import json
import random

import torch
from torch.utils.data import Sampler

from speechbrain.utils.checkpoints import (
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain_lact.nnet.state_file import configuration

POOL = 16  # batches whose utterances are sorted together


class SessionBatchSampler(Sampler):
    """Batches in which every row is one session played in order.

    Row i of batch k + 1 is the utterance after row i of batch k; a session
    that ends makes place for the next one. The last batches have fewer rows.

    Arguments
    ---------
    sessions : list of str
        Session of each utterance of the data set.
    positions : list of int
        Place of each utterance within its session.
    batch_size : int
        Sessions played at a time.
    shuffle : bool
        Whether sessions come in another order each epoch.
    seed : int
        Seed of that order.
    rank, world_size : int
        Which share of the sessions this process takes. All processes make
        the same number of batches; together they are those of one process
        with `batch_size * world_size`. Some may be empty at the end.
    durations : list of float, optional
        Of each utterance; for `sorted_epochs`.
    sorted_epochs : int
        In so many epochs, counted from 1, the rows of a batch are utterances
        of like duration, in any order, not of sessions.

    Example
    -------
    >>> sampler = SessionBatchSampler(
    ...     ["a", "a", "b", "c", "c"], [0, 1, 0, 0, 1], 2, shuffle=False
    ... )
    >>> list(sampler)
    [[0, 2], [1, 3], [4]]
    >>> sampler = SessionBatchSampler(
    ...     ["a", "a", "b"], [0, 1, 0], 2, durations=[2, 3, 1], sorted_epochs=1
    ... )
    >>> sampler.set_epoch(1)
    >>> list(sampler)
    [[2, 0], [1]]
    """

    def __init__(
        self,
        sessions,
        positions,
        batch_size,
        shuffle=True,
        seed=0,
        rank=0,
        world_size=1,
        durations=None,
        sorted_epochs=0,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1: {batch_size}")
        if sorted_epochs and durations is None:
            raise ValueError("sorted_epochs needs the durations")
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0
        order = sorted(
            range(len(sessions)), key=lambda i: (sessions[i], positions[i])
        )
        grouped = {}
        for i in order:
            grouped.setdefault(sessions[i], []).append(i)
        self.sessions = list(grouped.values())
        self.durations, self.sorted_epochs = durations, sorted_epochs

    @property
    def rows(self):
        """Utterances of a full batch, of all processes."""
        return self.batch_size * self.world_size

    def set_epoch(self, epoch):
        """Chooses the order of sessions."""
        self.epoch = epoch

    def _plan(self):
        if 1 <= self.epoch <= self.sorted_epochs:
            return self._plan_sorted()
        order = list(range(len(self.sessions)))
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch}").shuffle(order)
        waiting = [list(self.sessions[i]) for i in reversed(order)]
        lanes = [[] for _ in range(self.rows)]
        batches = []
        while waiting or any(lanes):
            for place, lane in enumerate(lanes):
                if waiting and not lane:
                    lanes[place] = waiting.pop()
            row = [lane.pop(0) if lane else None for lane in lanes]
            mine = row[self.rank :: self.world_size]
            batches.append([i for i in mine if i is not None])
        return batches

    def _plan_sorted(self):
        """Batches of utterances of like duration."""
        draw = random.Random(f"{self.seed} {self.epoch}")
        order = [i for session in self.sessions for i in session]
        draw.shuffle(order)
        size, batches = self.rows, []
        for first in range(0, len(order), POOL * size):
            alike = order[first : first + POOL * size]
            alike.sort(key=lambda i: self.durations[i])
            batches += [alike[i : i + size] for i in range(0, len(alike), size)]
        draw.shuffle(batches)
        return [batch[self.rank :: self.world_size] for batch in batches]

    def __iter__(self):
        return iter(self._plan())

    def __len__(self):
        return len(self._plan())


@register_checkpoint_hooks
class SessionStates:
    """Hands each session the state that its last utterance left.

    Arguments
    ---------
    module : torch.nn.Module
        Has `initial_state(batch)`, as our encoders.
    state_class : type
        Class of its states.

    Example
    -------
    >>> from speechbrain_lact.nnet.lact import LaCT, LaCTState
    >>> layer, x = LaCT(8, 2, chunk_size=4), torch.randn(2, 6, 8)
    >>> states = SessionStates(layer, LaCTState)
    >>> for position in range(3):
    ...     place = ["a", "b"], [position] * 2
    ...     _, _, state = layer(x, x, x, state=states.start(*place))
    ...     states.keep(*place, state)
    >>> state.fast.steps[:, 0]
    tensor([6, 6])
    """

    per_process = True  # each has sessions of its own (WholeCheckpointer)

    def __init__(self, module, state_class):
        self.module, self.state_class = module, state_class
        self.clear()

    def clear(self):
        """Forgets all sessions."""
        self.state, self.places = None, {}

    def start(self, sessions, positions, reset_probability=0.0):
        """States for a batch of utterances.

        Arguments
        ---------
        sessions : list of str
            Session of each row.
        positions : list of int
            Place of each row's utterance in its session. A row goes on only
            where the last kept utterance was the one before.
        reset_probability : float
            Chance that a row starts afresh all the same.

        Returns
        -------
        State
        """
        if len(sessions) != len(positions):
            raise ValueError(
                f"{len(sessions)} sessions, but {len(positions)} positions"
            )
        if self.state is None:
            return self.module.initial_state(len(sessions))
        found = [
            self.places.get((session, position - 1))
            for session, position in zip(sessions, positions)
        ]
        fresh = torch.tensor([place is None for place in found])
        if reset_probability:
            fresh |= torch.rand(len(found)) < reset_probability
        rows = torch.tensor([place or 0 for place in found])
        device = next(self.module.parameters()).device
        return self.state.index(rows.to(device)).reset(fresh.to(device))

    def keep(self, sessions, positions, state, detach=True):
        """Keeps the states of a batch.

        Arguments
        ---------
        sessions, positions : list
            As `start` has them.
        state : State
            The states after these utterances.
        detach : bool
            Whether gradients end here.
        """
        if not len(sessions) == len(positions) == state.batch:
            raise ValueError(
                f"{len(sessions)} sessions and {len(positions)} positions for "
                f"a state of {state.batch} rows"
            )
        self.state = state.detach() if detach else state
        self.places = {
            place: row for row, place in enumerate(zip(sessions, positions))
        }

    @mark_as_saver
    def _save(self, path):
        places = [[*place, row] for place, row in self.places.items()]
        if self.state is not None:
            config = configuration(self.module)
            self.state.detach().save(f"{path}.state", config)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(places, file)

    @mark_as_loader
    def _load(self, path, end_of_epoch):
        self.clear()
        with open(path, encoding="utf-8") as file:
            places = json.load(file)
        if places and not end_of_epoch:
            device = next(self.module.parameters()).device
            self.state = self.state_class.load(
                f"{path}.state",
                configuration(self.module),
                device,
                like=self.module.initial_state(1),
            )
            self.places = {(s, p): row for s, p, row in places}
