// Short messages about what a command did.

import { signal } from "@preact/signals";
import { Fault } from "../api";

type Toast = { id: number; text: string; bad: boolean };
const toasts = signal<Toast[]>([]);
let next = 1;

export function say(text: string, bad = false): void {
  const toast = { id: next++, text, bad };
  toasts.value = [...toasts.value.slice(-2), toast];
  window.setTimeout(() => (toasts.value = toasts.value.filter((t) => t !== toast)), bad ? 9000 : 4000);
}

/** Run a command; say what happened. Returns whether it worked. */
export async function attempt(work: () => Promise<unknown>, done: string): Promise<boolean> {
  try {
    await work();
    say(done);
    return true;
  } catch (error) {
    say(error instanceof Fault ? error.message : String(error), true);
    return false;
  }
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.value.map((t) => <p key={t.id} class={t.bad ? "toast bad" : "toast"}>{t.text}</p>)}
    </div>
  );
}
