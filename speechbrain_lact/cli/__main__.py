"""`python -m speechbrain_lact.cli`."""

from speechbrain_lact.cli.app import main

if __name__ == "__main__":
    main()
