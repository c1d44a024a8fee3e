"""How well it was found who speaks when.

Authors
* speechbrain_lact contributors 2026
"""


def error_rate(reference, found):
    """Diarization error rate and its parts, without a collar, overlaps scored.

    Arguments
    ---------
    reference : list of Segment
        Who really speaks when.
    found : list of Segment
        What is scored.

    Returns
    -------
    dict
        `der` (1 is 100 %), `miss`, `false_alarm`, `confusion` and `ref_length`
        in seconds, `speaker_mapping`: who of the found ones is who.

    Example
    -------
    >>> from speechbrain_lact.processing.diarization.segments import Segment
    >>> truth = [Segment(0.0, 3.0, "Ann"), Segment(3.0, 4.0, "Bo")]
    >>> error_rate(truth, [Segment(0.0, 4.0, "speaker1")])["der"]
    0.25
    """
    try:
        from simpleder import DER
    except ImportError as error:
        raise ImportError(
            "the diarization error rate needs simpleder: pip install simpleder"
        ) from error
    return DER(
        *(
            [(s.speaker, s.start, s.end) for s in segments]
            for segments in (reference, found)
        ),
        detailed=True,
    )
