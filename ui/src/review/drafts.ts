// Drafts that outlive the page: a reload or a crash of the browser does not lose what was drawn or written.

import { me } from "../session";
import type { ReviewItem } from "../types";
import type { Draft } from "./desk";

const MOST = 20;
const REST_MS = 250;
type Saved = [item: string, draft: Draft][];
const shelf = () => `tenure.drafts.${me.value?.name ?? ""}`;

let waiting: { item: ReviewItem; draft: Draft } | null = null;
let timer = 0;

export function kept(item: ReviewItem): Draft | null {
  return read().find(([id]) => id === item.item)?.[1] ?? null;
}

export function begun(item: ReviewItem): boolean {
  return kept(item) !== null;
}

/** Keep a draft once the hand rests: a drag changes it many times a second. Older ones give way to newer. */
export function keep(item: ReviewItem, draft: Draft): void {
  waiting = { item, draft };
  window.clearTimeout(timer);
  timer = window.setTimeout(flush, REST_MS);
}

export function flush(): void {
  if (!waiting) return;
  const { item, draft } = waiting;
  waiting = null;
  const others = read().filter(([id]) => id !== item.item);
  write([[item.item, { ...draft, selected: -1 }] as Saved[number], ...others].slice(0, MOST));
}

export function dropDraft(item: ReviewItem): void {
  if (waiting?.item.item === item.item) waiting = null;
  write(read().filter(([id]) => id !== item.item));
}

function read(): Saved {
  try {
    return JSON.parse(localStorage.getItem(shelf()) ?? "[]");
  } catch {
    return [];
  }
}

function write(saved: Saved): void {
  try {
    localStorage.setItem(shelf(), JSON.stringify(saved));
  } catch {
    // full or forbidden: the draft lives as long as the page
  }
}
