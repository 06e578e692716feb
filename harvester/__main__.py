"""``python -m harvester``."""

from harvester.console.start import main

if __name__ == "__main__":
    main()
