"""Transfer to another domain: word error rates over the seconds spent on it, of
a carried state, a trained initial memory and fine-tuning.

`methods` has the ways to adapt, `scoring` their word errors, `jobs` does what
is not done yet, `verdicts` judges H6 of `docs/methodology.md`, `report` and
`plots` write it down.

Authors
* speechbrain_lact contributors 2026
"""
