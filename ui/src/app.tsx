// The frame: the login, the navigation, and the page that the address names.

import { useEffect } from "preact/hooks";
import { AlarmsPage } from "./pages/alarms";
import { AuditPage } from "./pages/audit";
import { AutomationPage } from "./pages/automation";
import { EndpointPage } from "./pages/endpoint";
import { LoginPage } from "./pages/login";
import { OverviewPage } from "./pages/overview";
import { ReadersPage } from "./pages/readers";
import { ReviewPage } from "./pages/review";
import { RolloutPage } from "./pages/rollout";
import { VersionsPage } from "./pages/versions";
import { Empty } from "./parts/empty";
import { Nav } from "./parts/nav";
import { Toasts } from "./parts/toast";
import { place } from "./route";
import { enter, gate, me } from "./session";

export function App() {
  useEffect(() => void enter(), []);
  if (gate.value === "asking") return <p class="quiet pad" role="status">Loading …</p>;
  if (gate.value === "down") return <Down />;
  if (gate.value === "login" || !me.value) return <LoginPage />;
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={toMain}>Skip to the content</a>
      <Nav me={me.value} />
      <main id="main" tabIndex={-1}><Page /></main>
      <Toasts />
    </div>
  );
}

function Page() {
  const { page, endpoint, rest } = place.value;
  const known = me.value!.endpoints;
  const name = endpoint || known[0] || "";
  if (["overview", "alarms", "audit"].includes(page) === false && !known.includes(name)) {
    return <Empty title={`There is no endpoint “${name}”`}>This project has: {known.join(", ") || "none yet"}.</Empty>;
  }
  switch (page) {
    case "overview": return <OverviewPage />;
    case "metrics": return <EndpointPage key={name} endpoint={name} />;
    case "rollout": return <RolloutPage key={name} endpoint={name} id={rest} />;
    case "automation": return <AutomationPage key={name} endpoint={name} />;
    case "versions": return <VersionsPage key={name} endpoint={name} />;
    case "readers": return <ReadersPage key={name} endpoint={name} />;
    case "review": return <ReviewPage key={name} endpoint={name} />;
    case "alarms": return <AlarmsPage />;
    case "audit": return <AuditPage />;
    default: return <Empty title="There is no such page">Go back to the <a href="#/overview">overview</a>.</Empty>;
  }
}

function Down() {
  return (
    <main class="alone">
      <h1>The server does not answer</h1>
      <p>Requests are still served by the workers if they run; only this console is affected.</p>
      <button onClick={() => void enter()}>Try again</button>
    </main>
  );
}

function toMain(event: Event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
