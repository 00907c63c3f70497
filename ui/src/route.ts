// Addresses inside the page: `#/overview`, `#/e/phones/rollout`, `#/review/phones`.

import { signal } from "@preact/signals";

export type Place = { page: string; endpoint: string; rest: string };

export function parse(hash: string): Place {
  const parts = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const [first = "", second = "", third = "", fourth = ""] = parts;
  if (first === "e") return { page: third || "metrics", endpoint: second, rest: fourth };
  return { page: first || "overview", endpoint: second, rest: third };
}

export function href(page: string, endpoint = "", rest = ""): string {
  const tail = [endpoint, rest].filter(Boolean).map(encodeURIComponent);
  if (["metrics", "rollout", "automation", "versions"].includes(page)) {
    return `#/e/${encodeURIComponent(endpoint)}/${page}${rest ? `/${encodeURIComponent(rest)}` : ""}`;
  }
  return `#/${[page, ...tail].join("/")}`;
}

export const place = signal<Place>(parse(typeof location === "undefined" ? "" : location.hash));

export function follow(): void {
  window.addEventListener("hashchange", () => {
    place.value = parse(location.hash);
    document.querySelector<HTMLElement>("main h1")?.focus();
  });
}
