"What tests need to pretend that several processes train together."
from vae_course import acceleration, checks, distributed, loaders, run, step


def several_processes(monkeypatch, rank, world_size):
    "Have every room believe that this process is one of several."
    for room in (acceleration, checks, distributed, loaders, run, step):
        monkeypatch.setattr(room, "rank_and_world_size", lambda: (rank, world_size))
