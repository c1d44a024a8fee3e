"""What SpeechBrain's checkpoints lack for an exact resume.

Authors
* speechbrain_lact contributors 2026
"""

import os
import random

import numpy
import torch

from speechbrain.utils.checkpoints import (
    METAFNAME,
    Checkpointer,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import get_rank, if_main_process
from speechbrain_lact.utils.processes import agree, draw_apart, on_main


class WholeCheckpointer(Checkpointer):
    """SpeechBrain's Checkpointer that survives a kill while it saves.

    SpeechBrain writes the file that marks a folder as a checkpoint first;
    here it gets its name last, so that half a checkpoint is none.

    Example
    -------
    >>> folder = getfixture("tmpdir")
    >>> saver = WholeCheckpointer(folder, {"net": torch.nn.Linear(2, 2)})
    >>> _ = saver.save_checkpoint(name="one")
    >>> len(saver.list_checkpoints())
    1
    """

    def _save_checkpoint_metafile(self, fpath, *args, **kwargs):
        aside = fpath.with_suffix(".part")
        return super()._save_checkpoint_metafile(aside, *args, **kwargs)

    def save_checkpoint(self, *args, **kwargs):
        """As SpeechBrain's; raises OSError if the disk is full.

        All processes go on together, when the checkpoint is whole, or fail
        together. What each has of its own is saved by each.
        """
        try:
            saved = on_main(super().save_checkpoint, *args, **kwargs)
            agree(self._save_own, saved)
            meta = saved.path / METAFNAME
            on_main(os.replace, meta.with_suffix(".part"), meta)
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"no checkpoint could be written to {self.checkpoints_dir} "
                f"({error}); those before are whole: make room and run the "
                f"same command again"
            ) from error
        return saved

    def _save_own(self, checkpoint):
        """What other processes than the main one have of their own."""
        if not if_main_process():
            for name, path in checkpoint.paramfiles.items():
                if getattr(self.recoverables[name], "per_process", False):
                    self.recoverables[name]._save(_own(path))

    def _call_load_hooks(self, checkpoint):
        super()._call_load_hooks(checkpoint)
        for name, path in checkpoint.paramfiles.items():
            whose = self.recoverables.get(name)
            if getattr(whose, "per_process", False) and not if_main_process():
                if os.path.exists(_own(path)):
                    whose._load(_own(path), checkpoint.meta["end-of-epoch"])
                elif isinstance(whose, RandomState):
                    draw_apart()  # there were fewer processes before

    def find_checkpoints(self, *args, **kwargs):
        """As SpeechBrain's; the same ones in every process, whatever each
        may see of the disk."""
        return on_main(super().find_checkpoints, *args, **kwargs)

    def delete_checkpoints(self, **kwargs):
        """As SpeechBrain's, by the main process; the others wait."""
        on_main(super().delete_checkpoints, **kwargs)


def _own(path):
    """Name of the file of this process."""
    return f"{path}.{get_rank()}"


# What NumPy's state was in files before: an array, not a tensor.
ARRAYS = [
    numpy.empty(0).__reduce__()[0],
    numpy.ndarray,
    numpy.dtype,
    type(numpy.dtype("uint32")),
]


@register_checkpoint_hooks
class RandomState:
    """State of all random number generators, as something to save.

    Example
    -------
    >>> path = getfixture("tmpdir") / "random"
    >>> RandomState()._save(path)
    >>> before = torch.rand(1)
    >>> RandomState()._load(path, end_of_epoch=False)
    >>> torch.equal(before, torch.rand(1))
    True
    """

    per_process = True  # each draws its own

    @mark_as_saver
    def _save(self, path):
        kind, words, *rest = numpy.random.get_state(legacy=True)
        words = torch.from_numpy(words.astype("int64"))
        state = {
            "torch": torch.get_rng_state(),
            "numpy": (kind, words, *rest),
            "python": random.getstate(),
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        torch.save(state, path)

    @mark_as_loader
    def _load(self, path, end_of_epoch):
        with torch.serialization.safe_globals(ARRAYS):
            state = torch.load(path, weights_only=True)
        torch.set_rng_state(state["torch"])
        kind, words, *rest = state["numpy"]
        words = numpy.asarray(words, dtype="uint32")
        numpy.random.set_state((kind, words, *rest))
        random.setstate(state["python"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
