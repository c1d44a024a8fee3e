"""Blocks of frames, for encoders that stream (dynamic chunk training).

Source: https://arxiv.org/abs/2012.05481

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain.core import Stage
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig


class BlockSampler:
    """Draws blocks for training; in place of SpeechBrain's
    `DynChunkTrainConfigRandomSampler`, whose left context is a number of
    blocks: here it is the same number of frames whatever the block.

    Arguments
    ---------
    blocks : list of int
        Frames of a block; one of them is drawn for each batch. None among
        them: an utterance is seen whole.
    left_context : int or list of int
        Frames seen before a block, at least. Of a list one is drawn for each
        training batch; the last is that of validation and tests.
    test_block : int, optional
        Frames of a block in validation and tests.

    Example
    -------
    >>> sampler = BlockSampler([2, None], left_context=63, test_block=4)
    >>> sampler(Stage.TEST)
    DynChunkTrainConfig(chunk_size=4, left_context_size=16)
    >>> sampler(Stage.TRAIN) in (None, sampler.config(2))
    True
    """

    def __init__(self, blocks, left_context, test_block=None):
        for block in (*blocks, test_block):
            if block is not None and block < 1:
                raise ValueError(f"a block has at least 1 frame, not {block}")
        self.blocks = blocks
        self.left_contexts = (
            left_context if isinstance(left_context, list) else [left_context]
        )
        self.test_block = test_block

    def config(self, block, left_context=None):
        """What SpeechBrain's encoders take.

        Arguments
        ---------
        block : int or None
            Frames of a block.
        left_context : int, optional
            Frames before it. Default: those of tests.

        Returns
        -------
        DynChunkTrainConfig or None
        """
        if block is None:
            return None
        if left_context is None:
            left_context = self.left_contexts[-1]
        return DynChunkTrainConfig(block, -(-left_context // block))

    def __call__(self, stage):
        """The blocks of a batch.

        Arguments
        ---------
        stage : speechbrain.core.Stage
            Training, validation or test.

        Returns
        -------
        DynChunkTrainConfig or None
        """
        if stage != Stage.TRAIN:
            return self.config(self.test_block)
        drawn = torch.randint(len(self.blocks), ()).item()
        left = self.left_contexts[0]
        if len(self.left_contexts) > 1:
            left = self.left_contexts[
                torch.randint(len(self.left_contexts), ()).item()
            ]
        return self.config(self.blocks[drawn], left)
