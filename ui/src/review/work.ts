// A reviewer's work: leased items with their media fetched ahead, judgements out, leases kept alive.

import { signal } from "@preact/signals";
import { Fault, get, getBlob, post } from "../api";
import { say } from "../parts/toast";
import { me } from "../session";
import type { Box, ReviewItem } from "../types";
import { begun } from "./drafts";
import { key, Outbox, type Letter } from "./outbox";
import type { Outline } from "./wave";

const AHEAD = 3;
const POLL_MS = 4000;
const RENEW_MS = 30_000;
const IDLE_MS = 45_000;

export type Judgement = { value: unknown; regions: Box[] };

export class Work {
  readonly items = signal<ReviewItem[]>([]);
  readonly media = signal<ReadonlyMap<string, string>>(new Map());
  readonly outlines = signal<ReadonlyMap<string, Outline>>(new Map());
  readonly beside = signal(false); // kept from item to item, as is
  readonly byInfluence = signal(false);
  readonly asked = signal(false);
  readonly waiting = signal(0);
  readonly done = signal(0);
  readonly fault = signal<Fault | null>(null);
  private readonly outbox: Outbox;
  private timers: number[] = [];
  private busy = false;
  private readonly left = new Set<string>(); // tokens of what was judged or put aside: a lease that was asked for before may bring it again
  private seen = { active: performance.now(), spent: 0 };

  constructor(readonly endpoint: string) {
    this.outbox = new Outbox(
      (letter) => post(letter.path, letter.body, letter.key),
      { read: readLetters, write: writeLetters },
      (n) => (this.waiting.value = n),
      (fault) => say(fault.message, true),
      (tries) => new Promise((resolve) => window.setTimeout(resolve, Math.min(8000, 500 * 2 ** tries))),
    );
    this.waiting.value = this.outbox.waiting;
  }

  start(): void {
    void this.outbox.flush();
    void this.fill();
    this.timers = [
      window.setInterval(() => void this.fill(), POLL_MS),
      window.setInterval(() => this.renew(), RENEW_MS),
      window.setInterval(() => this.tick(), 1000),
    ];
  }

  stop(): void {
    this.timers.forEach((timer) => window.clearInterval(timer));
    for (const item of this.items.value) void post(`${path(item)}/release`, { token: item.token }).catch(() => {});
    for (const url of this.media.value.values()) URL.revokeObjectURL(url);
  }

  /** Somebody is at the keyboard: time counts as active. */
  touch(): void {
    this.seen.active = performance.now();
  }

  /** Keys may come faster than the page is drawn: what was pressed for an item that is gone is not for the next one. */
  private gone(item: ReviewItem): boolean {
    return this.items.value[0]?.token !== item.token;
  }

  submit(item: ReviewItem, judgement: Judgement): void {
    if (this.gone(item)) return;
    const body = { token: item.token, ...judgement, seconds: this.seen.spent };
    this.next();
    this.done.value += 1;
    this.outbox.add({ path: `${path(item)}/judgements`, body, key: key() });
  }

  skip(item: ReviewItem, reason: string): void {
    if (this.gone(item)) return;
    this.next();
    this.outbox.add({ path: `${path(item)}/skip`, body: { token: item.token, reason }, key: key() });
  }

  escalate(item: ReviewItem, reason: string): void {
    if (this.gone(item)) return;
    this.next();
    this.outbox.add({ path: `${path(item)}/escalate`, body: { token: item.token, reason }, key: key() });
  }

  /** Take the last judgement back; the item comes up again. */
  async undo(): Promise<void> {
    await this.outbox.flush();
    try {
      const { item } = await post<{ item: ReviewItem }>("/api/reviews/undo");
      void this.fetchMedia(item);
      this.items.value = [item, ...this.items.value.filter((other) => other.item !== item.item)];
      this.done.value = Math.max(0, this.done.value - 1);
      this.reset();
      say("Your last judgement is taken back.");
    } catch (error) {
      say(error instanceof Fault ? error.message : String(error), true);
    }
  }

  private next(): void {
    const [first, ...rest] = this.items.value;
    if (first) this.left.add(first.token);
    this.items.value = rest;
    this.reset();
    void this.fill();
  }

  private async fill(): Promise<void> {
    const want = AHEAD - this.items.value.length;
    if (want <= 0 || this.busy) return;
    this.busy = true;
    try {
      const url = `/api/reviews/lease?n=${want}&endpoint=${encodeURIComponent(this.endpoint)}`;
      const { items } = await post<{ items: ReviewItem[] }>(url);
      const known = new Set(this.items.value.map((item) => item.item));
      const fresh = items.filter((item) => !known.has(item.item) && !this.left.has(item.token));
      if (this.items.value.length === 0 && fresh.length) this.reset();
      fresh.sort((a, b) => Number(begun(b)) - Number(begun(a))); // after a reload, go on where the hand was
      this.items.value = [...this.items.value, ...fresh];
      this.fault.value = null;
      await Promise.all(fresh.map((item) => this.fetchMedia(item)));
    } catch (error) {
      this.fault.value = error instanceof Fault ? error : null;
    }
    this.busy = false;
    this.asked.value = true;
  }

  private async fetchMedia(item: ReviewItem): Promise<void> {
    if (!/^(image|audio)\//.test(item.media_type) || this.media.value.has(item.item)) return;
    try {
      const sound = item.media_type.startsWith("audio/");
      const url = URL.createObjectURL(await getBlob(`${path(item)}/${sound ? "sound" : "media"}`));
      this.media.value = new Map([...this.media.value, [item.item, url]]);
      if (!sound) return;
      const outline = await get<Outline>(`${path(item)}/waveform?columns=1200`); // first: others change the map meanwhile
      this.outlines.value = new Map([...this.outlines.value, [item.item, outline]]);
    } catch (error) {
      if (error instanceof Fault && !error.lost && error.status < 500) this.media.value = new Map([...this.media.value, [item.item, ""]]);
    }
  }

  private renew(): void {
    for (const item of this.items.value) {
      post(`${path(item)}/renew`, { token: item.token }).catch((error) => {
        if (!(error instanceof Fault) || error.lost) return;
        this.items.value = this.items.value.filter((other) => other.item !== item.item);
      });
    }
  }

  private reset(): void {
    const now = performance.now();
    this.seen = { active: now, spent: 0 };
  }

  private tick(): void {
    const idle = performance.now() - this.seen.active > IDLE_MS;
    if (!document.hidden && !idle) this.seen.spent += 1;
  }
}

export function path(item: ReviewItem): string {
  return `/api/reviews/${encodeURIComponent(item.item)}`;
}

/** Each person has an outbox of their own: a judgement is sent under the name of who made it. */
const shelf = () => `tenure.outbox.${me.value?.name ?? ""}`;

function readLetters(): Letter[] {
  try {
    return JSON.parse(localStorage.getItem(shelf()) ?? "[]");
  } catch {
    return [];
  }
}

function writeLetters(letters: Letter[]): void {
  try {
    localStorage.setItem(shelf(), JSON.stringify(letters));
  } catch {
    // full or forbidden: the letters live as long as the page
  }
}
