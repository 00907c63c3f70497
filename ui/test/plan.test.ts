import { describe, expect, it } from "vitest";
import { elsewhere, form, type FullPlan, more, section, span, under } from "../src/rollout/plan";
import { outcome } from "../src/rollout/wording";
import type { RolloutDetail, Step, Verdict } from "../src/types";

const step = (of: Partial<Step>): Step => ({ shadow: null, share: null, min: 0, min_labels: 0, bake: 0, approve: false, ...of });
const plan: FullPlan = {
  steps: [step({ shadow: 1, min_labels: 300, approve: true }), step({ share: 0.05, min: 200, bake: 7200 }), step({ share: 1 })],
  gates: [{ bad: "wrong_decision", mean: "", alpha: 0.05, maturity: 0, margin: null }, { bad: "reaction:redo", mean: "", alpha: 0.01, maturity: 60, margin: null }],
  advance: "shown", deadline: 259_200, operator_silence: 0, keep_warm: 86_400, second_person: true, assign: "request", epoch: 600, slices: [], loss: {}, format: 1,
};

describe("a plan that is typed", () => {
  it("is spelled as in a project file, with nothing lost", () => {
    expect(section(form(plan))).toEqual({
      advance: "shown", deadline: "3d", operator_silence: "0s", keep_warm: "1d", second_person: true, assign: "request", epoch: "10m", slices: [],
      steps: [
        { shadow: "100%", min: 0, min_labels: 300, bake: "0s", approve: true }, { share: "5%", min: 200, min_labels: 0, bake: "2h", approve: false },
        { share: "100%", min: 0, min_labels: 0, bake: "0s", approve: false },
      ],
      gates: [{ bad: "wrong_decision", alpha: "5%", maturity: "0s" }, { bad: "reaction:redo", alpha: "1%", maturity: "1m" }],
    });
    expect([span(90), span(0), span(86_400)]).toEqual(["90s", "0s", "1d"]);
  });
  it("is sent as it was typed where it is no number, for the server to refuse", () => {
    const typed = form(plan);
    typed.steps[1]!.min = "many";
    expect((section(typed)["steps"] as { min: unknown }[])[1]!.min).toBe("many");
  });
  it("gets a step more below the last one", () => {
    expect(more(form(plan).steps).map((s) => s.share)).toEqual(["100%", "5%", "52.5%", "100%"]);
  });
});

describe("refusals", () => {
  const faults = [{ at: "steps[1].share", text: "a" }, { at: "steps[10]", text: "b" }, { at: "assign", text: "c" }, { at: "gates[0]", text: "d" }];
  it("stand at their field, and all others apart", () => {
    expect(under(faults, "steps[1]").map((f) => f.text)).toEqual(["a"]);
    expect(elsewhere(faults).map((f) => f.text)).toEqual(["c"]);
  });
});

describe("a gate that passes", () => {
  const said = (more: Partial<Verdict>, of: Partial<FullPlan> = {}) =>
    outcome({ rollout: "r", step: 1, gate: "failed", outcome: "pass", at_us: 0, numbers: {}, sentence: "", ...more }, { plan: { ...plan, ...of } } as unknown as RolloutDetail).text;
  it("is shown only where evidence showed it", () => {
    expect(said({ numbers: { shown_log_limit: 3 } })).toBe("shown to be no worse");
    expect(said({})).toBe("not contradicted");
  });
  it("is neither where nothing was compared", () => {
    expect(said({ step: 0 })).toBe("nothing to compare here");
    expect(said({ step: 2 })).toBe("nothing to compare here");
    expect(said({ step: 0, gate: "wrong_decision" })).toBe("not contradicted");
    expect(said({ step: 2 }, { gates: [{ bad: "failed", alpha: 0.05, constant: 0.02 }] })).toBe("not contradicted");
  });
});
