// What a passed gate may be called: "shown" only where the evidence rules harm out, never for merely nothing seen.

import { clock, count, seconds } from "../format";
import type { RolloutDetail, Verdict } from "../types";
import type { FullPlan } from "./plan";

/** The state and the words of a verdict's badge. */
export function outcome(verdict: Verdict, rollout: Pick<RolloutDetail, "plan">): { state: string; text: string } {
  if (verdict.outcome === "fail") return { state: "fail", text: "worse: rolls back" };
  if (verdict.outcome === "wait") return { state: "wait", text: "waits for more" };
  if (verdict.outcome !== "pass") return { state: verdict.outcome, text: "no data yet" };
  if (verdict.numbers["shown_log_limit"] != null) return { state: "shown", text: "shown to be no worse" };
  return compared(verdict, rollout.plan as Partial<FullPlan>) ? { state: "not_contradicted", text: "not contradicted" } : { state: "none", text: "nothing to compare here" };
}

/** Whether the verdict's step sets the versions against each other, or against a constant. */
function compared(verdict: Verdict, plan: Partial<FullPlan>): boolean {
  const step = plan.steps?.[verdict.step], [name, slice] = verdict.gate.split(" @ ");
  if (!step) return true;
  if (step.share == null) return name === "wrong_decision" && !slice;
  return step.share < 1 || plan.gates?.find((g) => g.bad === name)?.["constant"] != null;
}

/** When the step can be decided, with the clock where the traffic says it. */
export function forecast(r: RolloutDetail): string {
  const f = r.forecast;
  if (!f) return "";
  if (!f.seconds || f.requests == null) return f.sentence;
  const more = f.requests ? `, after about ${count(f.requests)} more requests` : "";
  return `can be decided at about ${clock(r.now_us + f.seconds * 1e6).replace(/:\d\d$/, "")}, in ${seconds(f.seconds)} at the current traffic${more}`;
}
