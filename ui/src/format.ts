// Numbers and times as people read them.

export function count(n: number | null | undefined): string {
  return n == null ? "–" : Math.round(n).toLocaleString("en");
}

export function percent(share: number | null | undefined, digits = 1): string {
  if (share == null || Number.isNaN(share)) return "–";
  const value = share * 100;
  return `${Number.isInteger(value) ? value : value.toFixed(digits)} %`;
}

/** Three significant digits, without exponents for usual sizes. */
export function number(x: number | null | undefined): string {
  if (x == null || Number.isNaN(x)) return "–";
  const size = Math.abs(x);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return x.toExponential(1);
  if (size >= 100) return Math.round(x).toLocaleString("en");
  return String(Number(x.toPrecision(3)));
}

export function seconds(s: number | null | undefined): string {
  if (s == null) return "–";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 60) return `${Math.round(s)} s`;
  if (s < 3600) return `${Math.round(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export function ago(us: number | null | undefined, nowUs: number): string {
  if (us == null) return "–";
  const s = (nowUs - us) / 1e6;
  if (s < 0) return `in ${seconds(-s)}`;
  return s < 2 ? "just now" : `${seconds(s)} ago`;
}

export function clock(us: number | null | undefined): string {
  if (us == null) return "–";
  const date = new Date(us / 1000);
  const today = new Date().toDateString() === date.toDateString();
  const time = date.toLocaleTimeString("en-GB");
  return today ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}

export function words(name: string): string {
  return name.replaceAll("_", " ");
}

export function value(x: unknown): string {
  if (x === null || x === undefined) return "nothing";
  return typeof x === "object" ? JSON.stringify(x) : String(x);
}

/** `name@sha8` with half of the hash: enough to tell versions of one name apart. */
export function short(version: string | null | undefined): string {
  return version ? version.replace(/@([0-9a-f]{4})[0-9a-f]{4}$/, "@$1") : "–";
}
