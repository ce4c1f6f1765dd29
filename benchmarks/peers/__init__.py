"""This project beside other model servers: `python -m benchmarks.peers`."""
