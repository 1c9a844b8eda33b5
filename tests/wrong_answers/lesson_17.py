WRONG = [
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    return batch_size * inputs * outputs / size / (batch_size * inputs + inputs * outputs + batch_size * outputs)
""", "multiplications only"),
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    return 2 * batch_size * inputs * outputs / size / (batch_size * inputs + batch_size * outputs)
""", "left out the weights"),
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    return 2 * batch_size * inputs * outputs / (batch_size * inputs + inputs * outputs + batch_size * outputs)
""", "not by their bytes"),
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    return 2 * batch_size * inputs * outputs / 4 / (batch_size * inputs + inputs * outputs + batch_size * outputs)
""", "whatever `size` says"),
    ("check_timed", """
def timed(action, wait, clock, calls=10):
    action()
    wait()
    start = clock()
    for _ in range(calls): action()
    return (clock() - start) / calls
""", "not when it was done"),
    ("check_timed", """
def timed(action, wait, clock, calls=10):
    wait()
    start = clock()
    for _ in range(calls): action()
    wait()
    return (clock() - start) / calls
""", "it compiles"),
    ("check_timed", """
def timed(action, wait, clock, calls=10):
    action()
    start = clock()
    for _ in range(calls): action()
    wait()
    return (clock() - start) / calls
""", "still being worked on"),
    ("check_timed", """
def timed(action, wait, clock, calls=10):
    action()
    wait()
    start = clock()
    for _ in range(calls):
        action()
        wait()
    return (clock() - start) / calls
""", "after every call"),
    ("check_timed", """
def timed(action, wait, clock, calls=10):
    action()
    wait()
    start = clock()
    for _ in range(calls): action()
    wait()
    return clock() - start
""", "divide by their number"),
    ("check_shard_weights", """
def shard_weights(sizes):
    return [size / sum(sizes) for size in sizes]
""", "multiply it back"),
    ("check_shard_weights", """
def shard_weights(sizes):
    return [1.0 for size in sizes]
""", "weighs 5 times as much"),
    ("check_shard_weights", """
def shard_weights(sizes):
    return [sum(sizes) / size / len(sizes) for size in sizes]
""", "turned it over"),
    ("check_scaled_rate", """
def scaled_rate(step, lr, processes, warm):
    return lr * processes * min(1, step / warm)
""", "begin at 0"),
    ("check_scaled_rate", """
def scaled_rate(step, lr, processes, warm):
    return lr * processes
""", "warm-up is missing"),
    ("check_scaled_rate", """
def scaled_rate(step, lr, processes, warm):
    return lr * (1 + (processes - 1) * step / warm)
""", "goes on rising"),
    ("check_all_reduce_seconds", """
def all_reduce_seconds(parameters, processes, bandwidth, latency):
    return 2 * (processes - 1) * (latency + 4 * parameters / bandwidth)
""", "whole gradient in every round"),
    ("check_all_reduce_seconds", """
def all_reduce_seconds(parameters, processes, bandwidth, latency):
    return latency + 2 * (processes - 1) * 4 * parameters / processes / bandwidth
""", "latency once"),
    ("check_all_reduce_seconds", """
def all_reduce_seconds(parameters, processes, bandwidth, latency):
    return (processes - 1) * (latency + 4 * parameters / processes / bandwidth)
""", "around once"),
]
