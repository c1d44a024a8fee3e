"""Beam search with a decoder whose memory is a state.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain.decoders.seq2seq import S2STransformerBeamSearcher


class LaCTTransformerBeamSearcher(S2STransformerBeamSearcher):
    """SpeechBrain's searcher for a LaCT decoder: one new position a step.

    SpeechBrain's own computes all tokens again at each step. Here the memory
    of a beam is (tokens, decoder state), and a step costs the same however
    many tokens there are.

    Arguments
    ---------
    modules : list
        A `TransformerASR` with `lact_decoder_chunk_size`, and the output
        layer.
    **kwargs : dict
        As SpeechBrain's `S2STransformerBeamSearcher`.

    Raises
    ------
    ValueError
        If the decoder has no LaCT.

    Example
    -------
    >>> from speechbrain.nnet.linear import Linear
    >>> from speechbrain_lact.lobes.models.transformer import TransformerASR
    >>> net = TransformerASR.TransformerASR(
    ...     tgt_vocab=10,
    ...     input_size=8,
    ...     d_model=16,
    ...     nhead=2,
    ...     num_encoder_layers=1,
    ...     num_decoder_layers=1,
    ...     d_ffn=32,
    ...     attention_type="LaCT",
    ...     causal=False,
    ...     lact_decoder_chunk_size=4,
    ... )
    >>> searcher = LaCTTransformerBeamSearcher(
    ...     modules=[net.eval(), Linear(input_size=16, n_neurons=10)],
    ...     bos_index=1,
    ...     eos_index=2,
    ...     min_decode_ratio=0.0,
    ...     max_decode_ratio=1.0,
    ...     beam_size=3,
    ... )
    >>> encoded = net.encode(torch.randn(2, 12, 8))
    >>> hyps, _, _, _ = searcher(encoded, torch.ones(2))
    >>> len(hyps)
    2
    """

    def __init__(self, modules, **kwargs):
        super().__init__(modules=modules, **kwargs)
        # Says at once whether the decoder has a state.
        self.model.initial_decoder_state(1)

    def reset_mem(self, batch_size, device):
        """No tokens, and a state that has seen none."""
        tokens = torch.zeros(batch_size, 0, dtype=torch.long, device=device)
        return tokens, self.model.initial_decoder_state(batch_size)

    def permute_mem(self, memory, index):
        """The memory of other beams."""
        tokens, state = memory
        return tokens[index], state.index(index)

    def forward_step(self, inp_tokens, memory, enc_states, enc_lens):
        """Scores of the next token, from the last one and the memory."""
        tokens, state = memory
        last = inp_tokens.unsqueeze(1)
        pred, attn, state = self.model.decode(
            last, enc_states, enc_lens, state=state
        )
        memory = torch.cat([tokens, last], 1), state
        log_probs = self.softmax(self.fc(pred[:, -1]) / self.temperature)
        return log_probs, memory, attn[:, -1]
