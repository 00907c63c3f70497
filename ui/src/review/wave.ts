// The outline of a clip, and its times in words. Pure.

export type Outline = { rate: number; samples: number; low: number[]; high: number[] };
export type Span = { from: number; to: number };

/** The greatest absolute sample, for drawing a quiet clip at full height; never zero. */
export function peaked(outline: Outline): number {
  let most = 0.01;
  for (let i = 0; i < outline.low.length; i++) most = Math.max(most, -outline.low[i]!, outline.high[i]!);
  return most;
}

/** One column of the outline as a part of a path; silence is a thin line. */
export function column(outline: Outline, i: number, gain: number): string {
  const top = Math.max(0.008, outline.high[i]! * gain);
  const bottom = Math.min(-0.008, outline.low[i]! * gain);
  return `M${i} ${(-top).toFixed(3)}h1V${(-bottom).toFixed(3)}h-1z`;
}

export function clock(seconds: number): string {
  const s = Number.isFinite(seconds) ? seconds : 0;
  return `${Math.floor(s / 60)}:${(s % 60).toFixed(2).padStart(5, "0")}`;
}
