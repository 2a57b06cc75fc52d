"""Speed and memory beside fastMRI and MONAI: ``python -m tests.benchmarks.speed --help``."""
