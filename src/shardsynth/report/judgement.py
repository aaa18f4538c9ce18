"""From metrics of a run to a verdict per model and question, and to a recommendation with its reasons.

The questions are: Is the table like the real one (fidelity)? Are its rows copies of people (privacy)? Can one work with
it (utility)? Can a classifier tell it from the real one (detection)? What does it cost?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shardsynth.report.plots import finite
from shardsynth.report.text import isolated, seconds
from shardsynth.report.verdicts import ScoredModel, card, compared_score, floor

AREAS = ("Fidelity", "Privacy", "Utility", "Detection", "Cost")
_RANK = {"best": 0, "good": 1, "fair": 2, "none": 3, "poor": 4}

#: Largest loss against training on real rows -> level and words.
_UTILITY = ((0.02, "best", "As useful as real"), (0.05, "good", "Nearly as useful"), (0.15, "fair", "Less useful"))
#: Largest AUC of the classifier -> level and words.
_DETECTION = ((0.6, "best", "Hard to tell apart"), (0.75, "good", "Mostly alike"), (0.9, "fair", "Can be told apart"))
#: Where the pull's interval still allows more copies than this share of rows, the test is called weak.
_WEAK_TEST = 0.25


@dataclass(frozen=True)
class Verdict:
    """The answer to one question about a model.

    Attributes:
        area: One of ``AREAS``.
        level: ``best``, ``good``, ``fair``, ``poor`` or ``none``.
        words: The answer in a few words.
        detail: The figures on which it rests.
    """

    area: str
    level: str
    words: str
    detail: str = ""


@dataclass(frozen=True)
class Recommendation:
    """Which model to take, and why.

    Attributes:
        model: Name of the recommended model, or empty.
        lead: The recommendation in one sentence.
        reasons: A sentence per reason.
        others: Name of each other model, and why it is not recommended.
    """

    model: str
    lead: str
    reasons: tuple[str, ...]
    others: tuple[tuple[str, str], ...]


def verdicts(name: str, metrics: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """The verdicts on one model, in the order of ``AREAS``.

    Args:
        name: The model's name.
        metrics: ``metrics/<name>.json``.
    """
    fidelity = card(name, metrics)
    detail = "" if fidelity.score is None else floor(fidelity.score)
    if detail and fidelity.reference is not None:
        detail += f" (real {floor(fidelity.reference)})"
    return (
        Verdict("Fidelity", fidelity.level, fidelity.verdict, detail),
        _privacy(metrics.get("privacy") or {}),
        _utility(metrics.get("utility") or {}),
        _detection(metrics.get("detection") or {}),
        _cost(metrics),
    )


def _privacy(figures: Mapping[str, Any]) -> Verdict:
    findings = figures.get("findings") or []
    failed = [f for f in findings if f["level"] == "fail"]
    words = [f for f in failed if f["measure"].startswith("text.")]
    if words:
        columns = "1 text column" if len(words) == 1 else f"{len(words)} text columns"
        return Verdict("Privacy", "poor", "Gives away real values", f"of {columns}")
    if not figures.get("closest_record"):
        return Verdict("Privacy", "none", "Not measured")
    closer = f"{100 * figures['closest_record']['closer_to_training']:.0f}\u202f% closer to training"
    if failed:
        return Verdict("Privacy", "poor", "Copies real rows", f"{len(failed)} of the tests failed")
    if findings:
        return Verdict("Privacy", "fair", "Look closer", closer)
    if (finite((figures.get("pull") or {}).get("high")) or 0.0) > _WEAK_TEST:
        return Verdict("Privacy", "good", "No sign of copying", "few holdout rows: a weak test")
    return Verdict("Privacy", "best", "No sign of copying", closer)


def _utility(figures: Mapping[str, Any]) -> Verdict:
    synthetic, real = finite(figures.get("train_synthetic")), finite(figures.get("train_real"))
    if synthetic is None or real is None:
        return Verdict("Utility", "none", "Not measured")
    metric = str(figures.get("metric", "")).split(",")[0].replace("R2", "R\u00b2")
    detail = f"{metric} {synthetic:.3f} (real {real:.3f})"
    if real - (finite(figures.get("guessing")) or 0.0) < 0.05:
        return Verdict("Utility", "none", "Nothing to predict", detail)
    loss = real - synthetic
    level, words = next(((lv, w) for most, lv, w in _UTILITY if loss <= most + 1e-9), ("poor", "Of little use"))
    return Verdict("Utility", level, words, detail)


def _detection(figures: Mapping[str, Any]) -> Verdict:
    auc = finite(figures.get("auc"))
    if auc is None:
        return Verdict("Detection", "none", "Not measured")
    level, words = next(((lv, w) for most, lv, w in _DETECTION if auc <= most), ("poor", "Easily told apart"))
    holdout, equal_rows = figures.get("holdout") or {}, figures.get("at_holdout_rows") or {}
    detail = f"AUC {auc:.3f}"
    if None not in (real := finite(holdout.get("auc")), synthetic := finite(equal_rows.get("auc"))):
        # The AUC rises with the number of rows: real and synthetic rows are compared at the same number.
        detail += f"; on {holdout['rows']:,} rows {synthetic:.3f} (real {real:.3f})"
    return Verdict("Detection", level, words, detail)


def _cost(metrics: Mapping[str, Any]) -> Verdict:
    stage_seconds: Mapping[str, Any] = metrics.get("seconds") or {}
    fit, million = finite(stage_seconds.get("fit")), seconds_per_million(metrics)
    if fit is None and million is None:
        return Verdict("Cost", "none", "Not measured")
    words = "" if fit is None else f"{seconds(fit)} to fit"
    return Verdict("Cost", "none", words, "" if million is None else f"{seconds(million)} per million rows")


def seconds_per_million(metrics: Mapping[str, Any], *, with_fit: bool = False) -> float | None:
    """Seconds of work for a million rows.

    Args:
        metrics: ``metrics/<name>.json`` of the model.
        with_fit: Count the fit too, in equal parts for each row that the run made.

    Returns:
        None where the seconds or the rows are not known.
    """
    stage_seconds: Mapping[str, Any] = metrics.get("seconds") or {}
    rows = finite((metrics.get("rows") or {}).get("synthetic"))
    work = [finite(stage_seconds.get(stage)) for stage in (("fit", "sample") if with_fit else ("sample",))]
    if not rows or any(part is None for part in work):
        return None
    return sum(part for part in work if part is not None) / rows * 1e6


def recommendation(models: Sequence[ScoredModel]) -> Recommendation | None:
    """The model to take.

    Models that copy rows come last. Of the others, the closest to real rows comes first, then the most useful, then the
    hardest to detect.

    Returns:
        None where there are no models. The recommendation names no model where each copies rows or is far from real.
    """
    if not models:
        return None
    verdicts_by_model = {model.name: verdicts(model.name, model.metrics) for model in models}
    scores = {model.name: compared_score(model.metrics) or 0.0 for model in models}

    def order(name: str) -> tuple[float, ...]:
        fidelity, privacy, utility, detection, _ = verdicts_by_model[name]
        # Only "fail" and "caution" move a model down: a weak test that finds nothing counts as much as a strong one.
        privacy_rank = {"fair": 1, "poor": 2}.get(privacy.level, 0)
        ranks = [_RANK[v.level] for v in (fidelity, utility, detection)]
        return (privacy_rank, *(float(rank) for rank in ranks), -scores[name])

    ranked = sorted(verdicts_by_model, key=order)
    best = ranked[0]
    fidelity, privacy, utility, detection, cost = verdicts_by_model[best]
    others = tuple((name, _why_not(verdicts_by_model[name], verdicts_by_model[best])) for name in ranked[1:])
    measured = privacy.level != "none"
    if privacy.level == "poor":
        lead = "No model can be recommended: each repeats training rows more than chance explains."
        return Recommendation("", lead, (), tuple((name, _findings(models, name)) for name in ranked))
    if fidelity.level in ("poor", "none"):
        lead = "No model can be recommended: none is close to the real table."
        reasons_against = tuple((name, _why_not(verdicts_by_model[name], verdicts_by_model[name])) for name in ranked)
        return Recommendation("", lead, (), reasons_against)
    name = isolated(best)
    lead = f"Take {name}." if measured else f"{name} is the closest to real, but its privacy was not measured."
    reasons = [
        f"Fidelity: {_lower(fidelity.words)}, {fidelity.detail}.",
        f"Privacy: {_lower(privacy.words)}{'; ' + privacy.detail if privacy.detail else ''}."
        if measured
        else "Privacy: there is no holdout to compare with. Set `evaluate.holdout` and run again.",
    ]
    if privacy.level == "fair":
        reasons.append(_findings(models, best))
    if utility.level != "none":
        reasons.append(f"Utility: {_lower(utility.words)}, {utility.detail}.")
    if detection.level != "none":
        reasons.append(f"Detection: {_lower(detection.words)}, {detection.detail}.")
    if cost.words:
        reasons.append(f"Cost: {cost.words}{', ' + cost.detail if cost.detail else ''}.")
    return Recommendation(best, lead, tuple(reasons), others)


def _why_not(model: Sequence[Verdict], best: Sequence[Verdict]) -> str:
    """The verdicts in which a model is poor, or worse than the best one, as a sentence."""
    worse = [
        f"{v.area.lower()}: {_lower(v.words)}{', ' + v.detail if v.detail else ''}"
        for v, other in zip(model, best)
        if v.area != "Cost"
        and (_RANK[v.level] > _RANK[other.level] or v.level == "poor")
        and not (v.area == "Privacy" and v.level == "good")  # a weak test says nothing against a model
    ]
    return ("; ".join(worse) or "a little farther from the real table") + "."


def _findings(models: Sequence[ScoredModel], name: str) -> str:
    """The findings about a model's privacy, one sentence after the other."""
    privacy = next(model for model in models if model.name == name).metrics.get("privacy") or {}
    return " ".join(finding["text"] for finding in privacy.get("findings") or [])


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
