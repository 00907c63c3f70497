import type { ComponentChildren } from "preact";
import type { Fault } from "../api";

/** What is not there yet, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return <div class="empty"><p class="empty-title">{title}</p>{children && <p>{children}</p>}</div>;
}

/** Loading, or what went wrong, until there is data. */
export function Waiting({ fault }: { fault: Fault | null }) {
  if (fault) return <div class="notice bad" role="alert">{fault.message}</div>;
  return <p class="quiet" role="status">Loading …</p>;
}

export function PageHead({ title, sub, children }: { title: string; sub?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <div class="page-head">
      <div><h1 tabIndex={-1}>{title}</h1>{sub && <p class="sub">{sub}</p>}</div>
      {children && <div class="row">{children}</div>}
    </div>
  );
}

export function Card({ title, side, children, wide }: { title?: string; side?: ComponentChildren; children: ComponentChildren; wide?: boolean }) {
  return (
    <section class={wide ? "card wide" : "card"} aria-label={title}>
      {title && <div class="card-head"><h2>{title}</h2>{side}</div>}
      {children}
    </section>
  );
}
