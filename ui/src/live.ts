// Live data: one event stream for the page; a page's data is fetched again when one of its topics changes.

import { signal } from "@preact/signals";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Fault, get } from "./api";

export type Notice = { topic: string; endpoint: string; id: number };

export const connected = signal<boolean | null>(null); // null = not tried yet
const listeners = new Set<(notice: Notice) => void>();
let source: EventSource | null = null;

export function connect(): void {
  if (source) return;
  source = new EventSource("/api/stream");
  source.onopen = () => (connected.value = true);
  source.onerror = () => (connected.value = false); // the browser connects again by itself
  source.onmessage = (event) => {
    const notice = JSON.parse(event.data) as Notice;
    for (const listener of listeners) listener(notice);
  };
}

export function disconnect(): void {
  source?.close();
  source = null;
  connected.value = null;
}

export function listen(listener: (notice: Notice) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const GAP_MS = 700; // a busy server sends many notices; fetch at most this often

export type Loaded<T> = { data: T | null; fault: Fault | null; reload: () => void };

/** Fetch `path` now, and again when one of `topics` changes. */
export function useData<T>(path: string | null, topics: readonly string[]): Loaded<T> {
  const [data, setData] = useState<T | null>(null);
  const [fault, setFault] = useState<Fault | null>(null);
  const state = useRef({ busy: false, again: false, timer: 0, path });
  state.current.path = path;

  const load = useCallback(async () => {
    const s = state.current;
    if (s.busy || !s.path) {
      s.again = s.busy;
      return;
    }
    s.busy = true;
    const asked = s.path;
    try {
      const answer = await get<T>(asked);
      if (asked === s.path) {
        setData(answer);
        setFault(null);
      }
    } catch (error) {
      if (error instanceof Fault && asked === s.path) setFault(error);
    }
    s.timer = window.setTimeout(() => {
      s.busy = false;
      if (s.again || asked !== s.path) {
        s.again = false;
        void load();
      }
    }, asked === s.path ? GAP_MS : 0);
  }, []);

  useEffect(() => {
    setData(null);
    setFault(null);
    void load();
  }, [path]);

  useEffect(() => {
    const stop = listen((n) => (n.topic === "reset" || topics.includes(n.topic)) && void load());
    return () => {
      stop();
      window.clearTimeout(state.current.timer);
      state.current.busy = false;
    };
  }, [topics.join()]);

  return { data, fault, reload: () => void load() };
}
