"""`make processes`: again and again two processes train a few steps and leave, while
busy loops load every core: none may abort, hang or leave without its numbers.

ARGS: --runs N (100) and --minutes M (60) bound it, --load K starts K busy loops. Closes
with `N passed, M failed`."""
import argparse, os, re, subprocess, sys, time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
# the block of `join_processes` ends; it is left by an exception, in both processes; in
# one of them
endings = ("well", "error", "one")


def child(ending):
    """What each process runs: lesson 17's example with a small model. The step, which
    holds the averaging module, lives until Python ends."""
    import torch
    from vae_course.elbo import mlp_vae
    from vae_course.acceleration import AcceleratedStep
    from vae_course.distributed import join_processes
    from vae_course.step import make_optimizers

    global step
    with join_processes("cpu") as (number, processes, device):
        torch.manual_seed(0)
        model = mlp_vae((1, 6, 6), latent_dim=3, hidden=(24,))
        step = AcceleratedStep(model, make_optimizers(model, device))
        x = torch.rand(8, 1, 6, 6)[number::processes]
        for _ in range(5):
            terms = step((x, torch.zeros(len(x)).long()))
        torch.distributed.all_reduce(terms["loss"])
        if number == 0:
            print(f"loss {terms['loss'].item() / processes:.3f} of "
                  f"{processes} processes", flush=True)
        if ending == "error" or (ending == "one" and number == 1):
            raise RuntimeError("left by an exception")


def problem(ending, patience=180):
    "One run; what was wrong with it, in words, or nothing."
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", __file__, "--child", ending]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
        [str(root)] + [p for p in [os.environ.get("PYTHONPATH")] if p])}
    try:
        done = subprocess.run(command, encoding="utf-8", errors="replace",
                              capture_output=True, env=environment, timeout=patience)
    except subprocess.TimeoutExpired:
        return f"not at its end after {patience} s"
    if "of 2 processes" not in done.stdout:
        return "no numbers\n" + done.stderr[-2000:]
    if ("terminate called" in done.stderr
            or re.search(r"exitcode +: -(?!15)", done.stderr)):
        return "aborted\n" + done.stderr[-2000:]
    if (done.returncode == 0) != (ending == "well"):
        return f"exit status {done.returncode}\n" + done.stderr[-2000:]
    return ""


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--runs", type=int, default=100)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--load", type=int, default=2 * os.cpu_count())
    a = p.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(a.load)]
    end, passed, failed = time.monotonic() + 60 * a.minutes, 0, 0
    try:
        for i in range(a.runs):
            if time.monotonic() > end:
                print(f"the time is up after {i} of {a.runs} runs")
                break
            wrong = problem(ending := endings[i % len(endings)])
            passed, failed = passed + (not wrong), failed + bool(wrong)
            print(f"{'failed' if wrong else 'passed':8}run {i + 1}, ending: "
                  f"{ending} {wrong}".rstrip(), flush=True)
    finally:
        for process in busy:
            process.kill()
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed) or not passed)


if __name__ == "__main__":
    child(sys.argv[2]) if sys.argv[1:2] == ["--child"] else main()
