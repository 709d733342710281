"""Goodput and request latency in virtual time: exact and repeatable on any machine, so load does not matter here.

One path of 100 Mbit/s and 80 ms with a queue of one bandwidth-delay product. ``./dev bench lab`` writes the result.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

from benchmarks.report import save
from vantun.kernel_cache import use_kernel_cache

LOSSES = (0.0, 0.01, 0.05, 0.10, 0.15, 0.20)


def main() -> None:
    """Measure every row and save the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window", type=float, default=10.0, help="virtual seconds of each measurement")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    use_kernel_cache()
    from vantun.lab.link import LinkProfile
    from vantun.lab.measure import bulk, network_of, requests

    link = LinkProfile(rate=100e6, delay=0.04, queue_bytes=1_000_000)
    rows: list[dict[str, object]] = []
    profiles = [(f"{loss:.0%}", replace(link, loss=loss)) for loss in LOSSES]
    profiles.append(("3% in bursts of 6", replace(link, loss=0.03, burst=6.0)))
    print("loss               bbr Mbit/s  of ceiling | brutal Mbit/s  of ceiling")
    for name, profile in profiles:
        measured = bulk(network_of(profile, seed=options.seed), window=options.window)
        told = bulk(network_of(profile, seed=options.seed, rate=95e6), window=options.window)
        rows.append({"loss": name, "bbr": asdict(measured), "brutal": asdict(told)})
        print(
            f"{name:18} {measured.goodput_bps / 1e6:10.1f} {measured.ceiling_share:11.1%} |"
            f" {told.goodput_bps / 1e6:13.1f} {told.ceiling_share:11.1%}",
            flush=True,
        )
    latencies: list[dict[str, object]] = []
    print("\n1 kB requests, ms         FEC p50     p99 | no FEC p50     p99")
    for loss in (0.01, 0.05, 0.10, 0.15):
        shape = replace(link, loss=loss)
        with_fec = requests(network_of(shape, seed=options.seed), count=1000)
        without = requests(network_of(shape, seed=options.seed, fec=False), count=1000)
        latencies.append({"loss": loss, "fec": asdict(with_fec), "no_fec": asdict(without)})
        print(
            f"{loss:18.0%} {with_fec.p50_ms:14.1f} {with_fec.p99_ms:7.1f} |"
            f" {without.p50_ms:10.1f} {without.p99_ms:7.1f}",
            flush=True,
        )
    results = {"virtual_time": True, "link": asdict(link), "seed": options.seed, "bulk": rows, "requests": latencies}
    print(f"\n{save('lab', results).name} written")


if __name__ == "__main__":
    main()
