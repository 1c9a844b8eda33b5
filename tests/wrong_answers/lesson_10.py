"""Wrong answers to the exercises of lesson 10: (check, code, part of the message)."""

WRONG = [
    ("check_auroc", """
def least_auroc(normal, broken, level=0.95):
    return 1.0
""", "what the bootstrap says"),
    ("check_auroc", """
def least_auroc(normal, broken, level=0.95):
    return (1 - level) ** (1 / (normal * broken))
""", "not independent"),
    ("check_auroc", """
def least_auroc(normal, broken, level=0.95):
    return (1 - level) ** (1 / max(normal, broken))
""", "the *smaller* side"),
    ("check_auroc", """
def least_auroc(normal, broken, level=0.95):
    return level ** (1 / min(normal, broken))
""", "not level"),
    ("check_threshold", """
def line_of_each(scores, camera, new_camera, false_alarm):
    line = conformal_threshold(scores, false_alarm)
    return torch.full((len(new_camera),), line, dtype=scores.dtype)
""", "all cameras together"),
    ("check_threshold", """
def line_of_each(scores, camera, new_camera, false_alarm):
    return torch.stack([scores[camera == k].quantile(1 - false_alarm)
                        for k in new_camera])
""", "breaks the promise"),
    ("check_threshold", """
def line_of_each(scores, camera, new_camera, false_alarm):
    return torch.tensor([conformal_threshold(scores[camera == k], false_alarm)
                         for k in camera.unique()])
""", "one for each new image"),
    ("check_threshold", """
def line_of_each(scores, camera, new_camera, false_alarm):
    own = [scores[camera == k] for k in new_camera]
    return torch.stack([s.mean() + 3 * s.std() for s in own])
""", "promise nothing"),
    ("check_signs", """
def either(scores, threshold, decision):
    return torch.where((scores > threshold) | (decision > 0), -1, 1)
""", "decision is flipped"),
    ("check_signs", """
def either(scores, threshold, decision):
    return torch.where((scores > threshold) & (decision < 0), -1, 1)
""", "one of the two is enough"),
    ("check_signs", """
def either(scores, threshold, decision):
    return torch.where((scores > threshold) | (decision < 0), 1, -1)
""", "the verdicts are flipped"),
    ("check_signs", """
def either(scores, threshold, decision):
    return torch.where((scores >= threshold) | (decision <= 0), -1, 1)
""", "equality is no alarm"),
    ("check_precision", """
def precision_in_use(precision, share, prevalence):
    return precision
""", "does not travel"),
    ("check_precision", """
def precision_in_use(precision, share, prevalence):
    return precision * prevalence / share
""", "multiply odds"),
    ("check_precision", """
def precision_in_use(precision, share, prevalence):
    return (precision / (1 - precision) * prevalence / (1 - prevalence)
            * (1 - share) / share)
""", "these are the odds"),
]
