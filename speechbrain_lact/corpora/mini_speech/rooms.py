"""Rooms and noises, and a session put into them.

Authors
 * speechbrain_lact contributors 2026
"""

import numpy as np

from speechbrain_lact.corpora.layout import SAMPLE_RATE, read_chapter


def make_room(rt60, rng):
    """The impulse response of a room: a direct sound and a decaying noise.

    Arguments
    ---------
    rt60 : float
        Reverberation time (s): when the response is 60 dB down.
    rng : numpy.random.Generator
        Where the reflections come from.

    Returns
    -------
    numpy.ndarray
        The impulse response at 16 kHz; the direct sound is its first sample
        and its largest. Direct and reverberant energy are equal.

    Example
    -------
    >>> rir = make_room(0.3, np.random.default_rng(0))
    >>> rir.shape, int(np.abs(rir).argmax())
    ((4800,), 0)
    """
    time = np.arange(int(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    tail[: SAMPLE_RATE // 400] = 0.0  # the first wall is a metre away
    tail *= 1 / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def make_noise(exponent, seconds, rng):
    """Noise whose power falls with frequency.

    Arguments
    ---------
    exponent : float
        Power goes with 1 / frequency ** exponent: 0 white, 1 pink, 2 brown.
    seconds : float
        The length.
    rng : numpy.random.Generator
        Where the noise comes from.

    Returns
    -------
    numpy.ndarray
        Samples at 16 kHz, with a peak of 0.9.

    Example
    -------
    >>> make_noise(1.0, 0.5, np.random.default_rng(0)).shape
    (8000,)
    """
    samples = int(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(frequency, 50.0) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, samples)
    return 0.9 * noise / np.abs(noise).max()


def make_babble(chapters, seconds, rng, talkers=5):
    """Several people talking at once.

    Arguments
    ---------
    chapters : list of Path
        Folders of chapters to take the talkers from.
    seconds : float
        The length.
    rng : numpy.random.Generator
        Chooses the talkers.
    talkers : int
        How many.

    Returns
    -------
    numpy.ndarray
        Samples at 16 kHz, with a peak of 0.9.
    """
    samples = int(seconds * SAMPLE_RATE)
    babble = np.zeros(samples)
    count = min(talkers, len(chapters))
    for index in rng.choice(len(chapters), count, replace=False):
        talk = np.concatenate([w for _, _, w in read_chapter(chapters[index])])
        talk = np.roll(talk, rng.integers(len(talk)))
        babble += np.resize(talk / np.sqrt(np.mean(talk**2)), samples)
    return 0.9 * babble / np.abs(babble).max()


def degrade(path, chapter, talkers, seed):
    """Puts a chapter into its room and its noise.

    Arguments
    ---------
    path : Path
        The folder of the clean chapter.
    chapter : Chapter
        Its number and condition are used.
    talkers : list of Path
        Folders of chapters of which a babble is mixed.
    seed : int
        Everything random follows from it.

    Returns
    -------
    list of (str, numpy.ndarray)
        Words and samples of each utterance.
    """
    import torch

    from speechbrain.augment.time_domain import AddNoise, AddReverb

    condition = chapter.condition
    rng = np.random.default_rng([seed, chapter.number])
    torch.manual_seed(seed + chapter.number)
    if condition["noise"] == "babble":
        noise = make_babble(talkers, 20.0, rng)
    else:
        noise = make_noise(condition["noise"], 20.0, rng)
    room = make_room(condition["rt60"], rng)
    # Both would read a list of files, anew for each utterance: they are given
    # what they read, and a first reading that is at its end.
    snr = condition["snr"]
    reverb = AddReverb("room")
    reverb.data_loader, reverb.rir_data = _Signal(room), iter(())
    add_noise = AddNoise("noise", snr_low=snr, snr_high=snr)
    add_noise.data_loader, add_noise.noise_data = _Signal(noise), iter(())
    utterances = []
    for _, words, wav in read_chapter(path):
        level = np.sqrt(np.mean(wav**2))
        wav = reverb(torch.from_numpy(wav)[None])
        wav = add_noise(wav, torch.ones(1))[0].double().numpy()
        wav *= level / np.sqrt(np.mean(wav**2))
        wav *= min(1.0, 0.95 / np.abs(wav).max())
        utterances.append((words, wav))
    return utterances


class _Signal:
    """What SpeechBrain's data loader makes of a list of one file: an iterator
    over one batch of one signal."""

    def __init__(self, wav):
        import torch

        self.batch = torch.from_numpy(wav)[None].float(), torch.ones(1)

    def __iter__(self):
        import torch

        # As a data loader does: the noise's starts depend on it.
        torch.empty((), dtype=torch.int64).random_()
        yield self

    def at_position(self, index):
        """The signal and its relative length."""
        wav, length = self.batch
        return wav.clone(), length
