"""What Prometheus reads: counters kept as things happen, gauges read from the ledger when they are asked for."""
