"""Benchmarks: hensa and its peers doing the same job, next to what this machine's memory allows."""
