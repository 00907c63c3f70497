// The evidence of each gate: how far it has gone towards its limit, and the sentence that says it; slices apart.

import { count, words } from "../format";
import { outcome } from "../rollout/wording";
import type { RolloutDetail, Verdict } from "../types";
import { Badge } from "./badge";

/** Share of the way to the limit, in [0, 1], from log_e and log_limit; null where a gate has no such numbers. */
export function progress(numbers: Record<string, number>): number | null {
  const now = numbers["max_log_e"] ?? numbers["log_e"];
  const limit = numbers["log_limit"] ?? numbers["limit"] ?? (numbers["alpha"] ? -Math.log(numbers["alpha"]) : undefined);
  if (now == null || !limit || !Number.isFinite(now)) return null;
  return Math.min(1, Math.max(0, now / limit));
}

/** A verdict's gate in words, and the slice that it is about; the empty text is all requests. */
export function named(gate: string): { gate: string; slice: string } {
  const [name = "", ...rest] = gate.split(" @ ");
  const slice = rest.join(" @ ");
  return { gate: words(name.replace("mean:", "mean ").replace("reaction:", "reaction: ")), slice };
}

const ORDER = ["fail", "wait", "no_data", "pass"];

/** All verdicts of a step: of all requests first, then each slice on its own, folded away unless it fails. */
export function EvidenceList({ verdicts, rollout }: { verdicts: Verdict[]; rollout: RolloutDetail }) {
  const slices = [...new Set(verdicts.map((v) => named(v.gate).slice).filter(Boolean))];
  const of = (slice: string) => verdicts.filter((v) => named(v.gate).slice === slice);
  return (
    <>
      <div class="gates">{of("").map((v) => <Evidence key={v.gate} verdict={v} rollout={rollout} />)}</div>
      {slices.map((slice) => {
        const worst = ORDER.map((o) => of(slice).find((v) => v.outcome === o)).find(Boolean);
        return (
          <details key={slice} open={worst?.outcome === "fail"}>
            <summary>Where {slice} {worst && <Badge {...outcome(worst, rollout)} />}</summary>
            <div class="gates">{of(slice).map((v) => <Evidence key={v.gate} verdict={v} rollout={rollout} />)}</div>
          </details>
        );
      })}
    </>
  );
}

export function Evidence({ verdict, rollout }: { verdict: Verdict; rollout: RolloutDetail }) {
  const share = progress(verdict.numbers);
  const title = named(verdict.gate).gate;
  const cells = rollout.evidence.filter((e) => e.gate === verdict.gate && e.step === verdict.step);
  const sum = (key: "x1" | "x0" | "n1" | "n0") => cells.reduce((total, cell) => total + cell[key], 0);
  return (
    <div class="gate">
      <div class="gate-head"><h3>{title}</h3><Badge {...outcome(verdict, rollout)} /></div>
      {share != null && (
        <div class="meter" role="meter" aria-label={`Evidence that the candidate is worse: ${words(verdict.gate)}`}
          aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(share * 100)}>
          <i class={verdict.outcome === "fail" ? "bad" : verdict.outcome === "pass" ? "fine" : ""} style={{ width: `${share * 100}%` }} />
          <b aria-hidden="true" />
        </div>
      )}
      <Band numbers={verdict.numbers} />
      <p>{verdict.sentence}</p>
      {cells.length > 0 && verdict.numbers["x1"] == null && (
        <p class="quiet">candidate {count(sum("x1"))} bad of {count(sum("n1"))} · stable {count(sum("x0"))} bad of {count(sum("n0"))}</p>
      )}
    </div>
  );
}

/** The band that a difference of means lies in, around no difference. */
function Band({ numbers }: { numbers: Record<string, number> }) {
  const { low, high, difference } = numbers;
  if (low == null || high == null || difference == null) return null;
  const reach = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const at = (x: number) => 50 + (48 * x) / reach;
  const said = `Difference of the means about 95 %: ${low.toPrecision(3)} to ${high.toPrecision(3)}`;
  return (
    <svg class="band" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={said}>
      <title>{said}</title>
      <line x1="50" x2="50" y1="0" y2="8" />
      <rect x={at(low)} y="3" width={at(high) - at(low)} height="2" />
      <rect x={at(difference) - 0.6} y="1" width="1.2" height="6" />
    </svg>
  );
}
