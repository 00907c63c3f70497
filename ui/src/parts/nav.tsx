// Navigation: a column on wide screens, a menu on narrow ones.

import { useEffect, useState } from "preact/hooks";
import { connected } from "../live";
import { href, place } from "../route";
import { logout } from "../session";
import type { Me } from "../types";
import { Theme } from "./theme";

const OF_ENDPOINT = [
  ["metrics", "Metrics"],
  ["rollout", "Rollout"],
  ["automation", "Automation"],
  ["versions", "Versions"],
] as const;

export function Nav({ me }: { me: Me }) {
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [place.value]);
  return (
    <header class={open ? "nav open" : "nav"}>
      <div class="nav-top">
        <a class="brand" href="#/overview"><Mark />tenure <span class="project">{me.project}</span></a>
        <button class="menu plain" aria-expanded={open} aria-controls="links" onClick={() => setOpen(!open)}>Menu</button>
      </div>
      <nav id="links" aria-label="Pages">
        <ul>
          <Item page="overview" text="Overview" />
          <Item page="review" endpoint={me.endpoints[0]} text="Review" />
          <Item page="readers" endpoint={me.endpoints[0]} text="Readers" />
          <Item page="alarms" text="Alarms" />
        </ul>
        {me.endpoints.map((name) => (
          <section key={name}>
            <h2>{name}</h2>
            <ul>{OF_ENDPOINT.map(([page, text]) => <Item key={page} page={page} endpoint={name} text={text} exact />)}</ul>
          </section>
        ))}
        <ul><Item page="audit" text="Audit trail" /></ul>
        <div class="nav-foot">
          <Live />
          <p class="quiet">{me.name} · {me.role}</p>
          <div class="row"><Theme />{me.name !== "local" && <button class="plain" onClick={() => void logout()}>Log out</button>}</div>
        </div>
      </nav>
    </header>
  );
}

function Item({ page, endpoint = "", text, exact = false }: { page: string; endpoint?: string; text: string; exact?: boolean }) {
  const here = place.value.page === page && (!exact || place.value.endpoint === endpoint);
  return <li><a href={href(page, endpoint)} aria-current={here ? "page" : undefined}>{text}</a></li>;
}

function Live() {
  const state = connected.value;
  const text = state === null ? "connecting" : state ? "live" : "connection lost, trying again";
  return <p class={`live ${state === false ? "lost" : ""}`} role="status"><i aria-hidden="true" />{text}</p>;
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <rect width="32" height="32" rx="7" fill="currentColor" />
      <path d="M6 24h5v-5h5v-5h5V9h5" fill="none" stroke="var(--ground)" stroke-width="3" stroke-linejoin="round" stroke-linecap="round" />
    </svg>
  );
}
