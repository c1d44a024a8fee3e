"""The beam search of a recogniser's tests.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain.decoders.scorer import (
    KenLMScorer,
    ScorerBuilder,
    TransformerLMScorer,
)
from speechbrain_lact.decoders.ctc_search import make_search


def make_searcher(hparams, tokenizer):
    """The beam search of the tests: over CTC, or over the decoder's scores
    with CTC and, if there are, language models."""
    size = tokenizer.sp.vocab_size()
    pieces = [tokenizer.sp.id_to_piece(i) for i in range(size)]
    if "seq_lin" not in hparams:
        options = dict(hparams["beam_search"])
        lm, blank = options.pop("kenlm_model_path"), options.pop("blank_index")
        return make_search(tokenizer.sp, blank, lm, **options)
    scorers = [hparams["ctc_scorer"]]
    weights = {"ctc": hparams["ctc_weight_decode"]}
    if hparams["language_model"] is not None:
        scorers.append(TransformerLMScorer(hparams["language_model"]))
        weights["transformerlm"] = hparams["lm_weight"]
    if hparams["kenlm_model_path"] is not None:
        pieces += [""] * (hparams["output_neurons"] - size)
        scorers.append(
            KenLMScorer(hparams["kenlm_model_path"], len(pieces), pieces)
        )
        weights["kenlm"] = hparams["lm_weight"]
    return hparams["test_search"](
        scorer=ScorerBuilder(full_scorers=scorers, weights=weights)
    )
