//! Real parts for tests and benchmarks.
