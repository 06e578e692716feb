"""``python -m harvester``."""

from harvester.console.cli import main

if __name__ == "__main__":
    main()
