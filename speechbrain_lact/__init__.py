"""LaCT (large-chunk test-time training) as drop-in SpeechBrain modules."""
