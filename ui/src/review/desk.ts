// What a reviewer has on the desk: the draft of one judgement, and what each key does to it. Pure.

import type { Box, ReviewItem } from "../types";

export type Draft = { value: unknown; boxes: Box[]; selected: number };

/** The draft an item starts with: the suggestion where it may be seen, else nothing. */
export function opened(item: ReviewItem): Draft {
  const s = item.suggestion;
  return { value: s ? s.value : undefined, boxes: s && item.regions ? s.regions.map((b) => ({ ...b })) : [], selected: -1 };
}

/** Drop the suggestion; of two labels the other one is meant. */
export function rejected(item: ReviewItem, draft: Draft): Draft {
  const others = item.labels.filter((label) => label !== item.suggestion?.value);
  const value = item.suggestion && others.length === 1 ? others[0] : undefined;
  return { ...draft, value, boxes: [], selected: -1 };
}

/** The label that a new box gets: that of the selected box, the last box, or a chosen label. */
export function boxLabel(item: ReviewItem, draft: Draft): string {
  const like = draft.boxes[draft.selected] ?? draft.boxes.at(-1) ?? item.suggestion?.regions[0];
  return like?.label ?? (typeof draft.value === "string" ? draft.value : (item.labels.at(-1) ?? "box"));
}

export function without(draft: Draft, index: number): Draft {
  return { ...draft, boxes: draft.boxes.filter((_b, i) => i !== index), selected: -1 };
}

/** What still keeps the draft from being submitted, in words; empty when nothing does. */
export function missing(draft: Draft): string {
  return draft.value === undefined || draft.value === "" ? "Choose a label first." : "";
}

/** The words that the model heard: on sound, its regions are spans of seconds with a word each. */
export function heard(item: ReviewItem): Box[] {
  return item.media_type.startsWith("audio/") ? (item.suggestion?.regions ?? []) : [];
}

/** The boxes with one more class: that of the selected box becomes the next, or the one before. */
export function reclassified(draft: Draft, classes: readonly string[], step: number): Draft {
  const box = draft.boxes[draft.selected];
  if (!box || classes.length < 2) return draft;
  const at = Math.max(0, classes.indexOf(box.label));
  return named(draft, draft.selected, classes[(at + step + classes.length) % classes.length]!);
}

/** The draft with one box at another place; the others stay the same objects. */
export function placed(draft: Draft, index: number, box: Box): Draft {
  return { ...draft, boxes: draft.boxes.map((b, i) => (i === index ? box : b)) };
}

export function added(draft: Draft, box: Box): Draft {
  return { ...draft, boxes: [...draft.boxes, box], selected: draft.boxes.length };
}

export function named(draft: Draft, index: number, label: string): Draft {
  return { ...draft, boxes: draft.boxes.map((b, i) => (i === index ? { ...b, label } : b)) };
}

/** The classes a box may have: those on the desk, of the suggestion, and the endpoint's labels. */
export function classes(item: ReviewItem, draft: Draft): string[] {
  const seen = [...draft.boxes, ...(item.suggestion?.regions ?? [])].map((b) => b.label);
  return [...new Set([...seen.sort(), ...item.labels])];
}

/** What the server takes: whole boxes without the model's confidence. */
export function judgement(item: ReviewItem, draft: Draft): { value: unknown; regions: Box[] } {
  const value = item.kind === "number" ? Number(draft.value) : draft.value;
  return { value, regions: !item.regions ? [] : draft.boxes.map(({ x1, y1, x2, y2, label }) => ({ x1, y1, x2, y2, label })) };
}
