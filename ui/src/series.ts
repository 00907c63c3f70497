// Sorting series into stages and charts.

import { short } from "./format";
import type { Series } from "./types";

export type Group = { name: string; charts: { stage: string; metric: string; lines: Series[] }[] };

/** Stages in the order of a request: input, the pipeline's own, output, software. */
export function group(series: Series[], pipeline: string[]): Group[] {
  const order = ["input", ...pipeline, "output", "software"];
  const names = [...new Set(series.map((s) => s.stage))];
  names.sort((a, b) => rank(order, a) - rank(order, b) || a.localeCompare(b));
  const cards: Group[] = [];
  for (const stage of names) {
    const own = series.filter((s) => s.stage === stage);
    const charts = [...new Set(own.map((s) => s.metric))].map((metric) => ({ stage, metric, lines: own.filter((s) => s.metric === metric).slice(0, 4) }));
    const name = pipeline.includes(stage) ? "pipeline" : stage; // its stages share a card: they have one chart each
    const last = cards.at(-1);
    if (last?.name === name) last.charts.push(...charts);
    else cards.push({ name, charts });
  }
  return cards;
}

export function versionName(version: string): string {
  return version === "*" ? "all" : short(version);
}

function rank(order: string[], name: string): number {
  const at = order.indexOf(name);
  return at < 0 ? order.length : at;
}
