import { useState } from "preact/hooks";
import { Fault } from "../api";
import { login } from "../session";

export function LoginPage() {
  const [token, setToken] = useState("");
  const [wrong, setWrong] = useState("");
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await login(token.trim());
    } catch (error) {
      setWrong(error instanceof Fault ? error.message : String(error));
    }
  };
  return (
    <main class="alone">
      <h1>tenure</h1>
      <form class="card" onSubmit={submit}>
        <label for="token">Your token</label>
        <input id="token" type="password" autocomplete="current-password" required value={token}
          aria-describedby="token-help" aria-invalid={wrong !== ""} onInput={(e) => setToken(e.currentTarget.value)} />
        <p id="token-help" class="quiet">An operator makes tokens with <code>tenure token add NAME --role reviewer</code>.</p>
        {wrong && <p class="notice bad" role="alert">{wrong}</p>}
        <button class="primary" type="submit">Log in</button>
      </form>
    </main>
  );
}
