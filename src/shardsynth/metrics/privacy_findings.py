"""Findings: which privacy figures a data steward has to know about, each in one sentence."""

from __future__ import annotations

from typing import Any

_ATTACKED = {
    "singling_out_one": "A single value of a synthetic row singles out one training record",
    "singling_out_many": "A combination of values of a synthetic row singles out one training record",
    "linkability": "Synthetic rows link the two halves of training records",
    "inference": "Synthetic rows give away a value of training records",
}


def findings(figures: dict[str, Any]) -> list[dict[str, str]]:
    """What a data steward has to know: for each finding ``level`` (``fail``, ``caution``), ``measure``, ``text``.

    Args:
        figures: Those of ``metrics.privacy.privacy``.
    """
    listed: list[dict[str, str]] = []

    def check(measure: str, low: float, caution: float, fail: float, text: str) -> None:
        """List ``text`` if ``low``, the lower end of the measure's interval, exceeds a bound."""
        if low > caution:
            listed.append({"level": "fail" if low > fail else "caution", "measure": measure, "text": text})

    closest, pulled, exact = figures["closest_record"], figures["pull"], figures["exact_matches"]
    near, member = figures["near_matches"], figures["membership"]
    check(
        "closest_record",
        *(closest["low"], 0.5, 0.55),
        f"{closest['closer_to_training']:.1%} of the rows lie closer to training than to unseen rows; 50 % is right.",
    )
    check(
        "pull",
        *(pulled["low"], 0.0, 0.1),
        f"For {pulled['nearest_is_training']:.1%} of the rows the nearest real row is a training row, "
        f"{pulled['expected']:.1%} by chance: as if {pulled['share']:.0%} of them were copied.",
    )
    check(
        "exact_matches",
        *(1 - exact["p_value"], 1 - 0.01, 1 - 1e-4),
        f"{exact['training_records_hit']:,} distinct training records were repeated value by value, against "
        f"{exact['holdout_records_hit']:,} unseen ones: more than chance repeats.",
    )
    check(
        "near_matches",
        *(near["low"], near["holdout_high"], 2 * near["holdout_high"]),
        f"{near['share']:.1%} of the rows lie as near to a training record as only {near['holdout_share']:.1%} of "
        "unseen real rows do.",
    )
    check(
        "membership",
        *(member["low"], 0.5, 0.6),
        f"An attacker tells isolated training records from unseen ones with an AUC of {member['auc']:.2f}; "
        "0.50 is guessing.",
    )
    for name, success in _ATTACKED.items():
        attack = (figures.get("attacks") or {}).get(name)
        if attack:
            check(
                f"attacks.{name}",
                *(attack["low"], 0.0, 0.05),
                f"{success} in {attack['attack']:.1%} of the attacks, {attack['control']:.1%} on unseen records: "
                f"a risk of {attack['risk']:.1%}.",
            )
    return listed
