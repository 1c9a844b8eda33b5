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
    ("check_fair_gain", """
def fair_gain(a, b):
    return a.mean(1).min() - b.mean(1).min()
""", "give two numbers"),
    ("check_fair_gain", """
def fair_gain(a, b):
    return (a.min() - b.min()).item(), 1.
""", "rewards luck"),
    ("check_fair_gain", """
def fair_gain(a, b):
    return (a.min(0).values.mean() - b.min(0).values.mean()).item(), 1.
""", "another rate for each seed"),
    ("check_fair_gain", """
def fair_gain(a, b):
    i = a.mean(1).argmin()
    return (a[i].mean() - b[i].mean()).item(), 1.
""", "at the best rate of a"),
    ("check_fair_gain", """
def fair_gain(a, b):
    a, b = (t[t.mean(1).argmin()] for t in (a, b))
    return (a.mean() - b.mean()).item(), (a.var() + b.var()).sqrt().item()
""", "spread of one training"),
    ("check_fair_gain", """
def fair_gain(a, b):
    a, b = (t[t.mean(1).argmin()] for t in (a, b))
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    return (a.mean() - b.mean()).item(), error.item()
""", "one training diverged"),
    ("check_step_in_parts", """
def step_in_parts(model, parts, optimizer):
    optimizer.zero_grad()
    for batch in parts:
        loss = model.losses(batch)['loss']
        loss.backward()
    optimizer.step()
    return loss
""", "twice the length"),
    ("check_step_in_parts", """
def step_in_parts(model, parts, optimizer):
    for batch in parts:
        optimizer.zero_grad()
        loss = model.losses(batch)['loss']
        loss.backward()
    optimizer.step()
    return loss.detach()
""", "only the last part counts"),
    ("check_step_in_parts", """
def step_in_parts(model, parts, optimizer):
    optimizer.zero_grad()
    total = 0.
    for batch in parts:
        loss = model.losses(batch)['loss'] / len(parts)
        loss.backward()
        total += loss.detach()
    optimizer.step()
    return total
""", "parts of 5 and of 1"),
    ("check_step_in_parts", """
def step_in_parts(model, parts, optimizer):
    n, total = sum(len(x) for x, _ in parts), 0.
    for x, y in parts:
        loss = model.losses((x, y))['loss'] * len(x) / n
        loss.backward()
        total += loss.detach()
    optimizer.step()
    return total
""", "zero_grad()` is missing"),
    ("check_step_in_parts", """
def step_in_parts(model, parts, optimizer):
    n, total = sum(len(x) for x, _ in parts), 0.
    optimizer.zero_grad()
    for x, y in parts:
        loss = model.losses((x, y))['loss'] * len(x) / n
        loss.backward()
        total = total + loss
    optimizer.step()
    return total
""", "still holds its graph"),
    ("check_best_epoch", """
def best_epoch(loss, kl, beta):
    return loss.index(min(loss)) + 1
""", "least loss"),
    ("check_best_epoch", """
def best_epoch(loss, kl, beta):
    neg_elbo = [l + k for l, k in zip(loss, kl)]
    return neg_elbo.index(min(neg_elbo)) + 1
""", "in the loss already"),
    ("check_best_epoch", """
def best_epoch(loss, kl, beta):
    neg_elbo = [l + (1 - b) * k for l, k, b in zip(loss, kl, beta)]
    return neg_elbo.index(min(neg_elbo))
""", "counted from 1"),
]
