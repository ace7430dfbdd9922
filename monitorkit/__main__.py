"""`python -m monitorkit`."""

from monitorkit.cli import main

if __name__ == "__main__":
    main()
