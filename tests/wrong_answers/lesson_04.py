WRONG = [
    ("check_cyclical", """
def cyclical(cycles=4, rise=.5):
    return lambda t: min(1., t * cycles / rise)
""", "starts again from 0"),
    ("check_cyclical", """
def cyclical(cycles=4, rise=.5):
    return lambda t: t * cycles % 1
""", "during the whole part"),
    ("check_cyclical", """
def cyclical(cycles=4, rise=.5):
    return lambda t: t * cycles % 1 / rise
""", "it stays at 1"),
    ("check_cyclical", """
def cyclical(cycles=4, rise=.5):
    return min(1., .3 * cycles % 1 / rise)
""", "return a function"),
    ("check_cyclical", """
def cyclical(cycles=4, rise=.5):
    return lambda t: min(1., t * cycles % 1 / rise)
""", "at t = 1"),
    ("check_mean_over_examples", """
def mean_over_examples(means, sizes):
    return means.mean()
""", "averaged over the batches"),
    ("check_mean_over_examples", """
def mean_over_examples(means, sizes):
    return (means * sizes).sum() / len(sizes)
""", "number of batches"),
    ("check_mean_over_examples", """
def mean_over_examples(means, sizes):
    return means * sizes / sizes.sum()
""", "one was asked for"),
    ("check_should_stop", """
def should_stop(losses, patience):
    rises = 0
    for a, b in zip(losses, losses[1:]): rises = rises + 1 if b >= a else 0
    return rises >= patience
""", "compared with the epoch before"),
    ("check_should_stop", """
def should_stop(losses, patience):
    return len(losses) - 1 - losses.index(min(losses)) > patience
""", "went on for one more"),
    ("check_should_stop", """
def should_stop(losses, patience):
    best = len(losses) - 1 - losses[::-1].index(min(losses))
    return len(losses) - 1 - best >= patience
""", "equal to the best"),
    ("check_careful_step", """
def careful_step(model, batch, optimizer, largest):
    loss = model.losses(batch)['loss']
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
    optimizer.step()
    return loss.detach()
""", "zero_grad()` is missing"),
    ("check_careful_step", """
def careful_step(model, batch, optimizer, largest):
    loss = model.losses(batch)['loss']
    optimizer.zero_grad()
    loss.backward()
    for p in model.parameters(): torch.nn.utils.clip_grad_norm_([p], largest)
    optimizer.step()
    return loss.detach()
""", "each parameter alone"),
    ("check_careful_step", """
def careful_step(model, batch, optimizer, largest):
    loss = model.losses(batch)['loss']
    optimizer.zero_grad()
    torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
    loss.backward()
    optimizer.step()
    return loss.detach()
""", "was not clipped"),
    ("check_careful_step", """
def careful_step(model, batch, optimizer, largest):
    loss = model.losses(batch)['loss']
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), largest)
    optimizer.step()
    return loss
""", "still holds its graph"),
]
