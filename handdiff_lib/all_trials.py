"""The whole benchmark in one command."""

from pathlib import Path

from handdiff_lib.data_set_trials import bench_bimanual, bench_table2
from handdiff_lib.speed_trials import bench_speed
from handdiff_lib.training_trials import bench_table3
from handdiff_lib.trials import bench_occlusion, bench_table1


def bench_all(data: Path, taco: Path | None = None, quick: bool = False, threads: int = 2) -> None:
    """Every table, one after the other; learned baselines take part where `handdiff bench rivals` has trained them.

    Args:
        data: a clone of ManipNet.
        taco: a TACO sequence (.pkl with the .obj of its tool beside it): another subject, hand and thing.
        quick: eight clips and one draw, one camera of MediaPipe's, and short clips for the speed; filters are not
            tuned but have the settings of the results that ship, and nothing is trained.
        threads: CPU threads.
    """
    bench_table1(data, taco, quick=quick, threads=threads)
    bench_table2(threads=threads)
    if not quick:
        bench_table3(data, threads=threads)
    bench_occlusion(data, quick=quick, threads=threads)
    bench_bimanual(data, quick=quick, threads=threads)
    bench_speed(quick, threads)
