// Talks to the management API. Every failure is a `Fault` with the server's words.

export class Fault extends Error {
  constructor(
    message: string,
    readonly code: string,
    readonly status: number,
  ) {
    super(message);
  }

  /** The request never reached a server, or its answer never came back. */
  get lost(): boolean {
    return this.status === 0;
  }
}

const MARK = { "X-Tenure-Console": "1" };

async function call(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch {
    throw new Fault("The connection to the server is lost.", "connection_lost", 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Fault(body.error ?? `The server answered ${response.status}.`, body.code ?? "http_error", response.status);
}

export async function get<T>(path: string): Promise<T> {
  return (await call(path, {})).json();
}

export async function getBlob(path: string): Promise<Blob> {
  return (await call(path, {})).blob();
}

export async function send<T>(method: "POST" | "DELETE", path: string, body: unknown = {}, key?: string): Promise<T> {
  const headers: Record<string, string> = { ...MARK, "Content-Type": "application/json" };
  if (key) headers["Idempotency-Key"] = key;
  const response = await call(path, { method, headers, body: JSON.stringify(body) });
  return response.status === 204 ? (undefined as T) : response.json();
}

export const post = <T>(path: string, body: unknown = {}, key?: string) => send<T>("POST", path, body, key);
