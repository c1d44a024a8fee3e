"""The card of a trained model: a README that the Hugging Face hub reads.

It says what the run itself knows: the command, the results, and what the
training data are.
"""
