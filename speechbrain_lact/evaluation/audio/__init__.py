"""How well generated audio hangs together, and how well it is predicted.

`measure` has all measures of one recording, with what cannot be measured and
why; `comparison` makes means and intervals of many. Each other module is one
kind of measure. Waveforms are [S], tokens [T, K] integers.

Authors
* speechbrain_lact contributors 2026
"""
