"""Words as subtitles: SubRip and WebVTT.

pysubs2 1.8 writes neither as players read them: it leaves out what stands in
braces, makes line ends of \\N, and does not escape & and < for WebVTT.

Authors
* speechbrain_lact contributors 2026
"""

import html

# Characters of a line, seconds of a line at most and at least, seconds of
# silence that end one.
MAX_CHARACTERS, MAX_SECONDS, MIN_SECONDS, MAX_PAUSE = 42, 5.0, 1.0, 0.7


def subtitles(words, kind, seconds=float("inf")):
    """Words as subtitles.

    Arguments
    ---------
    words : list of Word
        Of one recording.
    kind : str
        .srt or .vtt
    seconds : float
        Length of the recording: no line is shown longer.

    Returns
    -------
    str

    Example
    -------
    >>> from speechbrain_lact.inference.words import Word
    >>> words = [Word("GOOD", 0.5, 0.9), Word("MORNING", 1.0, 1.8)]
    >>> print(subtitles(words, ".srt").rstrip())
    1
    00:00:00,500 --> 00:00:01,800
    GOOD MORNING
    """
    lines = []
    for word in words:
        line = lines[-1] if lines else []
        text = " ".join(w.text for w in [*line, word])
        if (
            not line
            or word.start - line[-1].end > MAX_PAUSE
            or word.end - line[0].start > MAX_SECONDS
            or len(text) > MAX_CHARACTERS
        ):
            lines.append([])
        lines[-1].append(word)
    blocks = ["WEBVTT\n"] if kind == ".vtt" else []
    for number, line in enumerate(lines, 1):
        start = line[0].start
        end = max(line[-1].end, start + MIN_SECONDS)
        if number < len(lines):
            end = min(end, lines[number][0].start)
        # Never less than the words, which end with the recording.
        end = max(min(end, seconds), line[-1].end)
        text = " ".join(word.text for word in line)
        times = f"{_stamp(start)} --> {_stamp(end)}"
        if kind == ".vtt":
            times, text = times.replace(",", "."), html.escape(text, False)
        blocks.append(f"{number}\n{times}\n{text}\n")
    return "\n".join(blocks)


def _stamp(seconds):
    """Hours, minutes, seconds and milliseconds."""
    rest, milliseconds = divmod(round(seconds * 1000), 1000)
    rest, seconds = divmod(rest, 60)
    hours, minutes = divmod(rest, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02},{milliseconds:03}"
