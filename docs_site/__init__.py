"""What builds the documentation site: `tox -e docs`."""
