// Where a number lies in the reference. Pure.

import type { Range } from "../types";

export function where(n: number, range: Range): "below" | "inside" | "above" {
  return n < range.low ? "below" : n > range.high ? "above" : "inside";
}

/** Percent of the way from the least to the greatest, kept in [1, 99] so that a mark at an end is seen. */
export function spread(n: number, range: Range): number {
  const width = range.high - range.low;
  return width > 0 ? Math.min(99, Math.max(1, (100 * (n - range.low)) / width)) : 50;
}
