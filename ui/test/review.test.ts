import { describe, expect, it } from "vitest";
import { added, classes, heard, judgement, named, placed, reclassified, type Draft } from "../src/review/desk";
import { diff } from "../src/review/diff";
import { bar, influence, said, signed, strongest } from "../src/review/influence";
import { quoted } from "../src/review/quoted";
import { spread, where } from "../src/review/range";
import { clock, column, peaked } from "../src/review/wave";
import type { Box, ReviewItem } from "../src/types";

const box = (label: string, x = 0): Box => ({ x1: x, y1: 0, x2: x + 5, y2: 5, label });
const draft = (boxes: Box[], selected = -1): Draft => ({ value: "defect", boxes, selected });
const item = (more: Partial<ReviewItem> = {}): ReviewItem => ({
  item: "i", token: "t", endpoint: "e", media_type: "audio/wav", record: null, blind: false, labels: [], regions: null, kind: "text",
  adjudicate: false, expires_us: 0, suggestion: { value: "two words", confidence: 0.5, version: "v", regions: [box("two"), box("words", 5)] }, ...more,
});

describe("a difference of texts", () => {
  it("keeps the longest common run of words", () => {
    expect(diff("seven of parts now", "seven of hearts now please")).toEqual([
      { text: "seven of", kind: "same" }, { text: "parts", kind: "removed" }, { text: "hearts", kind: "added" },
      { text: "now", kind: "same" }, { text: "please", kind: "added" },
    ]);
  });
  it("is nothing but removed or added where one side is empty", () => {
    expect(diff("", "a b")).toEqual([{ text: "a b", kind: "added" }]);
    expect(diff("a  b\n", "")).toEqual([{ text: "a b", kind: "removed" }]);
    expect(diff("", "")).toEqual([]);
  });
});

describe("boxes on the desk", () => {
  it("keep the objects that did not change", () => {
    const boxes = [box("a"), box("b"), box("c")];
    const next = placed(draft(boxes), 1, box("b", 9));
    expect([next.boxes[0], next.boxes[2]].every((b, i) => b === boxes[i * 2])).toBe(true);
    expect(next.boxes[1]!.x1).toBe(9);
  });
  it("go round the classes in both directions", () => {
    const d = draft([box("a")], 0);
    expect(reclassified(d, ["a", "b", "c"], -1).boxes[0]!.label).toBe("c");
    expect(reclassified(d, ["a", "b", "c"], 1).boxes[0]!.label).toBe("b");
    expect(reclassified({ ...d, selected: -1 }, ["a", "b"], 1)).toEqual({ ...d, selected: -1 });
    expect(named(d, 0, "z").boxes[0]!.label).toBe("z");
    expect(added(d, box("n")).selected).toBe(1);
  });
  it("may have the classes seen and the endpoint's labels, each once", () => {
    expect(classes(item({ labels: ["good", "two"] }), draft([box("x")]))).toEqual(["two", "words", "x", "good"]);
  });
});

it("words that were heard are not sent as boxes", () => {
  expect(heard(item()).map((w) => w.label)).toEqual(["two", "words"]);
  expect(heard(item({ media_type: "image/png" }))).toEqual([]);
  expect(judgement(item(), draft([box("two")])).regions).toEqual([]);
});

describe("a range", () => {
  const range = { low: 10, high: 20, mean: 15, quantiles: [] };
  it("says where a value lies", () => {
    expect([9.9, 10, 20, 21].map((n) => where(n, range))).toEqual(["below", "inside", "inside", "above"]);
    expect([0, 15, 99].map((n) => spread(n, range))).toEqual([1, 50, 99]);
    expect(spread(5, { ...range, low: 5, high: 5 })).toBe(50);
  });
});

describe("a waveform", () => {
  const outline = { rate: 8000, samples: 16, low: [-0.5, 0], high: [0.25, 0] };
  it("fills the height and shows silence as a line", () => {
    expect(peaked(outline)).toBe(0.5);
    expect(peaked({ ...outline, low: [0], high: [0] })).toBe(0.01);
    expect(column(outline, 0, 2)).toBe("M0 -0.500h1V1.000h-1z");
    expect(column(outline, 1, 2)).toBe("M1 -0.008h1V0.008h-1z");
  });
  it("says times", () => {
    expect([clock(0), clock(61.239), clock(Number.NaN)]).toEqual(["0:00.00", "1:01.24", "0:00.00"]);
  });
});

it("a text marks the words of the suggestion, and the space between two", () => {
  expect(quoted("A Missing hole, by it.", "missing hole by")).toEqual([
    { text: "A ", marked: false }, { text: "Missing hole", marked: true }, { text: ", by it.", marked: false },
  ]);
});

describe("what moved an answer", () => {
  const by = { age: 0.5, chol: -2, ca: 0 };
  const told = item({ suggestion: { value: "ill", confidence: 0.6, version: "v", regions: [], contributions: by } });
  it("is there only where the model says it", () => {
    expect(influence(told)).toEqual(by);
    expect(influence(item())).toBeNull();
    expect(influence(item({ suggestion: null }))).toBeNull();
    expect(influence({ ...told, suggestion: { ...told.suggestion!, contributions: {} } })).toBeNull();
  });
  it("puts the strongest first, whatever the sign, and names without a number last", () => {
    expect(strongest([{ name: "other" }, { name: "age" }, { name: "chol" }], by).map((f) => f.name)).toEqual(["chol", "age", "other"]);
  });
  it("draws from the middle, half the width for the strongest", () => {
    expect(bar(-2, by)).toEqual({ left: 0, width: 50 });
    expect(bar(0.5, by)).toEqual({ left: 50, width: 12.5 });
    expect(bar(0, { a: 0 })).toEqual({ left: 50, width: 0 });
  });
  it("is said in words", () => {
    expect(said(0.5, told)).toBe("speaks for ill by 0.5");
    expect(said(-2, told)).toBe("speaks against ill by 2");
    expect(said(-2, { ...told, kind: "number" })).toBe("lowered the answer by 2");
    expect([signed(0.5), signed(-2), signed(0)]).toEqual(["+0.5", "\u22122", "0"]);
  });
});
