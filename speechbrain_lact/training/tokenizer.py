"""The tokenizer of a run: SentencePiece on the text of its training data.

Authors
* speechbrain_lact contributors 2026
"""

import sentencepiece

from speechbrain.tokenizers.SentencePiece import SentencePiece
from speechbrain_lact.utils.processes import on_main


class Tokenizer(SentencePiece):
    """SpeechBrain's tokenizer, with as many tokens as a small text has."""

    def _train_BPE(self):
        self._csv2text()
        sentencepiece.SentencePieceTrainer.train(
            input=self.text_file,
            model_prefix=self.prefix_model_file,
            model_type=self.model_type,
            vocab_size=int(self.vocab_size),
            hard_vocab_limit=False,
            character_coverage=1.0,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            unk_id=0,
            minloglevel=2,
        )


def make_tokenizer(folder, csv, hparams):
    """The tokenizer of a folder; made by the main process if there is none."""

    def load():
        """Makes what is not there, and loads it."""
        return Tokenizer(
            model_dir=folder,
            vocab_size=hparams["output_neurons"],
            annotation_train=str(csv),
            annotation_read="wrd",
            model_type=hparams["token_type"],
            bos_id=hparams.get("bos_index", -1),
            eos_id=hparams.get("eos_index", -1),
        )

    # SpeechBrain's waits for the others only where there was none yet.
    on_main(lambda: load() and None)
    return load()
