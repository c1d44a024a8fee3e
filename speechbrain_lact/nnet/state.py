"""States of sequence modules as values: batch-first dataclasses of tensors.

A module of this package takes a state and returns a new one; it never keeps
sequence state in an attribute. States can be indexed, joined, reset, detached
and moved row by row, and written to a versioned file (`state_file`).

Authors
* speechbrain_lact contributors 2026
"""

import dataclasses
from dataclasses import dataclass

import torch

from speechbrain_lact.nnet.checks import describe
from speechbrain_lact.nnet.counts import (
    count_tensor,
    host_values,
    known_values,
    remember,
)
from speechbrain_lact.nnet.frames import (
    padding_mask,
    slide,
    splice,
    zero_padding,
)
from speechbrain_lact.nnet.state_file import read_tensors, write_tensors


def buffer(side, dim=1):
    """Field of frames that wait, of which states may hold different numbers.

    Arguments
    ---------
    side : str
        Where padding goes when rows of different widths are joined: `"right"`
        for frames aligned to the left, `"left"` for frames aligned to the
        right.
    dim : int
        The dimension of the frames.

    Returns
    -------
    dataclasses.Field
        To be assigned in the body of a `State`.
    """
    return dataclasses.field(default=None, metadata={"pad": side, "dim": dim})


def counter(*of, least=0):
    """Field of integers that count something, one for each row.

    Arguments
    ---------
    *of : str
        Buffers of the same state of which they count the real frames: these
        are of one width, and a count is at most that.
    least : int
        The smallest number allowed.

    Returns
    -------
    dataclasses.Field
        To be assigned in the body of a `State`.
    """
    return dataclasses.field(default=None, metadata={"of": of, "least": least})


def nested(cls, many=False):
    """Field that holds another state, or a list of them.

    Arguments
    ---------
    cls : type
        The class of the state; of a field that may hold others too, the one
        that a file means if it names none.
    many : bool
        Whether the field is a list of such states.

    Returns
    -------
    dataclasses.Field
        To be assigned in the body of a `State`.
    """
    return dataclasses.field(
        default=None, metadata={"state": cls, "many": many}
    )


