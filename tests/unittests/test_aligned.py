"""Live decoding: what is final, on a decoder whose answers are written down.

Each frame holds the token that is said there, or nothing. The decoder says the
tokens in order and attends to their frames; behind the last it goes on with
whatever it is told to make up.
"""

from types import SimpleNamespace

import pytest
import torch

from speechbrain_lact.decoders.aligned import AlignedDecoder

PIECES = ["<eot>", " the", " child", "ren", ".", " a", "<no>", "<s>", " "]
EOT, THE, CHILD, REN, DOT, A, NO, START, BLANK = range(len(PIECES))
NOTHING = -1


class Decoder:
    """Stands for Whisper's decoder."""

    config = SimpleNamespace(_attn_implementation="sdpa")
    embed_tokens = SimpleNamespace(weight=torch.eye(len(PIECES)))

    def __init__(
        self, invented=(), silent=False, sure=9.0, resting=0, elsewhere=()
    ):
        self.invented, self.silent, self.sure = invented, silent, sure
        self.resting, self.elsewhere = resting, dict(elsewhere)

    def set_attn_implementation(self, name):
        """Nothing depends on it."""

    def __call__(self, input_ids, encoder_hidden_states, cache, **_):
        """What comes after the tokens so far."""
        ids = (cache or []) + input_ids[0].tolist()
        said = len(ids) - 1
        frames = encoder_hidden_states[0, :, 0].tolist()
        places = [i for i, token in enumerate(frames) if token != NOTHING]
        if said < len(places):
            place, token = places[said], int(frames[places[said]])
        elif self.invented:
            place = len(frames) - 1
            token = self.invented[(said - len(places)) % len(self.invented)]
        else:
            place, token = len(frames) - 1, EOT
        hidden = torch.zeros(1, input_ids.shape[1], len(PIECES))
        hidden[0, -1, token] = self.sure
        if self.silent:
            hidden[0, 0, NO] = 90.0
        attention = torch.zeros(1, 3, input_ids.shape[1], len(frames))
        attention[0, :, -1, self.elsewhere.get(token, place)] = 0.2
        attention[0, : self.resting, -1, 0] = 0.8
        return SimpleNamespace(
            last_hidden_state=hidden, cross_attentions=[attention], cache=ids
        )


def decoder(hold=4, **options):
    """A decoder of live frames, with three heads that agree."""
    tokenizer = SimpleNamespace(
        prefix_tokens=[START],
        vocab_size=len(PIECES),
        decode=lambda ids: "".join(PIECES[i] for i in ids),
        encode=lambda *_, **__: [BLANK],
    )
    host = SimpleNamespace(
        model=SimpleNamespace(decoder=Decoder(**options)),
        tokenizer=tokenizer,
        non_speech_tokens=[NO],
        eos=EOT,
        no_speech=NO,
    )
    # What comes behind the end of text is never said; here it is first.
    heads = [[0, 0], [0, 1], [0, 2]]
    net = AlignedDecoder(host, heads, hold)
    net.never = torch.zeros(len(PIECES))
    net.never[[NO, START]] = -torch.inf
    return net


def frames(count=40, **said):
    """Frames with a token in some: f3=THE."""
    x = torch.full((count, 1), float(NOTHING))
    for place, token in said.items():
        x[int(place[1:])] = token
    return x


def test_a_token_is_final_when_attention_is_clear_of_the_newest_frames():
    """And not before; the next one shows that its word is whole."""
    x, net = frames(60, f3=THE, f10=CHILD, f14=REN, f30=A), decoder()
    assert net(x[:14]).tokens == [[THE, 3]]
    assert net(x[:14]).changing == []
    # REN is too new: the word that it belongs to is not whole.
    new = net(x[:16])
    assert new.tokens == [[THE, 3]] and new.changing == [[CHILD, 10]]
    assert net(x[:35], [[THE, 3]]).tokens == [[CHILD, 10], [REN, 14]]
    assert net(x, [[THE, 3], [CHILD, 10], [REN, 14]]).tokens == [[A, 30]]


def test_a_word_that_the_audio_may_cut_waits():
    """The decoder says that nothing follows; more may, until there is a
    pause."""
    said = [[THE, 3]]
    x, net = frames(60, f3=THE, f10=CHILD), decoder(hold=2)
    cut = net(x[:20], said)
    assert cut.tokens == [] and cut.changing == [[CHILD, 10]]
    assert net(x, said).tokens == [[CHILD, 10]]
    x[20] = REN
    assert net(x, said).tokens == [[CHILD, 10], [REN, 20]]


def test_a_word_in_which_the_search_ends_waits():
    """It went back in the middle of the word."""
    x = frames(60, f35=THE, f38=CHILD, f39=REN)
    found = decoder(elsewhere={REN: 5})(x)
    assert found.tokens == [[THE, 35]] and found.changing == [[CHILD, 38]]


def test_heads_at_rest_are_not_asked():
    """Most attention may lie on the first frame of a segment."""
    x = frames(f3=THE, f38=A)
    found = decoder(resting=3)(x, closed=True)
    assert found.tokens == [[THE, 3], [A, 38]]


def test_what_is_final_does_not_depend_on_when_it_was_asked_for():
    """Any number of frames at a time, the same tokens at the end."""
    x, net = frames(f3=THE, f10=CHILD, f14=REN, f20=DOT, f30=A), decoder()
    for step in (1, 3, 7, 40):
        said = []
        for end in range(step, 40, step):
            said += net(x[:end], said).tokens
        said += net(x, said, closed=True).tokens
        assert [token for token, _ in said] == [THE, CHILD, REN, DOT, A]


def test_a_mark_waits_for_the_word_after_it():
    """Where speech pauses, the decoder thinks that a sentence ends."""
    x = frames(f3=CHILD, f5=DOT)
    assert decoder()(x).tokens == [[CHILD, 3]]
    assert decoder()(x, closed=True).tokens == [[CHILD, 3], [DOT, 5]]


def test_the_newest_frames_are_given_when_the_segment_ends():
    """Up to the last frame."""
    x = frames(f3=THE, f39=A)
    assert decoder()(x).tokens == [[THE, 3]]
    assert decoder()(x, [[THE, 3]], closed=True).tokens == [[A, 39]]


@pytest.mark.parametrize("invented", [[A], [THE, A], [THE, CHILD, REN]])
def test_a_loop_is_cut(invented):
    """After its first occurrence comes no more than a few words."""
    found = decoder(invented=invented)(frames(f3=CHILD), closed=True).tokens
    assert found[0] == [CHILD, 3] and len(found) < 15


def test_attention_that_goes_back_ends_the_search():
    """It would say again what was said."""
    x = frames(f2=THE, f5=A)
    assert decoder()(x, [[CHILD, 38]], closed=True).tokens == []
    assert decoder()(x, [[CHILD, 28]], closed=True).tokens == [[A, 28]]


def test_no_speech_says_nothing():
    """As the first frames are taken for silence."""
    assert decoder(silent=True)(frames(f3=THE), closed=True).tokens == []


def test_what_is_not_sure_at_the_start_is_not_said():
    """Noise; after words, a word may be hard to hear."""
    x, net = frames(f3=THE, f10=A), decoder(sure=0.7)
    assert net(x, closed=True).tokens == []
    assert net(x, [[THE, 3]], closed=True).tokens == [[A, 10]]


def test_times_never_go_back():
    """Attention may, by a little."""
    x = frames(f3=THE, f10=A)
    assert decoder()(x, [[THE, 20]], closed=True).tokens == [[A, 20]]
