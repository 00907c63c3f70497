// The steps of a rollout as a ladder, lowest step at the bottom left; drawn to the width it has.

import { percent, seconds, short } from "../format";
import type { Rollout, Step } from "../types";

export function stepName(step: Step | undefined): string {
  if (!step) return "–";
  return step.share != null ? percent(step.share) : `Shadow${step.shadow != null && step.shadow < 1 ? ` ${percent(step.shadow)}` : ""}`;
}

export function stepNeeds(step: Step): string {
  const parts = [];
  if (step.min) parts.push(`${step.min} requests`);
  if (step.min_labels) parts.push(`${step.min_labels} labels`);
  if (step.bake) parts.push(`${seconds(step.bake)} bake`);
  if (step.approve) parts.push("approval");
  return parts.length ? parts.join(", ") : "no minimum";
}

export function Ladder({ rollout }: { rollout: Rollout }) {
  const steps = rollout.plan.steps ?? [];
  const done = rollout.state === "completed";
  return (
    <ol class="ladder" aria-label={`Ladder of ${short(rollout.candidate)}`}>
      {steps.map((step, i) => {
        const state = done || i < rollout.step ? "past" : i > rollout.step ? "next" : endState(rollout.state);
        return (
          <li key={i} class={`rung ${state}`} aria-current={i === rollout.step && !done ? "step" : undefined}>
            <svg viewBox="0 0 100 60" preserveAspectRatio="none" aria-hidden="true"><rect x="0" y={60 - height(step)} width="100" height={height(step)} /></svg>
            <strong>{stepName(step)}</strong>
            <span class="quiet">{stepNeeds(step)}</span>
            <span class="rung-state">{WORD[state]}</span>
          </li>
        );
      })}
    </ol>
  );
}

const WORD: Record<string, string> = { past: "✓ done", here: "▸ here", held: "● held here", stopped: "▲ stopped here", next: "ahead" };

function endState(state: string): string {
  if (state === "running") return "here";
  return state === "rolled_back" || state === "cancelled" ? "stopped" : "held";
}

/** Height of a rung, 6 to 60: shares on a root scale so that 1 % is still seen. */
export function height(step: Step): number {
  return step.share == null ? 6 : 8 + 52 * Math.sqrt(Math.min(1, step.share));
}
