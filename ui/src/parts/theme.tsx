// Light or dark: as the system says until the person says otherwise.

import { useEffect, useState } from "preact/hooks";

const KEY = "tenure.theme";
const NEXT: Record<string, string> = { auto: "light", light: "dark", dark: "auto" };

function stored(): string {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto";
  }
}

export function Theme() {
  const [theme, setTheme] = useState(stored);
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // private mode: the choice lasts for this page
    }
    window.dispatchEvent(new Event("themechange"));
  }, [theme]);
  return <button class="plain" onClick={() => setTheme(NEXT[theme] ?? "auto")}>Theme: {theme}</button>;
}
