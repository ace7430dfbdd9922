"""`python -m monitorkit`."""

from monitorkit.cli import main

if __name__ == "__main__":  # workers are spawned, and import this module again
    main()
