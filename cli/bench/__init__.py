"""Benches of the hot paths: real records on a fresh topic, CPU of every process that did the work, baselines in the same call."""
