// How much each field moved the model's answer: order, size and words. Pure.

import { number, words } from "../format";
import type { ReviewItem } from "../types";

export type Influence = Readonly<Record<string, number>>;

/** What the model says moved its answer; null where it says nothing or may not be seen. */
export function influence(item: ReviewItem): Influence | null {
  const said = item.suggestion?.contributions;
  return said && Object.keys(said).length > 0 ? said : null;
}

/** The names, those that moved the answer most first; equal ones stay in their order. */
export function strongest<T extends { name: string }>(fields: readonly T[], by: Influence): T[] {
  return [...fields].sort((a, b) => Math.abs(by[b.name] ?? 0) - Math.abs(by[a.name] ?? 0));
}

/** Half of the bar is the strongest of all; returns where this one starts and how wide it is, in percent. */
export function bar(n: number, by: Influence): { left: number; width: number } {
  const most = Math.max(...Object.values(by).map(Math.abs));
  const width = most > 0 ? (50 * Math.abs(n)) / most : 0;
  return { left: n < 0 ? 50 - width : 50, width };
}

/** Each field in words, for who does not see the bar. */
export function said(n: number, item: ReviewItem): string {
  if (n === 0) return "moved nothing";
  const size = number(Math.abs(n));
  if (item.kind === "number") return n > 0 ? `raised the answer by ${size}` : `lowered the answer by ${size}`;
  const answer = words(String(item.suggestion?.value ?? "the answer"));
  return n > 0 ? `speaks for ${answer} by ${size}` : `speaks against ${answer} by ${size}`;
}

export function signed(n: number): string {
  return n === 0 ? "0" : `${n > 0 ? "+" : "\u2212"}${number(Math.abs(n))}`;
}
