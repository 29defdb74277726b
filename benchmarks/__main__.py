"""`make bench`: every benchmark, one after the other."""

from benchmarks import flip, ingest, sdk

for benchmark in (sdk, flip, ingest):
    print(f"\n=== {benchmark.__name__}: {(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
    benchmark.main()
