"Wrong answers to the exercises of lesson 09, and a part of what each check must say."
WRONG = [
    ("check_truncated", """
def truncated(n, D, limit, generator):
    return torch.randn(n, D, generator=generator).clamp(-limit, limit)
""", "a pile of codes"),
    ("check_truncated", """
def truncated(n, D, limit, generator):
    z = torch.randn(n, D, generator=generator)
    far = z.abs() > limit
    z[far] = torch.randn(int(far.sum()), generator=generator)
    return z
""", "repeat until none is"),
    ("check_truncated", """
def truncated(n, D, limit, generator):
    z = torch.randn(n, D, generator=generator)
    return z[(z.abs() <= limit).all(1)]
""", "you left codes out"),
    ("check_truncated", """
def truncated(n, D, limit, generator):
    return (2 * torch.rand(n, D, generator=generator) - 1) * limit
""", "spread evenly"),
    ("check_truncated", """
def truncated(n, D, limit, generator):
    z = torch.randn(n, D, generator=generator)
    return limit * z / z.abs().max()
""", "did you shrink the codes"),
    ("check_truncated", """
def truncated(n, D, limit, generator):
    z = torch.randn(n, D)
    while (far := z.abs() > limit).any(): z[far] = torch.randn(int(far.sum()))
    return z
""", "two calls with equal generators differ"),
    ("check_only", """
def only(direction, w):
    return direction - (direction @ w) * w
""", "a vector of length 1"),
    ("check_only", """
def only(direction, w):
    return (direction @ w) / (w @ w) * w
""", "you gave the part along w"),
    ("check_only", """
def only(direction, w):
    return w - (direction @ w) / (direction @ direction) * direction
""", "it is the direction that is corrected"),
    ("check_only", """
def only(direction, w):
    return direction - w
""", "you subtracted all of w"),
    ("check_only", """
def only(direction, w):
    d = direction - (direction @ w) / (w @ w) * w
    return d / d.norm()
""", "it lost more than that"),
    ("check_without_excess", """
def without_excess(n_few, d_few, n_many, d_many):
    return d_many
""", "its share of the excess"),
    ("check_without_excess", """
def without_excess(n_few, d_few, n_many, d_many):
    return (d_few + d_many) / 2
""", "you averaged the two"),
    ("check_without_excess", """
def without_excess(n_few, d_few, n_many, d_many):
    return 2 * d_many - d_few
""", "twice as many images"),
    ("check_without_excess", """
def without_excess(n_few, d_few, n_many, d_many):
    few, many = n_few**0.5, n_many**0.5
    return (many * d_many - few * d_few) / (many - few)
""", "as a standard error does"),
    ("check_coverage", """
def coverage(real, made, k=3):
    radius = torch.cdist(made, made).kthvalue(k + 1, dim=1).values
    return (torch.cdist(real, made) <= radius).any(1).double().mean().item()
""", "this is recall"),
    ("check_coverage", """
def coverage(real, made, k=3):
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values
    return (torch.cdist(made, real) <= radius).any(1).double().mean().item()
""", "this is precision"),
    ("check_coverage", """
def coverage(real, made, k=3):
    radius = torch.cdist(real, real).kthvalue(k, dim=1).values
    return (torch.cdist(real, made) <= radius[:, None]).any(1).double().mean().item()
""", "your balls are too small"),
    ("check_coverage", """
def coverage(real, made, k=3):
    radius = torch.cdist(real, real).kthvalue(k + 1, dim=1).values.mean()
    return (torch.cdist(real, made) <= radius).any(1).double().mean().item()
""", "one radius"),
    ("check_coverage", """
def coverage(real, made, k=3):
    radius = torch.cdist(real, real).kthvalue(4, dim=1).values
    return (torch.cdist(real, made) <= radius[:, None]).any(1).double().mean().item()
""", "a k of your own"),
]
