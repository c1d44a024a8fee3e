"""Whether a memory helps: word error rates of a model with its state carried,
reset, of the same or another speaker, and without learning, against models
without memory and other ways to adapt. `docs/methodology.md` has the rules.

In the order in which a measurement goes:

- `sessions`: test sets, and which utterances of a session are scored;
- `systems`: names of what is measured;
- `models`: exported models;
- `memory`, `baselines`: hypotheses of each system;
- `scoring`, `cost`: word errors, and seconds of compute;
- `cache`, `runner`: what is done is kept in a file, what is not is done;
- `results`, `hypotheses`, `slices`: rates, comparisons, verdicts;
- `report`, `plots`: tables and pictures.

Authors
* speechbrain_lact contributors 2026
"""
