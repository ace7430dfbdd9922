"""`monitorkit import`: prediction logs of other services become segments of ours."""
