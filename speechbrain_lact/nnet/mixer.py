"""What an encoder layer asks of a mixer: of the part that lets frames of a row
look at others, be it attention or a recurrent memory.

A mixer that is added is a subclass of `Mixer` in a file of its own and a line
in `speechbrain_lact.nnet.mixers`; another in `OTHERS` of its property tests
(`tests/unittests/test_law.py`). It says what it carries (`initial_state`) and
what it answers (`mix`); the rest is here and fits every mixer that answers each
frame as it comes.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass, replace

from torch import nn

from speechbrain_lact.nnet.checks import check_tensor
from speechbrain_lact.nnet.counts import host_values
from speechbrain_lact.nnet.frames import zero_padding
from speechbrain_lact.nnet.plan import ChunkPlan
from speechbrain_lact.nnet.state import State, Waiting, check_kind
from speechbrain_lact.nnet.window_attention import Window


@dataclass
class MixerState(State):
    """What a mixer carries from one call to the next.

    A subclass has at least the fields `waiting` (a `Waiting`: inputs that
    cannot be answered yet) and `lengths` (number of output frames of the call
    that made the state); `Mixer.forward` fills them. Where the memory can be kept from learning, it
    overrides what is below.
    """

    def learn(self, rows, values=None):
        """Says which rows learn from now on; the others only read.

        Arguments
        ---------
        rows : torch.Tensor
            Booleans [B].
        values : tuple, optional
            The same on the host, if it knows them.

        Returns
        -------
        MixerState
            Itself, where nothing learns.
        """
        return self

    @property
    def learning(self):
        """Which rows learn [B]; None where nothing does."""
        return None

    @property
    def updates(self):
        """Updates of each row [B]; None where nothing learns."""
        return None

    @property
    def skipped(self):
        """Updates left out because they were not finite [B], or None."""
        return None


class Mixer(nn.Module):
    """A part of an encoder layer, called as SpeechBrain's attention layers
    are, with a state in and out.

    A subclass sets `state_class`, makes its parameters, and has the methods
    `mix` and `initial_state`; `reset_parameters` draws its weights anew. The
    arguments of its constructor begin as those below.

    Arguments
    ---------
    d_model : int
        Width of the layer.
    nhead : int
        Number of heads.
    dropout : float
        Dropout of attention weights, where there are any.
    causal : bool
        Whether no output may depend on later input. A mixer that is always
        causal may ignore this, and the window of a call.
    """

    state_class = MixerState
    """What `initial_state` gives and `forward` takes."""

    chunk_size = 1
    """Frames that the window of a call has to reach back, at least."""

    def __init__(self, d_model, nhead, dropout=0.0, causal=False):
        super().__init__()
        self.d_model, self.nhead = d_model, nhead
        self.dropout, self.causal = dropout, causal
        # Frames that are seen as they are, beside those in a memory.
        self.window = Window(left=0)

    @classmethod
    def of_layer(cls, options, number, count):
        """Arguments of the mixer of one layer of an encoder.

        Arguments
        ---------
        options : dict
            Arguments of the encoder's mixers.
        number : int
            Which layer, from 0.
        count : int
            How many there are.

        Returns
        -------
        dict
        """
        return options

    def reset_parameters(self):
        """Draws the initial weights."""
        raise NotImplementedError

    def initial_state(self, batch):
        """State of rows that have seen nothing: all zeros, and flags True, for
        that is what `State.reset` gives. What is learned of the start stands
        in parameters, and is added where the state is read.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        MixerState
        """
        raise NotImplementedError

    def forward(
        self,
        query,
        key,
        value,
        attn_mask=None,
        key_padding_mask=None,
        return_attn_weights=True,
        pos_embs=None,
        state=None,
        final=True,
        window=None,
        ends=None,
        plan=None,
    ):
        """What the frames become.

        Arguments
        ---------
        query, key, value : torch.Tensor
            The same input [B, T, E].
        attn_mask : None
            Not supported: the mixer says what a frame sees.
        key_padding_mask : torch.Tensor, optional
            [B, T], True = padding, after the last real frame.
        return_attn_weights : bool
            Kept for compliance; there are no weights to return. False, and
            no state: `out` alone is returned.
        pos_embs : None
            Not used; kept for compliance.
        state : MixerState, optional
            Where to go on.
        final : bool
            Whether the sequence ends with this input; with `state` alone. The
            memory goes on to the next sequence, what waits and a window do
            not.
        window : Window, optional
            A window for this call (dynamic chunk training).
        ends : torch.Tensor, optional
            Boolean [B, T], True where a chunk may end after the frame, for a
            mixer that takes them (`check_ends`).
        plan : ChunkPlan, optional
            What the host knows of the call, in place of `key_padding_mask`
            and `ends`: an encoder gives all its layers the same. No frames may
            then have to wait, and padding is finite.

        Returns
        -------
        out : torch.Tensor
            [B, T, E], zeros at padding. With a state, the frames that could
            be answered, `state.lengths` of them.
        attn : None
            There are no attention weights.
        state : MixerState
            Only if a state was given.
        """
        x = self.check_input(query, key, value, attn_mask, state)
        window = self.check_window(window) if window else self.window
        waiting, own = state and state.waiting, plan is None
        if own:
            x, waiting, plan = self.make_plan(
                x, key_padding_mask, ends, state, final, window
            )
        out, new = self.mix(x, plan, state, final, window)
        # A layer alone keeps quiet on a device; its state has the number.
        if own and x.is_cpu:
            plan.report()
        out = zero_padding(out, plan.mask)
        if state is None:
            return (out, None) if return_attn_weights else out
        lengths = plan.counts(plan.lengths)
        return out, None, replace(new, waiting=waiting, lengths=lengths)

    def mix(self, x, plan, state, final, window):
        """What `forward` answers to frames that need not wait.

        Arguments
        ---------
        x : torch.Tensor
            The frames [B, T, E]. Padding is finite but not zero:
            `zero_padding(y, plan.mask)` keeps it out of a state.
        plan : ChunkPlan
            What the host knows of the call; `plan.mask` [B, T] is True at real
            frames, None if all are.
        state : MixerState
            Where to go on; None for a call without a state.
        final : bool
            Whether the sequence ends with these frames; with `state` alone.
        window : Window
            That of this call, or the layer's own.

        Returns
        -------
        out : torch.Tensor
            [B, T, E]; what stands at padding is of no influence.
        state : MixerState
            After these frames; `waiting` and `lengths` are filled in later.
            Not used in a call without a state.
        """
        raise NotImplementedError

    def check_window(self, window):
        """Refuses a window that the layer cannot have.

        Arguments
        ---------
        window : Window
            The layer's own, or one for a call.

        Returns
        -------
        Window
            The same.

        Raises
        ------
        ValueError
        """
        return window

    def configuration(self):
        """What, beside the weights, changes the answers of the layer.

        Returns
        -------
        dict
            What JSON can hold.
        """
        return {}

    @property
    def group(self):
        """Frames that are answered together when they come in pieces."""
        return self.group_of(None)

    def group_of(self, window):
        """The same with a window for one call.

        Arguments
        ---------
        window : Window, optional
            Default: the layer's own.

        Returns
        -------
        int
        """
        return (window or self.window).block or 1

    def check_streaming(self, size):
        """Refuses to stream with dynamic chunks that could not be answered as
        they come.

        Arguments
        ---------
        size : int
            Frames of a chunk.

        Raises
        ------
        ValueError
        """
        if self.causal:
            raise ValueError(
                "a streaming context needs causal=False; a causal encoder "
                "streams with encode(src, state=..., final=False)"
            )

    def check_ends(self, ends, x):
        """Refuses places where chunks may end that do not fit.

        Arguments
        ---------
        ends : torch.Tensor
            Boolean [B, T], True where a chunk may end after the frame; None
            for chunks of one length, or none at all.
        x : torch.Tensor
            The input [B, T, E].

        Returns
        -------
        torch.Tensor
            `ends`, on the device of the input.

        Raises
        ------
        ValueError
            If the mixer has no chunks, or for another shape or type.
        """
        if ends is not None:
            raise ValueError(
                "ends: only with least_chunk (lact_least_chunk) set"
            )
        return ends

    def at_blocks(self, ends, window):
        """Where chunks can end, of the places where they may.

        Arguments
        ---------
        ends : torch.Tensor
            Boolean [B, T], or None.
        window : Window, optional
            A window for this call.

        Returns
        -------
        torch.Tensor
            As `ends`.
        """
        return ends

    def push(self, waiting, x, lengths, ends, group, final, window=None):
        """Adds frames to those that wait and takes out what can be answered.

        Arguments
        ---------
        waiting : Waiting
            As `nothing_waits`.
        x, lengths : torch.Tensor
            New frames and their number, as `Waiting.push`.
        ends : torch.Tensor
            As `check_ends`.
        group : int
            Frames that are answered together.
        final : bool
            Whether the sequence ends here.
        window : Window, optional
            A window for this call.

        Returns
        -------
        ready, lengths, waiting
            As `Waiting.push`.
        ends : torch.Tensor
            Of the frames to answer.
        """
        return *waiting.push(x, lengths, group, final), None

    def nothing_waits(self, batch):
        """No input frames, as `push` takes them.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        Waiting
        """
        like = next(self.parameters())
        return Waiting.empty(like.new_zeros(batch, 0, self.d_model))

    def check_input(self, query, key, value, attn_mask, state):
        """Refuses what is no self-attention or does not fit.

        Arguments
        ---------
        query, key, value, attn_mask, state
            As `forward`.

        Returns
        -------
        torch.Tensor
            The input [B, T, E].

        Raises
        ------
        ValueError
        """
        name = type(self).__name__
        if key is not query or value is not query:
            raise ValueError(
                f"{name} is self-attention: query, key, value differ"
            )
        if attn_mask is not None:
            raise ValueError(
                f"{name} takes no attn_mask: its window and order say what a "
                f"frame sees"
            )
        x = check_tensor(query, ("B", "T", self.d_model), "query")
        if state is not None:
            check_kind(state, self.state_class)
            state.check_rows(len(x))
        return x

    def make_plan(self, x, key_padding_mask, ends, state, final, window):
        """What `ChunkPlan` a call has that was not given one: of the frames
        that can be answered.

        Arguments
        ---------
        x : torch.Tensor
            The input [B, T, E].
        key_padding_mask, ends, state, final, window
            As `forward`.

        Returns
        -------
        x : torch.Tensor
            The frames that can be answered, zeros at padding.
        waiting : Waiting
            Those that cannot; None without a state.
        plan : ChunkPlan
        """
        mask = None
        if key_padding_mask is not None:
            mask = ~check_tensor(
                key_padding_mask, x.shape[:2], "key_padding_mask", "booleans"
            )
        ends = self.check_ends(ends, x)
        x, waiting = zero_padding(x, mask), None
        plan = ChunkPlan.of(x, mask)
        if state is not None:
            x, lengths, waiting, ends = self.push(
                state.waiting,
                x,
                plan.counts(plan.lengths),
                ends,
                self.group_of(window),
                final,
                window,
            )
            plan = ChunkPlan(host_values(lengths), x.shape[1], x.device)
            x = x if final else zero_padding(x, plan.mask)
        if ends is not None:
            plan.ends = self.at_blocks(ends.cpu(), window)
        return x, waiting, plan
