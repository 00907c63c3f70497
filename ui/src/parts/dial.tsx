// The degree of automation as five steps, from people only to the model alone.

import { words } from "../format";

export const LEVELS = ["human_only", "shadow", "assist", "partial", "full"] as const;

const MEANING: Record<string, string> = {
  human_only: "People decide everything.",
  shadow: "People decide; the model answers unseen, to be compared.",
  assist: "People decide and see what the model suggests.",
  partial: "The model decides where it is certified; people decide the rest.",
  full: "The model decides everything; a random share is audited.",
};

/** The same in one line, for a row of a list. */
export function MiniDial({ level, max }: { level: string; max: string }) {
  const at = LEVELS.indexOf(level as (typeof LEVELS)[number]);
  const top = LEVELS.indexOf(max as (typeof LEVELS)[number]);
  return (
    <span class="mini-dial" role="img" aria-label={`${words(level)}, at most ${words(max)}`}>
      {LEVELS.map((name, i) => <span key={name} class={i === at ? "at" : i < at ? "below" : i > top ? "beyond" : ""} />)}
    </span>
  );
}

export function Dial({ level, max }: { level: string; max?: string }) {
  const at = LEVELS.indexOf(level as (typeof LEVELS)[number]);
  const top = max ? LEVELS.indexOf(max as (typeof LEVELS)[number]) : LEVELS.length - 1;
  return (
    <div>
      <ol class="dial" aria-label="Degree of automation">
        {LEVELS.map((name, i) => (
          <li key={name} class={i === at ? "at" : i < at ? "below" : i > top ? "beyond" : ""} aria-current={i === at ? "step" : undefined}>
            <span class="dial-bar" aria-hidden="true" />
            <span class="dial-name">{words(name)}</span>
            {i > top && <span class="quiet">not allowed</span>}
          </li>
        ))}
      </ol>
      <p>{MEANING[level]}</p>
    </div>
  );
}
