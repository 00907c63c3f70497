// Who is logged in.

import { signal } from "@preact/signals";
import { Fault, get, post, send } from "./api";
import { connect, disconnect } from "./live";
import type { Me } from "./types";

export const me = signal<Me | null>(null);
export const gate = signal<"asking" | "login" | "in" | "down">("asking");

export async function enter(): Promise<void> {
  try {
    me.value = await get<Me>("/api/me");
    gate.value = "in";
    connect();
  } catch (error) {
    gate.value = error instanceof Fault && [401, 403].includes(error.status) ? "login" : "down";
  }
}

export async function login(token: string): Promise<void> {
  await post("/api/session", { token });
  await enter();
}

export async function logout(): Promise<void> {
  await send("DELETE", "/api/session");
  disconnect();
  me.value = null;
  gate.value = "login";
}

export const operates = () => me.value?.role === "operator";
export const judges = () => operates() || ["reviewer", "adjudicator"].includes(me.value?.role ?? "");
