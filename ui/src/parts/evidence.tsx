// The evidence of one gate: how far it has gone towards its limit, and the sentence that says it.

import { count, words } from "../format";
import type { RolloutDetail, Verdict } from "../types";
import { Badge } from "./badge";

/** Share of the way to the limit, in [0, 1], from log_e and log_limit; null where a gate has no such numbers. */
export function progress(numbers: Record<string, number>): number | null {
  const now = numbers["max_log_e"] ?? numbers["log_e"];
  const limit = numbers["log_limit"] ?? numbers["limit"] ?? (numbers["alpha"] ? -Math.log(numbers["alpha"]) : undefined);
  if (now == null || !limit || !Number.isFinite(now)) return null;
  return Math.min(1, Math.max(0, now / limit));
}

export function Evidence({ verdict, rollout }: { verdict: Verdict; rollout: RolloutDetail }) {
  const share = progress(verdict.numbers);
  const cells = rollout.evidence.filter((e) => e.gate === verdict.gate && e.step === verdict.step);
  const sum = (key: "x1" | "x0" | "n1" | "n0") => cells.reduce((total, cell) => total + cell[key], 0);
  return (
    <div class="gate">
      <div class="gate-head"><h3>{words(verdict.gate.replace("reaction:", "reaction: "))}</h3><Badge state={verdict.outcome} /></div>
      {share != null && (
        <div class="meter" role="meter" aria-label={`Evidence that the candidate is worse: ${words(verdict.gate)}`}
          aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(share * 100)}>
          <i class={verdict.outcome === "fail" ? "bad" : verdict.outcome === "pass" ? "fine" : ""} style={{ width: `${share * 100}%` }} />
          <b aria-hidden="true" />
        </div>
      )}
      <p>{verdict.sentence}</p>
      {cells.length > 0 && verdict.numbers["x1"] == null && (
        <p class="quiet">candidate {count(sum("x1"))} bad of {count(sum("n1"))} · stable {count(sum("x0"))} bad of {count(sum("n0"))}</p>
      )}
    </div>
  );
}
