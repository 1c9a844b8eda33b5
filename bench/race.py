"""Contenders timed in turn, each in a process of its own that stays alive: what one of
them sets (flushed denormals, a compiler's threads, a logger) does not touch the others,
and a slow minute of the machine meets all alike."""
import multiprocessing, time, traceback


import common


def serve(pipe, kind, args, kwargs):
    """In the child: build the contender, then answer each `epoch` with its seconds, and
    `details` with what else the contender has to say."""
    try:
        contender = kind(*args, **kwargs)
        pipe.send(
            ("ready", dict(name=contender.name, share=getattr(contender, "share", 1.0),
                           note=getattr(contender, "note", ""))))
        while (asked := pipe.recv()) in ("epoch", "details"):
            pipe.send(("seconds", contender.epoch()) if asked == "epoch" else
                      ("details", getattr(contender, "details", dict)()))
    except EOFError:
        pass
    except Exception as e:
        traceback.print_exc()
        pipe.send(("failed", f"{type(e).__name__}: {e}"))


class Lane:
    "A contender in its process."

    def __init__(self, kind, *args, **kwargs):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, kind, args, kwargs),
                                       daemon=False)
        self.process.start()
        theirs.close()
        facts = self.answer()
        self.name, self.share, self.note = facts["name"], facts["share"], facts["note"]

    def answer(self):
        try:
            kind, value = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(
                f"its process ended with status {self.process.exitcode}") from None
        if kind == "failed":
            raise RuntimeError(value)
        return value

    def epoch(self):
        "Seconds of one epoch; where only a share of it was run, scaled to the whole."
        self.pipe.send("epoch")
        return self.answer() / self.share

    def details(self):
        "What its row holds beside the seconds; mostly nothing."
        self.pipe.send("details")
        return self.answer()

    def close(self):
        self.pipe.close()
        self.process.join(timeout=30)
        if self.process.is_alive():
            self.process.terminate()


def race(contenders, repeats):
    """Run `contenders`, `(name, function that makes a Lane)`, `repeats` times in turn
    after one epoch each to warm up.
    Returns `(rows, left_out)`: a row holds name, warm-up seconds (from the building of
    the contender on), and the seconds of the repeats."""
    rows, left_out, lanes = {}, [], {}
    try:
        for name, make in contenders:
            start = time.perf_counter()
            try:
                lane = make()
                first = lane.epoch()
            except RuntimeError as e:
                print(f"left out  {name}: {e}", flush=True)
                left_out.append(dict(name=name, why=str(e)))
                continue
            lanes[lane.name] = lane
            rows[lane.name] = dict(name=lane.name, warm_up=time.perf_counter() - start,
                                   first_epoch=first, share_run=lane.share,
                                   note=lane.note, seconds=[])
            print(f"warm-up   {lane.name:42}{rows[lane.name]['warm_up']:9.2f} s"
                  + (f"   ({lane.note})" if lane.note else ""), flush=True)
        for repeat in range(repeats):
            for name, lane in lanes.items():
                rows[name]["seconds"].append(lane.epoch())
                print(f"repeat {repeat + 1}  "
                      f"{name:42}{rows[name]['seconds'][-1]:9.3f} s", flush=True)
        for name, lane in lanes.items():
            rows[name] |= lane.details()
    finally:
        for lane in lanes.values():
            lane.close()
    return ([row | dict(seconds=common.summary(row["seconds"]))
             for row in rows.values()], left_out)
