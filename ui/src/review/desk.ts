// What a reviewer has on the desk: the draft of one judgement, and what each key does to it. Pure.

import type { Box, ReviewItem } from "../types";

export type Draft = { value: unknown; boxes: Box[]; selected: number };

/** The draft an item starts with: the suggestion where it may be seen, else nothing. */
export function opened(item: ReviewItem): Draft {
  const s = item.suggestion;
  return { value: s ? s.value : undefined, boxes: s ? s.regions.map((b) => ({ ...b })) : [], selected: -1 };
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

/** What the server takes: whole boxes without the model's confidence. */
export function judgement(item: ReviewItem, draft: Draft): { value: unknown; regions: Box[] } {
  const value = item.kind === "number" ? Number(draft.value) : draft.value;
  return { value, regions: draft.boxes.map(({ x1, y1, x2, y2, label }) => ({ x1, y1, x2, y2, label })) };
}
