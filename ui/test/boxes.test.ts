import { describe, expect, it } from "vitest";
import { central, fitted, meant, moved, normal, resized, zoomed } from "../src/review/boxes";

const size = { width: 100, height: 80 };
const box = { x1: 10, y1: 20, x2: 30, y2: 50, label: "scratch" };

describe("boxes", () => {
  it("are put in order and kept inside the image", () => {
    expect(normal({ ...box, x1: 40, x2: -5, y2: 200 }, size)).toMatchObject({ x1: 0, x2: 40, y1: 20, y2: 80 });
  });
  it("keep their size when they meet the edge", () => {
    expect(moved(box, 500, -500, size)).toMatchObject({ x1: 80, x2: 100, y1: 0, y2: 30 });
  });
  it("may be dragged inside out by a corner", () => {
    expect(resized(box, "nw", 40, 0, size)).toMatchObject({ x1: 30, x2: 50, y1: 20, y2: 50 });
  });
  it("are drawn on purpose only when large enough", () => {
    expect(meant(box)).toBe(true);
    expect(meant({ ...box, x2: 12 })).toBe(false);
  });
  it("come up in the middle by key", () => {
    expect(central(size, "a")).toMatchObject({ x1: 40, x2: 60, y1: 32, y2: 48, label: "a" });
  });
});

describe("the view", () => {
  it("fits the whole image", () => {
    expect(fitted(size, { width: 200, height: 80 })).toEqual({ scale: 1, x: 50, y: 0 });
  });
  it("zooms around a point that stays where it is", () => {
    const before = { scale: 1, x: 10, y: 5 };
    const after = zoomed(before, 2, 60, 45);
    expect((60 - after.x) / after.scale).toBeCloseTo((60 - before.x) / before.scale);
    expect((45 - after.y) / after.scale).toBeCloseTo((45 - before.y) / before.scale);
  });
});
