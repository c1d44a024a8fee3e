"""The card of an audio tokenizer or an audio language model.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain_lact.inference.card.sections import title_of, training_section


def audio_card(name, settings, sources, table, run):
    """The card of an audio tokenizer or an audio language model.

    Arguments
    ---------
    name : str
        Name of the model in its folder.
    settings : dict
        The experiment.
    sources : list of Source
        What it was trained on (`recorded_sources`).
    table : str
        Its results, in Markdown.
    run : RunRecord
        What it was begun with.

    Returns
    -------
    str
        Markdown.
    """
    model = settings[name]
    size = sum(p.numel() for p in model.parameters()) / 1e6
    what = (model.__doc__ or "").split("\n\n")[0]
    what = " ".join(what.split())
    load = "load_tokenizer" if name == "tokenizer" else "AudioGenerator"
    parts = [
        f"# {title_of(run)}",
        f"`{type(model).__name__}`, {size:.2f} M parameters, for audio of "
        f"{settings['sample_rate']} Hz. {what}",
        f"`speechbrain_lact.inference.AudioLM.{load}` loads this folder.",
        training_section(sources, run),
        f"## Results\n\n{table}",
        f"Made with {', '.join(run.packages)}.",
    ]
    return "\n\n".join(parts) + "\n"
