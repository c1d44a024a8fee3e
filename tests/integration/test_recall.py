"""A memory that trains answers what its window has long lost.

A short form of benchmarks/recall.py: frames that hold a key and a value each,
frames that hold nothing, then the keys alone.

Authors
* speechbrain_lact contributors 2026
"""

import pytest
import torch
from torch import nn

from speechbrain_lact.nnet.lact import LaCT, frozen_memory

SYMBOLS, PAIRS, DISTANCE, WIDTH, CHUNK = 16, 4, 24, 32, 8
STEPS, ROWS = 150, 32


class Reader(nn.Module):
    """Embeddings of keys and values, a causal LaCT layer, and an answer."""

    def __init__(self, optimizer, **options):
        super().__init__()
        self.keys = nn.Embedding(SYMBOLS + 1, WIDTH)
        self.values = nn.Embedding(SYMBOLS + 1, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mixer = LaCT(
            WIDTH,
            2,
            chunk_size=CHUNK,
            order="apply_update",
            causal=True,
            fast_heads=1,
            optimizer=optimizer,
            **options,
        )
        self.answer = nn.Linear(WIDTH, SYMBOLS)

    def forward(self, keys, values):
        """Scores of values for the last frames [B, PAIRS, SYMBOLS]."""
        x = self.keys(keys) + self.values(values)
        y = self.norms[0](x)
        x = x + self.mixer(y, y, y)[0]
        return self.answer(self.norms[1](x[:, -PAIRS:]))


def draw(generator):
    """Keys, values (0: none) and answers of fresh sequences."""
    order = torch.rand(ROWS, SYMBOLS, generator=generator).argsort(1)
    keys = order[:, :PAIRS] + 1
    values = torch.randint(1, SYMBOLS + 1, keys.shape, generator=generator)
    places = torch.rand(keys.shape, generator=generator).argsort(1)
    nothing = keys.new_zeros(ROWS, DISTANCE)
    asked = keys.gather(1, places)
    return (
        torch.cat([keys, nothing, asked], 1),
        torch.cat([values, nothing, torch.zeros_like(asked)], 1),
        values.gather(1, places) - 1,
    )


def right(net, steps=STEPS):
    """Share of right answers, after training; chance is 1 in 16."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.0)
    for step in range(steps):
        keys, values, answers = draw(generator)
        scores = net(keys, values).transpose(1, 2)
        loss = nn.functional.cross_entropy(scores, answers)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1, 2 - 2 * step / steps)
        optimizer.step()
    keys, values, answers = draw(torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float((net(keys, values).argmax(-1) == answers).float().mean())


@pytest.mark.parametrize("learn", [["w0", "w1", "w2"], ["w1"]])
def test_what_the_window_has_lost_is_answered(learn):
    torch.manual_seed(0)
    assert right(Reader("muon", learn=learn)) > 0.8


def test_a_memory_that_does_not_learn_answers_nothing():
    torch.manual_seed(0)
    net = Reader("muon")
    with frozen_memory([net]):
        assert right(net, STEPS // 3) < 0.2
