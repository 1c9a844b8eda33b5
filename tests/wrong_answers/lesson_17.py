WRONG = [
    ("check_speed_up", """
def speed_up(cpu_step, cpu_batch, gpu_asked, gpu_done, gpu_batch, loading):
    return cpu_step / gpu_asked
""", "the number of the report"),
    ("check_speed_up", """
def speed_up(cpu_step, cpu_batch, gpu_asked, gpu_done, gpu_batch, loading):
    cpu = cpu_step + loading * cpu_batch
    gpu = gpu_done + loading * gpu_batch
    return cpu / gpu
""", "you compared steps"),
    ("check_speed_up", """
def speed_up(cpu_step, cpu_batch, gpu_asked, gpu_done, gpu_batch, loading):
    return (cpu_step / cpu_batch) / (gpu_done / gpu_batch)
""", "left out the loading"),
    ("check_speed_up", """
def speed_up(cpu_step, cpu_batch, gpu_asked, gpu_done, gpu_batch, loading):
    return (cpu_step / cpu_batch + loading) / (gpu_asked / gpu_batch + loading)
""", "until the work was asked for"),
    ("check_speed_up", """
def speed_up(cpu_step, cpu_batch, gpu_asked, gpu_done, gpu_batch, loading):
    return (gpu_done / gpu_batch + loading) / (cpu_step / cpu_batch + loading)
""", "turn it over"),
    ("check_speed_up", """
def speed_up(cpu_step, cpu_batch, gpu_asked, gpu_done, gpu_batch, loading):
    return (cpu_step + loading) / cpu_batch / ((gpu_done + loading) / gpu_batch)
""", "loaded one image a step"),
    ("check_speed_up", """
def speed_up(cpu_step, cpu_batch, gpu_asked, gpu_done, gpu_batch, loading):
    return cpu_step / cpu_batch / (gpu_done / gpu_batch + loading)
""", "to the GPU alone"),
    ("check_training_time", """
def training_time(prepare, work, steps, every):
    return steps * (prepare + work)
""", "you wait after every step"),
    ("check_training_time", """
def training_time(prepare, work, steps, every):
    return steps * max(prepare, work)
""", "overlap with nothing"),
    ("check_training_time", """
def training_time(prepare, work, steps, every):
    return prepare + (steps - 1) * max(prepare, work) + work
""", "never read the loss"),
    ("check_training_time", """
def training_time(prepare, work, steps, every):
    python = device = 0
    for step in range(1, steps + 1):
        python += prepare
        device = max(python, device) + work
        if step % every == 0: python = device
    return python
""", "when the last step was asked for"),
    ("check_training_time", """
def training_time(prepare, work, steps, every):
    block = prepare + (every - 1) * max(prepare, work) + work
    return steps // every * block
""", "after the last reading"),
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
