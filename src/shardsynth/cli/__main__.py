"""`python -m shardsynth.cli`: the same as `shardsynth`."""

from shardsynth.cli import main

if __name__ == "__main__":
    main()
