"""The command line."""

from speechbrain_lact.cli.app import main
