WRONG = [
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    moved = batch_size * inputs + inputs * outputs + batch_size * outputs
    return batch_size * inputs * outputs / size / moved
""", "multiplications only"),
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    moved = batch_size * inputs + batch_size * outputs
    return 2 * batch_size * inputs * outputs / size / moved
""", "left out the weights"),
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    moved = batch_size * inputs + inputs * outputs + batch_size * outputs
    return 2 * batch_size * inputs * outputs / moved
""", "not by their bytes"),
    ("check_intensity", """
def intensity(batch_size, inputs, outputs, size=4):
    moved = batch_size * inputs + inputs * outputs + batch_size * outputs
    return 2 * batch_size * inputs * outputs / 4 / moved
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
""", "multiply by it"),
    ("check_shard_weights", """
def shard_weights(sizes):
    return [1.0 for size in sizes]
""", "weighs 5 times as much"),
    ("check_shard_weights", """
def shard_weights(sizes):
    return [sum(sizes) / size / len(sizes) for size in sizes]
""", "turned it over"),
    ("check_shard_weights", """
def shard_weights(sizes):
    import torch
    return torch.tensor(sizes) * len(sizes) / sum(sizes)
""", "give a list"),
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
    ("check_waits_from", """
def waits_from(flops, parameters, gpu_rate, network, latency):
    n = 1
    while 2 * (n - 1) * (latency + 4 * parameters / n / network) <= flops / gpu_rate:
        n += 1
    return n
""", "an n-th"),
    ("check_waits_from", """
def waits_from(flops, parameters, gpu_rate, network, latency):
    n = 1
    while 2 * (n - 1) * (latency + 4 * parameters / network) <= flops / n / gpu_rate:
        n += 1
    return n
""", "whole gradient in every round"),
    ("check_waits_from", """
def waits_from(flops, parameters, gpu_rate, network, latency):
    n = 1
    while (n - 1) * (latency + 4 * parameters / n / network) <= flops / n / gpu_rate:
        n += 1
    return n
""", "around once"),
    ("check_waits_from", """
def waits_from(flops, parameters, gpu_rate, network, latency):
    n = 1
    while latency + 2 * (n - 1) * 4 * parameters / n / network <= flops / n / gpu_rate:
        n += 1
    return n
""", "latency once"),
    ("check_waits_from", """
def waits_from(flops, parameters, gpu_rate, network, latency):
    n = 1
    while 2 * (n - 1) * 4 * parameters / n / network <= flops / n / gpu_rate: n += 1
    return n
""", "left out the latency"),
    ("check_waits_from", """
def waits_from(flops, parameters, gpu_rate, network, latency):
    n = 1
    while 2 * (n - 1) * (latency + parameters / n / network) <= flops / n / gpu_rate:
        n += 1
    return n
""", "not bytes"),
    ("check_waits_from", """
def waits_from(flops, parameters, gpu_rate, network, latency):
    n = 1
    while (2 * n * (latency + 4 * parameters / (n + 1) / network)
           <= flops / (n + 1) / gpu_rate): n += 1
    return n
""", "one GPU fewer"),
]
