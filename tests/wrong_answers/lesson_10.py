"""Wrong answers to the exercises of lesson 10: (check, code, part of the message)."""

WRONG = [
    ("check_auroc", """
def area(normal, anomalous):
    wins = (anomalous[:, None] < normal).double()
    ties = (anomalous[:, None] == normal).double()
    return (wins + ties / 2).mean()
""", "the sign is flipped"),
    ("check_auroc", """
def area(normal, anomalous):
    return (anomalous[:, None] > normal).double().mean()
""", "counted it as lost"),
    ("check_auroc", """
def area(normal, anomalous):
    return (anomalous[:, None] >= normal).double().mean()
""", "counted it as won"),
    ("check_auroc", """
def area(normal, anomalous):
    wins = (anomalous[:, None] > normal).double()
    ties = (anomalous[:, None] == normal).double()
    return (wins + ties / 2).sum()
""", "divide by the number of pairs"),
    ("check_threshold", """
def calibrated_threshold(scores, false_alarm):
    return torch.quantile(scores, 1 - false_alarm)
""", "breaks the promise"),
    ("check_threshold", """
def calibrated_threshold(scores, false_alarm):
    n = len(scores)
    return scores.sort().values[math.floor((n + 1) * false_alarm + 1e-9) - 1]
""", "lower tail"),
    ("check_threshold", """
def calibrated_threshold(scores, false_alarm):
    n = len(scores)
    above = math.floor((n + 1) * false_alarm + 1e-9)
    return scores.sort().values[n - above - 1]
""", "one too low"),
    ("check_threshold", """
def calibrated_threshold(scores, false_alarm):
    return scores.mean() + 3 * scores.std()
""", "promise nothing"),
    ("check_signs", """
def decide(scores, threshold):
    decision = scores - threshold
    return decision, torch.where(decision >= 0, 1, -1)
""", "the sign of the decision is flipped"),
    ("check_signs", """
def decide(scores, threshold):
    decision = threshold - scores
    return decision, torch.where(decision >= 0, -1, 1)
""", "the verdicts are flipped"),
    ("check_signs", """
def decide(scores, threshold):
    decision = threshold - scores
    return decision, torch.where(decision > 0, 1, -1)
""", "no alarm"),
    ("check_signs", """
def decide(scores, threshold):
    return -scores - threshold, torch.where(scores <= threshold, 1, -1)
""", "the offset is −threshold"),
    ("check_precision", """
def true_alarms(detection, false_alarm, prevalence):
    return detection / (detection + false_alarm)
""", "left out the prevalence"),
    ("check_precision", """
def true_alarms(detection, false_alarm, prevalence):
    return prevalence * detection / (prevalence * detection + false_alarm)
""", "weigh their rate by 1 − prevalence"),
    ("check_precision", """
def true_alarms(detection, false_alarm, prevalence):
    return prevalence * detection / ((1 - prevalence) * false_alarm)
""", "the odds"),
]
