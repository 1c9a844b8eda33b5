"Wrong answers to the exercises of lesson 08, and a part of what each check must say."
WRONG = [
    ("check_bits_per_image", """
def bits_per_image(counts, places):
    return places * math.log2(len(counts))
""", "priced every code alike"),
    ("check_bits_per_image", """
def bits_per_image(counts, places):
    p = counts / counts.sum()
    return places * torch.special.entr(p).sum()
""", "in nats"),
    ("check_bits_per_image", """
def bits_per_image(counts, places):
    p = counts / counts.sum()
    return torch.special.entr(p).sum() / math.log(2)
""", "one place"),
    ("check_bits_per_image", """
def bits_per_image(counts, places):
    return places * perplexity(counts)
""", "multiplied the perplexity"),
    ("check_bits_per_image", """
def bits_per_image(counts, places):
    p = counts / counts.sum()
    return -places * (p * p.log2()).sum()
""", "made it NaN"),
    ("check_bits_per_image", """
def bits_per_image(counts, places):
    p = counts / counts.sum()
    return counts.sum() * torch.special.entr(p).sum() / math.log(2)
""", "all codes that were counted"),
    ("check_residual_codes", """
def residual_codes(z, books):
    codes = torch.stack([nearest_codes(z, book) for book in books], 1)
    return codes, sum(book[c] for book, c in zip(books, codes.T))
""", "every book quantized z itself"),
    ("check_residual_codes", """
def residual_codes(z, books):
    left, codes = z, []
    for book in books:
        codes.append(nearest_codes(left, book))
        left = left + book[codes[-1]]
    return torch.stack(codes, 1), left - z
""", "take them away"),
    ("check_residual_codes", """
def residual_codes(z, books):
    left, codes = z, []
    for book in books:
        codes.append(nearest_codes(left, book))
        left = left - book[codes[-1]]
    return torch.stack(codes, 1), left
""", "what is left over"),
    ("check_residual_codes", """
def residual_codes(z, books):
    left, codes = z, []
    for book in books:
        codes.append(nearest_codes(left, book))
        left = left - book[codes[-1]]
    return torch.stack(codes), z - left
""", "(L, N)"),
    ("check_residual_codes", """
def residual_codes(z, books):
    left, codes = z, []
    for book in books:
        codes.append(nearest_codes(left, book))
        left = left - book[codes[-1]]
    return torch.stack(codes, 1), book[codes[-1]]
""", "last book"),
    ("check_residual_codes", """
def residual_codes(z, books):
    left, codes = z, []
    for book in books:
        codes.append(nearest_codes(left, book))
        left = z - book[codes[-1]]
    return torch.stack(codes, 1), left
""", "all books before it"),
    ("check_rotate", """
def rotate(z, e):
    return z + (e - z).detach()
""", "straight-through gradient"),
    ("check_rotate", """
def rotate(z, e):
    return e
""", "no gradient reaches z"),
    ("check_rotate", """
def rotate(z, e):
    unit_z, unit_e = F.normalize(z, dim=1), F.normalize(e, dim=1)
    r = F.normalize(unit_z + unit_e, dim=1)
    ratio = e.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True)
    def dot(a): return (a * z).sum(1, keepdim=True)
    return ratio * (z - 2 * r * dot(r) + 2 * unit_e * dot(unit_z))
""", "hold R and the ratio constant"),
    ("check_rotate", """
def rotate(z, e):
    with torch.no_grad():
        unit_z, unit_e = F.normalize(z, dim=1), F.normalize(e, dim=1)
        r = F.normalize(unit_z + unit_e, dim=1)
    def dot(a): return (a * z).sum(1, keepdim=True)
    return z - 2 * r * dot(r) + 2 * unit_e * dot(unit_z)
""", "length of z"),
    ("check_rotate", """
def rotate(z, e):
    with torch.no_grad():
        unit_z, unit_e = F.normalize(z, dim=1), F.normalize(e, dim=1)
        r = F.normalize(unit_z + unit_e, dim=1)
        ratio = e.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True)
    def dot(a): return (a * z).sum(1, keepdim=True)
    return ratio * (z - 2 * r * dot(r) + 2 * unit_z * dot(unit_e))
""", "turned the other way"),
    ("check_rotate", """
def rotate(z, e):
    ratio = e.norm(dim=1, keepdim=True) / z.norm(dim=1, keepdim=True)
    scaled = ratio.detach() * z
    return scaled + (e - scaled).detach()
""", "scaled and not turned"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    return (torch.tanh(z) * half).round() / half
""", "gradient is blocked"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    return z + ((torch.tanh(z) * half).round() / half - z).detach()
""", "passes around tanh"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    bounded = torch.tanh(z) * half
    return bounded + (bounded.round() - bounded).detach()
""", "whole numbers"),
    ("check_fsq", """
def fsq(z, levels):
    bounded = torch.tanh(z)
    return bounded + ((bounded * levels).round() / levels - bounded).detach()
""", "levels − 1 steps"),
    ("check_fsq", """
def fsq(z, levels):
    half = (levels - 1) / 2
    return z + ((z * half).round() / half - z).detach()
""", "beyond −1 and 1"),
]
