import { words } from "../format";

const TONE: Record<string, string> = {
  firing: "bad", failed: "bad", fail: "bad", rolled_back: "bad", revoked: "bad", conflict: "bad",
  acknowledged: "warn", pending: "warn", paused: "warn", wait: "warn", lapsed: "warn", no_data: "warn", draft: "warn",
  pass: "good", shown: "good", not_contradicted: "info", completed: "good", valid: "good", live: "good", registered: "info", running: "info", info: "info", trained: "info",
};
const SIGN: Record<string, string> = { bad: "▲", warn: "●", good: "✓", info: "▸", mute: "·" };

/** A state in a word; the sign tells it without the colour. */
export function Badge({ state, text }: { state: string; text?: string }) {
  const tone = TONE[state] ?? "mute";
  return <span class={`badge ${tone}`}><span aria-hidden="true">{SIGN[tone]}</span> {text ?? words(state)}</span>;
}
