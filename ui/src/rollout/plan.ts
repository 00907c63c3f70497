// A plan as it is typed: texts as in a project file ("5%", "2h"), which the server reads and refuses field by field.

import type { Step } from "../types";

export type Gate = { bad?: string; mean?: string; alpha: number } & Record<string, unknown>;
export type FullPlan = {
  steps: Step[]; gates: Gate[]; advance: "not_contradicted" | "shown"; deadline: number; operator_silence: number;
  keep_warm: number; second_person: boolean;
} & Record<string, unknown>;
export type Fault = { at: string; text: string };
export type Preview = { plan: FullPlan | null; stable: string | null; sentences: string[]; faults: Fault[] };

export type StepForm = { kind: "shadow" | "share"; share: string; min: string; min_labels: string; bake: string; approve: boolean };
export type GateForm = { rest: Gate; alpha: string };
export type Form = {
  steps: StepForm[]; gates: GateForm[]; advance: "not_contradicted" | "shown"; deadline: string; operator_silence: string;
  keep_warm: string; second_person: boolean; rest: Record<string, unknown>;
};

/** Where a ladder comes from: [key, name, what it is for, query]. */
export const LADDERS = [
  ["project", "As the project file says", "The plan of this endpoint in tenure.yaml.", ""],
  ["new", "New capability", "Nobody did this before: a small share of requests first, then a ramp.", "case=new"],
  ["assist", "Assist or automate a person's task", "In the shadow of the people who do it now, then a ramp.", "case=assist"],
  ["replace", "Replace a model, with care", "In shadow on the same requests, then in steps up to all.", "case=replace"],
  ["shadow", "Replace a model: shadow", "Unseen until people have judged it and one of them approves, then a ramp.", "strategy=shadow"],
  ["canary", "Replace a model: canary", "A small share from the start, then a ramp.", "strategy=canary"],
  ["blue_green", "Replace a model: blue-green", "Loaded unseen until approved, then everything at once; the old version stays warm.", "strategy=blue_green"],
] as const;

/** Gates that every endpoint can have; a project file can hold more. */
export const USUAL = [
  ["wrong_decision", "Wrong decisions, by what people judged"],
  ["over_latency", "Answers later than the latency budget"],
  ["failed", "Failed answers"],
  ["empty_output", "Empty answers"],
] as const;

export function share(of: number): string {
  return `${Number((of * 100).toFixed(4))}%`;
}

export function span(seconds: number): string {
  if (!seconds) return "0s";
  for (const [unit, letter] of [[86_400, "d"], [3_600, "h"], [60, "m"]] as const) if (seconds % unit === 0) return `${seconds / unit}${letter}`;
  return `${seconds}s`;
}

const KNOWN = ["steps", "gates", "advance", "deadline", "operator_silence", "keep_warm", "second_person", "loss", "format"];

export function form(plan: FullPlan): Form {
  return {
    steps: plan.steps.map((s) => ({
      kind: s.share == null ? "shadow" : "share", share: share(s.share ?? s.shadow ?? 1), min: String(s.min), min_labels: String(s.min_labels),
      bake: span(s.bake), approve: s.approve,
    })),
    gates: plan.gates.map((g) => ({ rest: g, alpha: share(g.alpha) })),
    advance: plan.advance, deadline: span(plan.deadline), operator_silence: span(plan.operator_silence), keep_warm: span(plan.keep_warm),
    second_person: plan.second_person, rest: Object.fromEntries(Object.entries(plan).filter(([k]) => !KNOWN.includes(k))),
  };
}

/** The plan as a project file's `rollout` section would have it. */
export function section(f: Form): Record<string, unknown> {
  return {
    ...(bare(f.rest) as Record<string, unknown>), advance: f.advance, deadline: f.deadline, operator_silence: f.operator_silence,
    keep_warm: f.keep_warm, second_person: f.second_person,
    steps: f.steps.map((s) => ({ [s.kind]: s.share, min: whole(s.min), min_labels: whole(s.min_labels), bake: s.bake, approve: s.approve })),
    gates: f.gates.map((g) => ({ ...(bare(g.rest) as object), alpha: g.alpha })),
  };
}

/** Numbers are sent as numbers; anything else as it is, for the server to refuse in its words. */
function whole(text: string): number | string {
  return /^\d+$/.test(text.trim()) ? Number(text) : text;
}

/** Spell values as a project file does: no keys without a value, durations with their unit. */
function bare(x: unknown): unknown {
  if (Array.isArray(x)) return x.map(bare);
  if (x === null || typeof x !== "object") return x;
  const kept = Object.entries(x).filter(([, v]) => v !== null && v !== "");
  return Object.fromEntries(kept.map(([k, v]) => [k, ["maturity", "epoch"].includes(k) ? span(v as number) : bare(v)]));
}

/** The refusals of one place and all below it. */
export function under(faults: Fault[], at: string): Fault[] {
  return faults.filter((f) => f.at === at || f.at.startsWith(`${at}.`) || f.at.startsWith(`${at}[`));
}

/** The refusals that no field shows. */
export function elsewhere(faults: Fault[]): Fault[] {
  const shown = /^(candidate|steps\b|gates\b|advance|deadline|operator_silence|keep_warm|second_person)/;
  return faults.filter((f) => !shown.test(f.at));
}

/** A step more before the last one: half way up. */
export function more(steps: StepForm[]): StepForm[] {
  const last = steps.at(-1), before = steps.filter((s) => s.kind === "share").at(-2);
  const low = before ? Number.parseFloat(before.share) : 0;
  const next: StepForm = { kind: "share", share: `${Number(((low + 100) / 2).toFixed(1))}%`, min: "200", min_labels: "0", bake: "0s", approve: false };
  return last ? [...steps.slice(0, -1), next, last] : [{ ...next, share: "100%" }];
}
