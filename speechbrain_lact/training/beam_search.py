"""The beam search of a recogniser's tests.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain.decoders.scorer import (
    KenLMScorer,
    ScorerBuilder,
    TransformerLMScorer,
)


def make_searcher(hparams, tokenizer):
    """The beam search of the tests: over CTC, or over the decoder's scores
    with CTC and, if there are, language models."""
    size = tokenizer.sp.vocab_size()
    pieces = [tokenizer.sp.id_to_piece(i) for i in range(size)]
    if "seq_lin" not in hparams:
        from speechbrain.decoders.ctc import CTCBeamSearcher

        return CTCBeamSearcher(**hparams["beam_search"], vocab_list=pieces)
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