@dataclass
class State:
    """Base of all states: a dataclass whose fields are batch-first tensors,
    other states, lists of states, or None.

    Example
    -------
    >>> @dataclass
    ... class Counter(State):
    ...     count: torch.Tensor = None
    >>> state = Counter(torch.tensor([1, 2, 3]))
    >>> state.index(torch.tensor([2, 0])).count
    tensor([3, 1])
    >>> state.reset(torch.tensor([True, False, False])).count
    tensor([0, 2, 3])
    >>> Counter.cat([state, state]).count
    tensor([1, 2, 3, 1, 2, 3])
    """

    def map(self, function, values=None):
        """Applies a function to every tensor.

        Arguments
        ---------
        function : callable
            Takes a tensor and returns a tensor.
        values : callable, optional
            The same of what the host knows of a tensor: takes its values in
            order and the tensor, and returns those of the new one. Default:
            nothing is known of it.

        Returns
        -------
        State
            A new state of the same class.
        """

        def visit(value):
            """Tensors within states within lists."""
            if isinstance(value, torch.Tensor):
                new, known = function(value), known_values(value)
                if values is not None and known is not None:
                    remember(new, values(known, value))
                return new
            if isinstance(value, State):
                return value.map(function, values)
            if isinstance(value, list):
                return [visit(item) for item in value]
            return value

        return dataclasses.replace(
            self,
            **{
                field.name: visit(getattr(self, field.name))
                for field in dataclasses.fields(self)
            },
        )

    def index(self, rows):
        """Selects, repeats or reorders rows, as a beam search does.

        Arguments
        ---------
        rows : torch.Tensor, list or slice
            Integer indices or a boolean mask over the batch.

        Returns
        -------
        State
            The rows asked for, in that order.
        """

        moved = {}

        def take(tensor):
            """The rows may be named on another device, or on none."""
            device = tensor.device
            if isinstance(rows, slice):
                return tensor[rows]
            if device not in moved and isinstance(rows, torch.Tensor):
                moved[device] = rows.to(device)
            elif device not in moved:
                moved[device] = count_tensor(rows, device)
            return tensor[moved[device]]

        def take_known(known, tensor):
            """The same on the host, which knows no rows of a device."""
            if isinstance(rows, torch.Tensor) and not rows.is_cpu:
                return None
            each = len(known) // max(len(tensor), 1)
            return tuple(
                known[row * each + place]
                for row in _numbers(rows, len(tensor))
                for place in range(each)
            )

        return self.map(take, take_known)

    def detach(self):
        """Cuts the state from the graph that made it."""
        return self.map(torch.Tensor.detach, lambda known, _: known)

    def to(self, device):
        """Moves every tensor to a device; types stay as they are."""
        return self.map(
            lambda tensor: tensor.to(device), lambda known, _: known
        )

    def reset(self, rows):
        """Puts rows back to the start of a sequence, with the model's own
        initial memory; it learns again, as at the start.

        Arguments
        ---------
        rows : torch.Tensor
            Boolean mask [batch], True where the row starts again.

        Returns
        -------
        State
            The other rows are unchanged.
        """

        def clear(tensor):
            """A row at the start is all zeros, and its flags are all True."""
            where = rows.to(tensor.device).view(-1, *[1] * (tensor.ndim - 1))
            return tensor.masked_fill(where, tensor.dtype == torch.bool)

        def clear_known(known, tensor):
            """The same on the host, which knows no rows of a device."""
            if isinstance(rows, torch.Tensor) and rows.device.type != "cpu":
                return None
            first = True if tensor.dtype == torch.bool else 0
            each = len(known) // max(len(tensor), 1)
            return tuple(
                (first if rows[i // each] else value)
                for i, value in enumerate(known)
            )

        return self.map(clear, clear_known)

    @classmethod
    def cat(cls, states):
        """Joins states along the batch; narrower buffers are padded.

        Arguments
        ---------
        states : list of State
            States of one class and configuration.

        Returns
        -------
        State
            All rows in order.
        """
        if not states or any(type(state) is not cls for state in states):
            names = ", ".join(type(state).__name__ for state in states)
            raise ValueError(
                f"states of {cls.__name__} are joined, at least one, not "
                f"{names or 'none'}"
            )
        joined = {}
        for field in cls._fields():
            values = [getattr(state, field.name) for state in states]
            if field.metadata.get("many"):
                inner = field.metadata["state"]
                if len({len(value) for value in values}) > 1:
                    raise ValueError(
                        f"states of different configurations: '{field.name}' "
                        f"has different lengths"
                    )
                joined[field.name] = [
                    inner.cat(list(layer)) for layer in zip(*values)
                ]
            elif all(isinstance(value, State) for value in values):
                joined[field.name] = values[0].cat(values)
            elif any(value is None for value in values):
                if not all(value is None for value in values):
                    raise ValueError(
                        f"states of different configurations: only some have "
                        f"'{field.name}'"
                    )
                joined[field.name] = None
            else:
                joined[field.name] = _join(values, field)
        return cls(**joined)

    @property
    def batch(self):
        """Number of rows."""
        return len(next(self._named_tensors())[1])

    def check(self, like, rows=None, what="state", contents=True, counts=True):
        """Refuses a state that does not fit a module.

        Arguments
        ---------
        like : State
            What the module's `initial_state` gives, of any number of rows.
        rows : int, optional
            How many rows there must be. Default: as many as there are.
        what : str
            What the state is called in messages.
        contents : bool
            Whether values are looked at, too: all must be finite.
        counts : bool
            With `contents`: whether what counts must be possible.

        Returns
        -------
        State
            Itself.

        Raises
        ------
        ValueError
            Naming the field, with what was given and what is wanted.

        Example
        -------
        >>> waiting = Waiting.empty(torch.zeros(2, 0, 5))
        >>> waiting.check(Waiting.empty(torch.zeros(1, 0, 6)))
        Traceback (most recent call last):
        ...
        ValueError: state.frames: torch.float32 [2, *, 6] is wanted, not \
torch.float32 [2, 0, 5]
        """
        check_kind(self, type(like), what)
        if rows is None:
            rows = self.batch
        elif self.batch != rows:
            raise ValueError(
                f"{what}: of {self.batch} rows, but {rows} are wanted"
            )
        doubts = []
        for name, field, value, wanted, state in _pairs(self, like, what):
            _check_leaf(name, field, value, wanted, rows)
            if value is not None and contents:
                doubts += _doubts(name, field, value, counts and state)
        if doubts:
            # One look at the device for all of them.
            wrong = torch.stack([flag for _, flag in doubts]).tolist()
            for (message, _), flag in zip(doubts, wrong):
                if flag:
                    raise ValueError(message)
        return self

    def check_rows(self, batch, what="state"):
        """Refuses a state of another number of rows.

        Arguments
        ---------
        batch : int
            Rows of the input.
        what : str
            What the state is called in the message.

        Raises
        ------
        ValueError
        """
        if self.batch != batch:
            raise ValueError(
                f"{what}: {self.batch} rows for an input of {batch} rows"
            )

    def save(self, path, config):
        """Writes the state beside its target name, then renames it.

        Arguments
        ---------
        path : str
            The file to write.
        config : dict
            What the state belongs to (sizes and options of the module).
        """
        write_tensors(
            path,
            dict(self._named_tensors()),
            type(self).__name__,
            config,
            dict(self._other_kinds()),
        )

    @classmethod
    def load(cls, path, config, device="cpu", like=None):
        """Reads a state that `save` wrote.

        Arguments
        ---------
        path : str
            The file to read.
        config : dict
            What the state must belong to.
        device : str
            Where to put the tensors.
        like : State, optional
            What the module's `initial_state` gives: the contents are checked
            against it.

        Returns
        -------
        State

        Raises
        ------
        ValueError
            If the file is no state, is damaged, or is of another version or
            configuration, or if its contents do not fit.
        """
        tensors, kinds = read_tensors(path, cls.__name__, config)
        kinds = {name: _state_class(path, k) for name, k in kinds.items()}
        state = cls._from_tensors(tensors, kinds)
        known = {name for name, _ in state._named_tensors()}
        if len(known) < len(tensors) or not known:
            extra = min(set(tensors) - known, default="nothing at all")
            raise ValueError(f"{path}: holds {extra}: no {cls.__name__}")
        if like is not None:
            state.check(like, what=str(path))
        return state.to(device)

    @classmethod
    def _fields(cls):
        return dataclasses.fields(cls)

    def _named_tensors(self, prefix=""):
        # Of the state, not of its class: torch.compile knows these.
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            name = prefix + field.name
            if isinstance(value, torch.Tensor):
                yield name, value
            elif isinstance(value, State):
                yield from value._named_tensors(name + ".")
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    yield from item._named_tensors(f"{name}.{i}.")

    def _other_kinds(self, prefix=""):
        """Names of the states within that are of another class than their
        field says, and of the class."""
        for field in self._fields():
            value, kind = getattr(self, field.name), field.metadata.get("state")
            name = prefix + field.name
            if isinstance(value, State):
                value = {name: value}
            elif isinstance(value, list):
                value = {f"{name}.{i}": item for i, item in enumerate(value)}
            else:
                continue
            for inner, item in value.items():
                if type(item) is not kind:
                    yield inner, type(item).__name__
                yield from item._other_kinds(inner + ".")

    @classmethod
    def _from_tensors(cls, tensors, kinds, prefix=""):
        values = {}
        for field in cls._fields():
            name, inner = prefix + field.name, field.metadata.get("state")
            if inner is None:
                values[field.name] = tensors.get(name)
            elif field.metadata["many"]:
                heads = [n for n in tensors if n.startswith(name + ".")]
                heads = {n[len(name) + 1 :].split(".")[0] for n in heads}
                values[field.name] = [
                    kinds.get(f"{name}.{i}", inner)._from_tensors(
                        tensors, kinds, f"{name}.{i}."
                    )
                    for i in range(len(heads))
                ]
            elif any(n.startswith(name + ".") for n in tensors):
                values[field.name] = kinds.get(name, inner)._from_tensors(
                    tensors, kinds, name + "."
                )
        return cls(**values)


def _state_class(path, name):
    """The class of states of this name, of those that are known."""
    classes = [State]
    for cls in classes:
        classes += cls.__subclasses__()
    for cls in classes:
        if cls.__name__ == name:
            return cls
    raise ValueError(f"{path}: holds a {name}, which is not known here")


def _numbers(rows, count):
    """Numbers of the rows that `State.index` takes, of so many."""
    if isinstance(rows, slice):
        return range(count)[rows]
    rows = rows.tolist() if isinstance(rows, torch.Tensor) else rows
    if any(isinstance(row, bool) for row in rows):
        return [number for number, row in enumerate(rows) if row]
    return [row % count for row in rows]


def core_type(dtype):
    """The type of a memory: fp32, or float64 if that is given.

    Arguments
    ---------
    dtype : torch.dtype
        Floating type of the layer.

    Returns
    -------
    torch.dtype

    Example
    -------
    >>> core_type(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_kind(state, kind, what="state"):
    """Refuses what is no state of this kind.

    Arguments
    ---------
    state : State
        What was given.
    kind : type
        The class wanted.
    what : str
        What the state is called in the message.

    Raises
    ------
    ValueError
    """
    if type(state) is not kind:
        raise ValueError(
            f"{what}: {kind.__name__} is wanted, not {type(state).__name__}"
        )


def _pairs(state, like, name):
    """Name, field, value, wanted value and state of every tensor."""
    check_kind(state, type(like), name)
    for field in state._fields():
        value, wanted = getattr(state, field.name), getattr(like, field.name)
        place = f"{name}.{field.name}"
        if isinstance(wanted, State):
            yield from _pairs(value, wanted, place)
        elif isinstance(wanted, list):
            if not isinstance(value, list) or len(value) != len(wanted):
                given = len(value) if isinstance(value, list) else "none"
                raise ValueError(
                    f"{place}: {len(wanted)} are wanted, not {given}"
                )
            for i, (one, other) in enumerate(zip(value, wanted)):
                yield from _pairs(one, other, f"{place}.{i}")
        else:
            yield place, field, value, wanted, state


def _check_leaf(name, field, value, wanted, rows):
    """Refuses a tensor of another type or shape."""
    if wanted is None and value is None:
        return
    if wanted is None:
        raise ValueError(f"{name}: nothing is wanted, not {describe(value)}")
    shape = [rows, *wanted.shape[1:]]
    if "pad" in field.metadata:
        shape[field.metadata["dim"]] = "*"
    fits = (
        isinstance(value, torch.Tensor)
        and value.dtype == wanted.dtype
        and value.ndim == len(shape)
        and all(w in ("*", size) for size, w in zip(value.shape, shape))
    )
    if not fits:
        told = ", ".join(map(str, shape))
        raise ValueError(
            f"{name}: {wanted.dtype} [{told}] is wanted, not {describe(value)}"
        )


def _doubts(name, field, value, state):
    """Messages, each with a flag on the device that says whether it is so."""
    if value.is_floating_point():
        return [(f"{name}: not all values are finite", ~value.isfinite().all())]
    if not state or "of" not in field.metadata:
        return []
    least, widths = field.metadata["least"], {}
    found = [(f"{name}: less than {least}", (value < least).any())]
    for buffered in state._fields():
        held = getattr(state, buffered.name)
        if buffered.name in field.metadata["of"] and held is not None:
            widths[buffered.name] = held.shape[buffered.metadata["dim"]]
    if len(set(widths.values())) > 1:
        raise ValueError(f"{name}: of buffers of different widths: {widths}")
    if widths:
        most = min(widths.values())
        found.append((f"{name}: more than {most} frames", (value > most).any()))
    return found


def _join(tensors, field):
    """Rows of tensors, one after the other."""
    if len({tensor.dtype for tensor in tensors}) == 1:
        try:
            pad, dim = (field.metadata.get(key) for key in ("pad", "dim"))
            joined = torch.cat(_same_width(tensors, pad, dim))
            known = [known_values(tensor) for tensor in tensors]
            if None not in known:
                remember(joined, sum(known, ()))
            return joined
        except RuntimeError:  # of sizes or of devices
            pass
    given = ", ".join(f"{describe(x)} on {x.device}" for x in tensors[:4])
    raise ValueError(
        f"states of different configurations: '{field.name}' is {given}"
    )


def _same_width(tensors, pad, dim):
    """Pads a dimension with zeros to the widest, on the side given."""
    if pad is None:
        return tensors
    width = max(tensor.shape[dim] for tensor in tensors)
    padded = []
    for tensor in tensors:
        shape = list(tensor.shape)
        shape[dim] = width - shape[dim]
        fill = tensor.new_zeros(shape)
        parts = [tensor, fill] if pad == "right" else [fill, tensor]
        padded.append(torch.cat(parts, dim))
    return padded


@dataclass
class Waiting(State):
    """Frames that arrived and cannot be answered yet.

    Example
    -------
    >>> waiting = Waiting.empty(torch.zeros(1, 0, 1))
    >>> x = torch.arange(5.0).view(1, 5, 1)
    >>> ready, lengths, waiting = waiting.push(
    ...     x, torch.tensor([5]), group=2, final=False
    ... )
    >>> ready.flatten(), lengths, waiting.frames.flatten()
    (tensor([0., 1., 2., 3.]), tensor([4]), tensor([4.]))
    """

    frames: torch.Tensor = buffer("right")
    counts: torch.Tensor = counter("frames")

    @classmethod
    def empty(cls, x):
        """No frames, shaped like `x` but for its time."""
        return cls(
            x.new_zeros(x.shape[0], 0, *x.shape[2:]),
            count_tensor([0] * x.shape[0], x.device),
        )

    def push(self, x, lengths, group, final, ready=None):
        """Adds frames and takes out what can be answered.

        Arguments
        ---------
        x : torch.Tensor
            New frames [B, T, ...].
        lengths : torch.Tensor
            How many of them are real [B].
        group : int
            Frames are answered in multiples of this.
        final : bool
            Whether the sequence ends here: then nothing waits any longer.
        ready : callable, optional
            In place of `group`: takes all frames [B, S, ...] and the number
            of each row (integers), and returns how many can be answered.

        Returns
        -------
        ready : torch.Tensor
            Frames to answer [B, S, ...].
        lengths : torch.Tensor
            How many of them are real [B].
        waiting : Waiting
            What stays.
        """
        before = host_values(self.counts)
        total = [a + b for a, b in zip(before, host_values(lengths))]
        stream = splice(self.frames, before, x)
        if group == 1 and stream is x and ready is None and not final:
            return x, lengths, self
        if final:
            return stream, count_tensor(total, x.device), Waiting.empty(stream)
        if ready is None:
            ready = [count // group * group for count in total]
        else:
            ready = host_values(ready(stream, total))
        rest = [a - b for a, b in zip(total, ready)]
        width, most = max(rest, default=0), max(ready, default=0)
        answered = count_tensor(ready, x.device)
        if width == 0 and min(ready, default=0) == stream.shape[1]:
            return stream, answered, Waiting.empty(stream)
        counts = count_tensor(rest, x.device)
        stays = zero_padding(
            slide(stream, ready, width), padding_mask(counts, width)
        )
        return stream[:, :most], answered, Waiting(stays, counts)
