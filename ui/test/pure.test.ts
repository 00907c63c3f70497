import { describe, expect, it } from "vitest";
import { ago, number, percent, seconds, short } from "../src/format";
import { align, yRange } from "../src/parts/chart";
import { named, progress } from "../src/parts/evidence";
import { ink } from "../src/parts/heatmap";
import { height, stepName } from "../src/parts/ladder";
import { boxLabel, judgement, missing, opened, rejected } from "../src/review/desk";
import { href, parse } from "../src/route";
import { group } from "../src/series";
import type { ReviewItem, Series, Step } from "../src/types";

const item = (more: Partial<ReviewItem> = {}): ReviewItem => ({
  item: "i", token: "t", endpoint: "phones", media_type: "image/png", record: null, blind: false, labels: ["good", "defect"], regions: "box",
  kind: "label", adjudicate: false, expires_us: 0,
  suggestion: { value: "defect", confidence: 0.8, version: "v", regions: [{ x1: 1, y1: 2, x2: 9, y2: 9, label: "scratch", confidence: 0.7 }] }, ...more,
});

describe("numbers", () => {
  it("are short", () => {
    expect([number(0.1234), number(1234.6), number(null), number(2.5e7)]).toEqual(["0.123", "1,235", "–", "2.5e+7"]);
    expect([percent(0.05), percent(0.1234), percent(null)]).toEqual(["5 %", "12.3 %", "–"]);
    expect([seconds(0.25), seconds(90), seconds(7200)]).toEqual(["250 ms", "2 min", "2 h"]);
    expect([ago(0, 120e6), ago(60e6, 0), ago(null, 0)]).toEqual(["2 min ago", "in 1 min", "–"]);
    expect(short("scratch-1@4f1c9a02")).toBe("scratch-1@4f1c");
  });
});

describe("addresses", () => {
  it("come back as they were made", () => {
    expect(parse(href("rollout", "a/b", "r-1"))).toEqual({ page: "rollout", endpoint: "a/b", rest: "r-1" });
    expect(parse(href("review", "phones"))).toEqual({ page: "review", endpoint: "phones", rest: "" });
    expect(parse("")).toEqual({ page: "overview", endpoint: "", rest: "" });
  });
});

describe("charts", () => {
  it("put lines with different times on one axis", () => {
    const lines = [{ name: "a", t_us: [1e6, 3e6], values: [1, 3] }, { name: "b", t_us: [2e6], values: [9] }];
    expect(align(lines)).toEqual([[1, 2, 3], [1, null, 3], [null, 9, null]]);
  });
  it("show the threshold, and do not go below zero for nothing", () => {
    const [low, high] = yRange(1, 2, [10]);
    expect(low).toBe(0);
    expect(high).toBeGreaterThan(10);
    expect(yRange(null, null, [])).toEqual([0, 1]);
  });
  it("are grouped in the order of a request", () => {
    const one = (stage: string): Series => ({ stage, metric: "m", version: "*", title: "", unit: "", t_us: [], mean: [], low: [], high: [], n: [], missing: [] });
    const cards = group(["software", "scratch", "input", "output", "crop"].map(one), ["crop", "scratch"]);
    expect(cards.map((card) => card.name)).toEqual(["input", "pipeline", "output", "software"]);
    expect(cards[1]!.charts.map((chart) => chart.stage)).toEqual(["crop", "scratch"]);
  });
  it("ink only what is beyond the noise", () => {
    expect([ink(0.02), ink(0.9)]).toEqual([0, 1]);
  });
});

describe("evidence", () => {
  it("is the share of the way to the limit", () => {
    expect(progress({ max_log_e: Math.log(20) / 2, alpha: 0.05 })).toBeCloseTo(0.5);
    expect(progress({ log_e: -3, alpha: 0.05 })).toBe(0);
    expect(progress({ x: 1 })).toBeNull();
  });
  it("names gates and their slices", () => {
    expect(named("mean:latency_ms @ line=3")).toEqual({ gate: "mean latency ms", slice: "line=3" });
    expect(named("reaction:redo")).toEqual({ gate: "reaction: redo", slice: "" });
  });
  it("names the rungs", () => {
    const step = (more: Partial<Step>): Step => ({ shadow: null, share: null, min: 0, min_labels: 0, bake: 0, approve: false, ...more });
    expect([stepName(step({ shadow: 1 })), stepName(step({ share: 0.05 })), stepName(undefined)]).toEqual(["Shadow", "5 %", "–"]);
    expect(height(step({ share: 1 }))).toBe(60);
  });
});

describe("a judgement", () => {
  it("starts with the suggestion, or blind with nothing", () => {
    expect(opened(item())).toMatchObject({ value: "defect", selected: -1 });
    const blind = opened(item({ suggestion: null, blind: true }));
    expect(blind).toEqual({ value: undefined, boxes: [], selected: -1 });
    expect(missing(blind)).not.toBe("");
  });
  it("rejected means the other of two labels, without its boxes", () => {
    expect(rejected(item(), opened(item()))).toMatchObject({ value: "good", boxes: [] });
    const three = item({ labels: ["a", "b", "defect"] });
    expect(rejected(three, opened(three)).value).toBeUndefined();
  });
  it("is sent without the model's confidence", () => {
    expect(judgement(item(), opened(item()))).toEqual({ value: "defect", regions: [{ x1: 1, y1: 2, x2: 9, y2: 9, label: "scratch" }] });
  });
  it("labels a new box like its neighbour", () => {
    expect(boxLabel(item(), opened(item()))).toBe("scratch");
    expect(boxLabel(item({ suggestion: null }), { value: "defect", boxes: [], selected: -1 })).toBe("defect");
  });
});
