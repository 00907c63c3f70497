"""Numbers that every function of the statistics must give, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import beta as beta_distribution

from tenure.stats import agreement, certificate, champion, interval, means, mismatch
from tenure.stats.agreement import Table
from tenure.stats.certificate import Drawn, WeightedCertificate
from tenure.stats.gate import (
    Cell,
    conditional_share,
    events_needed,
    family_log_e,
    harm_log_e,
    missing_log_e,
    noticeable_ratio,
    shown_log_e,
)

cells = st.lists(
    st.builds(Cell, st.floats(0.01, 0.99), st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=4
)


class TestGate:
    @pytest.mark.parametrize(
        ("counts", "e"),
        [
            ([Cell(0.05, 5, 3)], 3037.84),
            ([Cell(0.25, 12, 20)], 0.968181),
            ([Cell(0.05, 2, 10), Cell(0.25, 9, 6)], 64.1296),
            ([], 1.0),
            ([Cell(0.5, 0, 0)], 1.0),
        ],
    )
    def test_harm(self, counts: list[Cell], e: float) -> None:
        assert math.exp(harm_log_e(counts)) == pytest.approx(e, rel=2e-6)

    def test_events_needed(self) -> None:
        found = {s: (events_needed(s, 0.05), events_needed(s, 0.01)) for s in (0.01, 0.05, 0.1, 0.25, 0.5)}
        assert found == {0.01: (2, 3), 0.05: (2, 3), 0.1: (3, 4), 0.25: (4, 5), 0.5: (6, 9)}

    @given(cells, st.integers(0, 200), st.integers(0, 200))
    def test_splitting_a_class_changes_nothing(self, counts: list[Cell], a: int, b: int) -> None:
        first = counts[0]
        a, b = min(a, first.x1), min(b, first.x0)
        split = [Cell(first.rho, a, b), Cell(first.rho, first.x1 - a, first.x0 - b), *counts[1:]]
        assert harm_log_e(split) == pytest.approx(harm_log_e(counts), abs=1e-9)

    @given(cells)
    def test_one_more_bad_outcome_never_lowers_the_evidence(self, counts: list[Cell]) -> None:
        first = counts[0]
        more = [Cell(first.rho, first.x1 + 1, first.x0), *counts[1:]]
        assert harm_log_e(more) >= harm_log_e(counts)

    @given(cells, st.floats(0.05, 3.0))
    def test_harm_and_proof_never_both(self, counts: list[Cell], margin: float) -> None:
        strong = -math.log(0.001)
        assert not (harm_log_e(counts) >= strong and shown_log_e(counts, 0.0) >= strong)
        assert shown_log_e(counts, margin) == pytest.approx(shown_log_e(counts[::-1], margin))

    def test_a_known_arm_tells_nothing(self) -> None:
        assert harm_log_e([Cell(1.0, 50, 0)]) == pytest.approx(0.0, abs=1e-9)
        assert harm_log_e([Cell(0.0, 0, 50)]) == pytest.approx(0.0, abs=1e-9)

    @pytest.mark.parametrize(
        ("share", "margin", "events"),
        [(0.05, 2.0, 109), (0.5, 2.0, 32), (0.05, 1.0, 338), (0.5, 1.0, 84), (0.5, 0.25, 975)],
    )
    def test_shown_needs_about_so_many_events(self, share: float, margin: float, events: int) -> None:
        expected = [
            shown_log_e([Cell(share, round(n * share), n - round(n * share))], margin)
            for n in (events // 2, round(events * 1.25))
        ]
        assert expected[0] < -math.log(0.05) < expected[1]

    def test_family_contains_bonferroni(self) -> None:
        assert family_log_e([math.log(40.0), -math.inf]) == pytest.approx(math.log(20.0))
        assert family_log_e([0.0, 3.0], [0.0, 1.0]) == pytest.approx(3.0)
        assert family_log_e([]) == 0.0
        with pytest.raises(ValueError):
            family_log_e([1.0], [0.5])

    def test_missing_labels_are_two_sided(self) -> None:
        assert missing_log_e([Cell(0.5, 60, 10)]) > math.log(1000)
        assert missing_log_e([Cell(0.5, 10, 60)]) > math.log(1000)
        assert missing_log_e([Cell(0.5, 30, 30)]) < 0

    def test_conditional_share(self) -> None:
        assert conditional_share(0.25, None) == 0.25
        assert conditional_share(0.25, 0.05) == pytest.approx(0.2 / 0.95)
        with pytest.raises(ValueError):
            conditional_share(0.05, 0.25)

    def test_noticeable_ratio_falls_with_data(self) -> None:
        few = noticeable_ratio([Cell(0.05, 1, 40)], alpha=0.05)
        many = noticeable_ratio([Cell(0.5, 400, 400)], alpha=0.05)
        assert few is not None
        assert many is not None
        assert 1.2 < many < 1.6 < few
        assert noticeable_ratio([Cell(0.05, 0, 0)], alpha=0.05) is None

    def test_noticeable_ratio_is_noticed_nine_times_of_ten(self) -> None:
        rho, base = 0.1, 120
        ratio = noticeable_ratio([Cell(rho, 10, base)], alpha=0.05)
        assert ratio is not None
        rng = np.random.default_rng(1)
        x1, x0 = rng.poisson(ratio * base * rho / (1 - rho), 600), rng.poisson(base, 600)
        hits = [harm_log_e([Cell(rho, int(a), int(b))]) >= math.log(20) for a, b in zip(x1, x0, strict=True)]
        assert 0.85 < np.mean(hits) < 0.95

    def test_nonsense_is_refused(self) -> None:
        with pytest.raises(ValueError):
            harm_log_e([Cell(1.2, 1, 1)])
        with pytest.raises(ValueError):
            events_needed(1.0, 0.05)


class TestMismatch:
    @pytest.mark.parametrize(("counts", "e"), [((100, 900), 0.406818), ((150, 850), 11359.3), ((0, 0), 1.0)])
    def test_oracle(self, counts: tuple[int, int], e: float) -> None:
        assert math.exp(mismatch.mismatch_log_e((0.1, 0.9), counts)) == pytest.approx(e, rel=1e-5)

    def test_a_version_without_share_must_not_answer(self) -> None:
        assert mismatch.mismatch_log_e((1.0, 0.0), (5, 1)) == math.inf
        assert mismatch.mismatch_log_e((1.0, 0.0), (5, 0)) == pytest.approx(0.0)


class TestMeans:
    def test_oracle(self) -> None:
        assert math.exp(means.two_sided_log_e(3, 4)) == pytest.approx(16.3672, rel=1e-5)
        assert math.exp(means.one_sided_log_e(3, 4)) == pytest.approx(32.6151, rel=1e-5)
        assert math.exp(means.one_sided_log_e(0, 4)) == pytest.approx(0.447214, rel=1e-5)
        assert math.exp(means.one_sided_log_e(-2, 4)) == pytest.approx(0.163113, rel=1e-5)
        assert math.isfinite(means.one_sided_log_e(-50, 4))

    def test_the_band_is_where_the_e_value_is_small(self) -> None:
        low, high = means.band(0.02, 0.004, 0.01, 0.05)
        v = (0.01 / 0.004) ** 2
        for edge in (low, high):
            assert means.two_sided_log_e((0.02 - edge) / 0.004, v) == pytest.approx(-math.log(0.05))

    def test_rows_of_a_unit_go_together(self) -> None:
        rng = np.random.default_rng(0)
        level = rng.random(400)
        one = means.clustered_mean(np.ones(400), level)
        copied = means.clustered_mean(np.full(400, 50.0), 50 * level)
        assert one is not None
        assert copied is not None
        assert copied.variance == pytest.approx(one.variance)
        assert one.variance == pytest.approx(level.var(ddof=1) / 400)
        assert one.armed

    def test_few_or_unequal_units_do_not_arm(self) -> None:
        rows = np.ones(200)
        sums = np.zeros(200)
        sums[0] = 1.0
        mean = means.clustered_mean(rows, sums)
        assert mean is not None
        assert not mean.armed
        assert means.clustered_mean([5.0], [1.0]) is None


class TestIntervals:
    def test_oracle(self) -> None:
        level = 1 - 0.01 / 18
        assert interval.upper(50, 500, level) == pytest.approx(0.150771, abs=1e-6)
        assert interval.upper(2000, 20000, level) == pytest.approx(0.107091, abs=1e-6)
        low, high = interval.clopper_pearson(970, 1000)
        assert (low, high) == pytest.approx((0.957449, 0.979670), abs=1e-6)

    @given(st.integers(0, 1200), st.integers(0, 1200))
    def test_intervals_hold_the_estimate(self, quarters: int, rest: int) -> None:
        k, n = quarters / 4, (quarters + rest) / 4
        low, high = interval.clopper_pearson(k, n)
        assert 0.0 <= low <= (k / n if n else 0.5) <= high <= 1.0
        low, high = interval.wilson(k, n)
        assert 0.0 <= low <= high <= 1.0

    def test_bootstrap_over_units_is_wider_than_over_rows(self) -> None:
        rng = np.random.default_rng(3)
        good = (rng.random(60) < 0.7) * 20.0
        found = interval.unit_bootstrap(np.full(60, 20.0), good)
        assert found is not None
        low, high = interval.wilson(good.sum(), 1200)
        assert found[1] - found[0] > 2 * (high - low)
        assert interval.unit_bootstrap(np.ones(29), np.ones(29)) is None


class TestAgreement:
    table = Table(("pos", "neg"), ((10, 15), (15, 960)))

    def test_oracle(self) -> None:
        assert self.table.observed == pytest.approx(0.97)
        assert self.table.kappa == pytest.approx(0.384615, abs=1e-6)
        assert self.table.ac1 == pytest.approx(0.968463, abs=1e-6)
        assert self.table.specific("pos") == pytest.approx(0.4)
        assert self.table.specific("neg") == pytest.approx(0.984615, abs=1e-6)
        assert self.table.disagreements() == {("pos", "neg"): 15, ("neg", "pos"): 15}

    def test_undefined_is_none(self) -> None:
        one = Table(("pos", "neg"), ((0, 0), (0, 50)))
        assert (one.kappa, one.ac1, one.specific("pos")) == (None, None, None)
        assert Table((), ()).observed is None

    def test_of_counts_pairs(self) -> None:
        assert Table.of([("a", "b"), ("a", "a"), ("a", "b")], labels=("b",)).counts == ((0, 0), (2, 1))

    def test_tango(self) -> None:
        found = agreement.tango(30, 12, 1000, 0.02)
        assert (found.z, found.q) == pytest.approx((-0.306783, 0.0114504), rel=1e-5)
        assert agreement.tango(30, 12, 1000, 0.05).z == pytest.approx(-4.026303, rel=1e-6)
        assert agreement.tango(0, 0, 300, 0.02).z == pytest.approx(-2.474358, rel=1e-6)

    def test_mcnemar(self) -> None:
        assert agreement.mcnemar(30, 12) == pytest.approx(0.00791590, rel=1e-6)
        assert agreement.mcnemar(0, 0) == 1.0
        assert agreement.mcnemar_worse(5, 0) == pytest.approx(1 / 32)

    @given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400), st.floats(0.005, 0.2))
    def test_betting_on_pairs_falls_with_harm(self, b: int, c: int, rest: int, margin: float) -> None:
        n = b + c + rest
        now = agreement.tango_betting(b, c, n, margin)
        assert (
            agreement.tango_betting(b + 1, c, n + 1, margin)
            < now
            < agreement.tango_betting(b, c + 1, n + 1, margin)
        )

    def test_betting_is_fair_at_the_margin(self) -> None:
        """One step of the bet has mean 1 when the difference is exactly the margin."""
        p_b, p_c, margin = 0.06, 0.03, 0.03
        mean = sum(
            p * math.exp(agreement.tango_betting(*counts, 1, margin))
            for p, counts in ((p_b, (1, 0)), (p_c, (0, 1)), (1 - p_b - p_c, (0, 0)))
        )
        assert mean == pytest.approx(1.0)


class TestCertificate:
    def test_oracle(self) -> None:
        assert math.exp(certificate.certify_log_e(299, 0, 0.01)) == pytest.approx(12.6797, rel=1e-5)
        assert math.exp(certificate.certify_log_e(800, 1, 0.01)) == pytest.approx(70.0583, rel=1e-5)
        assert math.exp(certificate.revoke_log_e(100, 5, 0.01)) == pytest.approx(27.5149, rel=1e-5)
        assert math.exp(certificate.revoke_log_e(200, 8, 0.01)) == pytest.approx(73.0964, rel=1e-5)
        assert certificate.certify_log_e(0, 0, 0.01) == pytest.approx(0.0, abs=1e-12)
        assert certificate.revoke_log_e(0, 0, 0.01) == pytest.approx(0.0, abs=1e-12)

    @pytest.mark.parametrize(
        ("starts", "labels"), [(1, (350, 650, 880, 1085, 1457)), (4, (501, 816, 1058, 1272, 1660))]
    )
    def test_minimal_labels(self, starts: int, labels: tuple[int, ...]) -> None:
        goal = -math.log(0.05 / starts)
        for errors, n in zip((0, 1, 2, 3, 5), labels, strict=True):
            assert certificate.certify_log_e(n, errors, 0.01) >= goal
            assert certificate.certify_log_e(n - 1, errors, 0.01) < goal

    @pytest.mark.parametrize(("n", "k"), [(2_000, 1_000), (5_000, 400), (100_000, 2_000), (300, 300)])
    def test_hopeless_counts_never_certify_by_underflow(self, n: int, k: int) -> None:
        """The incomplete beta function underflows here; a floor under it would invent evidence."""
        assert certificate.certify_log_e(n, k, 0.01) < 0.0

    @pytest.mark.parametrize(("n", "k"), [(60_000, 0), (200_000, 100)])
    def test_spotless_audits_never_revoke_by_underflow(self, n: int, k: int) -> None:
        assert certificate.revoke_log_e(n, k, 0.01) < 0.0

    @pytest.mark.parametrize(
        ("n", "k", "bound"), [(50, 3, 0.02), (40, 30, 0.05), (900, 1, 0.01), (2000, 300, 0.02)]
    )
    def test_against_numerical_integration(self, n: int, k: int, bound: float) -> None:
        def ratio(p: float) -> float:
            return math.exp(k * math.log(p / bound) + (n - k) * math.log((1 - p) / (1 - bound)))

        for below, (a, b) in ((True, (0.5, 1.5 / bound)), (False, (1.0, 40.0))):
            if not below and k > n * bound * 5:
                continue
            low, high = (0.0, bound) if below else (bound, 1.0)
            prior = beta_distribution(a, b)
            mass = prior.cdf(bound) if below else prior.sf(bound)
            value = integrate.quad(lambda p, prior=prior: prior.pdf(p) * ratio(p), low, high, limit=500)[0] / mass
            found = certificate.certify_log_e(n, k, bound) if below else certificate.revoke_log_e(n, k, bound)
            assert math.exp(found) == pytest.approx(value, rel=1e-5)

    def test_the_series_joins_the_library_function(self) -> None:
        a, b = np.array([40.5, 200.5]), np.array([300.0, 2000.0])
        from scipy.special import betainc, betaln

        direct = betaln(a, b) + np.log(betainc(a, b, 0.05))
        assert certificate._log_partial_beta(a, b, 0.05) == pytest.approx(direct, rel=1e-10)

    def test_fallback(self) -> None:
        assert certificate.valid_set([0.01, 0.04, 0.012, 0.2], 0.05, (0, 3)) == [0]
        assert certificate.valid_set([0.01, 0.02, 0.012, 0.2], 0.05, (0, 3)) == [0, 1, 2]
        assert certificate.valid_set([], 0.05, ()) == []
        assert certificate.valid_set([0.04], 0.05, (0, 0, 0, 0)) == [0]  # all starts fall on the one threshold
        assert certificate.valid_set([0.02, 0.02, 0.03], 0.05, (1, 1)) == [1, 2]  # before the first start: none

    @given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.data())
    def test_more_evidence_never_invalidates(self, p: list[float], data: st.DataObject) -> None:
        smaller = [x * data.draw(st.floats(0.0, 1.0)) for x in p]
        starts = data.draw(st.lists(st.integers(0, len(p) - 1), min_size=1, max_size=4))
        few, more = (set(certificate.valid_set(x, 0.05, starts)) for x in (p, smaller))
        assert few <= more

    @given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=300))
    def test_grids_run_from_safe_to_everything(self, scores: list[float]) -> None:
        grid = certificate.make_grid(scores, bound=0.02, delta=0.05, planned=1500)
        assert grid == sorted(set(grid), reverse=True)
        assert grid[-1] == 0.0
        assert len(grid) <= 50

    def test_grid_shares(self) -> None:
        scores = np.linspace(0.0, 1.0, 10_001)
        grid = certificate.make_grid(list(scores), bound=0.01, delta=0.05, planned=2000)
        assert (scores >= grid[0]).mean() == pytest.approx(1.6 * 501 / 2000, abs=0.001)
        assert len(grid) == 50

    def test_starts(self) -> None:
        scores = np.linspace(0.0, 1.0, 10_001)
        grid = certificate.make_grid(list(scores), bound=0.05, delta=0.05, planned=5000)
        starts = certificate.geometric_starts(grid, list(scores))
        shares = [(scores >= grid[j]).mean() for j in starts]
        factors = np.divide(shares[1:], shares[:-1])
        assert (starts[0], starts[-1]) == (0, len(grid) - 1)
        assert factors == pytest.approx([factors.mean()] * 3, rel=0.1)
        assert certificate.geometric_starts([0.0], [0.2, 0.2]) == (0, 0, 0, 0)
        assert certificate.even_starts(50) == (0, 16, 32, 49)
        assert certificate.planned_starts(1252, bound=0.01, delta=0.05) == 1
        assert certificate.planned_starts(1253, bound=0.01, delta=0.05) == 4

    def test_labels_needed(self) -> None:
        assert certificate.labels_needed(0.01, 0.05, 0.0) == 501
        assert certificate.labels_needed(0.01, 0.05, 0.01) is None
        assert certificate.labels_needed(0.01, 0.05, 0.0099, limit=2000) is None
        needed = certificate.labels_needed(0.02, 0.05, 0.005)
        assert needed is not None
        assert certificate.certify_log_e(needed, needed * 0.005, 0.02) >= math.log(80)

    def test_weighted_steps(self) -> None:
        eta = 0.6 * 0.05 / 0.99
        assert math.log1p(-eta * 0.99 / 0.05) == pytest.approx(-0.916291, abs=1e-6)
        assert math.log1p(eta * 0.01 / 0.05) == pytest.approx(0.00604231, rel=1e-5)
        one = certificate.weighted_log_e([Drawn(0.05, 1, 0)], bound=0.01, floor=0.05)
        each = [0.02, 0.1, 0.3, 0.6, 0.95]
        assert one == pytest.approx(math.log(np.mean([1 + b / 0.99 * 0.01 for b in each])))

    def test_weighted_certificates_keep_integers(self) -> None:
        evidence = WeightedCertificate(0.01, 0.05)
        for wrong in [False] * 700 + [True]:
            evidence = evidence.add(0.05, wrong)
        evidence = evidence.add(1.0, False)
        assert set(evidence.cells) == {Drawn(0.05, 701, 1), Drawn(1.0, 1, 0)}
        assert evidence.log_e() == certificate.weighted_log_e(evidence.cells, bound=0.01, floor=0.05)

    def test_an_item_without_a_chance_forbids_the_claim(self) -> None:
        with pytest.raises(ValueError):
            certificate.weighted_log_e([Drawn(0.0, 0, 0)], bound=0.01, floor=0.05)

    def test_weighted_audits_certify_after_about_315(self) -> None:
        """Without errors, at 8.5 labels from below the line for each audit above it."""

        def enough(audits: int) -> bool:
            counts = [Drawn(0.05, audits, 0), Drawn(1.0, round(8.5 * audits), 0)]
            return certificate.weighted_log_e(counts, bound=0.01, floor=0.05) >= math.log(20)

        assert 300 < next(n for n in range(1, 1000) if enough(n)) < 340

    def test_bounded_losses_generalise_the_weighted_bets(self) -> None:
        losses = [0.0] * 400 + [1.0]
        assert certificate.bounded_loss_log_e(losses, 0.01) == pytest.approx(
            certificate.weighted_log_e([Drawn(1.0, 401, 1)], bound=0.01, floor=1.0)
        )
        with pytest.raises(ValueError):
            certificate.bounded_loss_log_e([1.5], 0.01)


class TestChampion:
    def test_holm(self) -> None:
        assert champion.holm([0.001, 0.02, 0.04], 0.05) == [True, True, True]
        assert champion.holm([0.03, 0.001, 0.2], 0.05) == [False, True, False]
        assert champion.holm([], 0.05) == []

    def test_attempts_spend_one_budget(self) -> None:
        assert sum(champion.attempt_level(0.05, k) for k in range(1, 10_000)) <= 0.05
        with pytest.raises(ValueError):
            champion.attempt_level(0.05, 0)

    def test_compare(self) -> None:
        assert champion.compare(30, 12, 1000, margin=0.05).verdict == "not worse"
        assert champion.compare(30, 12, 1000, margin=0.02).verdict == "not shown"
        assert champion.compare(0, 0, 100, margin=0.05).verdict == "too few"
        assert champion.compare(24, 12, 1000, margin=0.035, attempt=1).verdict == "not worse"
        assert champion.compare(24, 12, 1000, margin=0.03, attempt=9).verdict == "not shown"

    def test_units_count_once(self) -> None:
        rng = np.random.default_rng(0)
        better = -(rng.random(60) < 0.2).astype(float)
        found = champion.compare_units(np.ones(60), better, margin=0.02)
        assert (found.verdict, found.n) == ("not worse", 60)
        assert champion.compare_units(np.ones(20), better[:20], margin=0.02).verdict == "too few"

    def test_slices(self) -> None:
        found = champion.slices({"a": (14, 1), "b": (9, 7), "c": (3, 2)})
        assert found == {"a": "worse", "b": "not shown worse", "c": "too few"}
        assert champion.slices({}) == {}
