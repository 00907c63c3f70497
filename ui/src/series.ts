// Sorting series into stages and charts.

import { short } from "./format";
import type { Series } from "./types";

export type Group = { stage: string; metrics: { metric: string; lines: Series[] }[] };

/** Stages in the order of a request: input, the pipeline's own, output, software. */
export function group(series: Series[], pipeline: string[]): Group[] {
  const order = ["input", ...pipeline, "output", "software"];
  const names = [...new Set(series.map((s) => s.stage))];
  names.sort((a, b) => rank(order, a) - rank(order, b) || a.localeCompare(b));
  return names.map((stage) => {
    const own = series.filter((s) => s.stage === stage);
    const metrics = [...new Set(own.map((s) => s.metric))];
    return { stage, metrics: metrics.map((metric) => ({ metric, lines: own.filter((s) => s.metric === metric).slice(0, 4) })) };
  });
}

export function versionName(version: string): string {
  return version === "*" ? "all" : short(version);
}

function rank(order: string[], name: string): number {
  const at = order.indexOf(name);
  return at < 0 ? order.length : at;
}
