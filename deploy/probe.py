"""Asks an address whether it answers: exit code 0 for a status below 400, 1 otherwise.

The health check of the containers, whose image has neither curl nor wget. It imports nothing of
monitorkit, so that a check every few seconds costs little.
"""

import http.client
import sys
import urllib.error
import urllib.request

SECONDS = 4.0


def main(address: str) -> int:
    """Ask once, directly: a proxy of the environment is none of a loopback address."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=SECONDS) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        print(f"{address}: {error.code} {error.read(300).decode(errors='replace')}")  # noqa: T201 - its output
        return 1
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"{address}: {error}")  # noqa: T201 - its output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
