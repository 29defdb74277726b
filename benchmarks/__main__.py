"""`make bench`: every benchmark, one after the other."""

from benchmarks import checks, flip, ingest, policies, publish, sdk, streams, wall

for benchmark in (sdk, policies, flip, streams, publish, ingest, checks, wall):
    print(f"\n=== {benchmark.__name__}: {(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
    benchmark.main()
