// Judgements on their way: kept until the server has them, each with its idempotency key, so that a lost
// connection neither loses nor doubles one.

import { Fault } from "../api";

export type Letter = { path: string; body: unknown; key: string };
export type Sender = (letter: Letter) => Promise<unknown>;
export type Store = { read(): Letter[]; write(letters: Letter[]): void };

export class Outbox {
  private letters: Letter[];
  private running: Promise<void> | null = null;

  constructor(
    private readonly send: Sender,
    private readonly store: Store,
    private readonly changed: (waiting: number) => void,
    private readonly refused: (fault: Fault, letter: Letter) => void,
    private readonly pause: (tries: number) => Promise<void>,
  ) {
    this.letters = store.read();
  }

  get waiting(): number {
    return this.letters.length;
  }

  add(letter: Letter): void {
    this.keep([...this.letters, letter]);
    void this.flush();
  }

  /** Send what waits, in order; resolves when nothing waits any more. */
  flush(): Promise<void> {
    this.running ??= this.run().finally(() => (this.running = null));
    return this.running;
  }

  private async run(): Promise<void> {
    for (let tries = 0; this.letters.length > 0; ) {
      const letter = this.letters[0]!;
      try {
        await this.send(letter);
      } catch (error) {
        if (retryable(error)) {
          await this.pause(tries++);
          continue;
        }
        this.refused(error as Fault, letter);
      }
      tries = 0;
      this.keep(this.letters.filter((l) => l !== letter));
    }
  }

  private keep(letters: Letter[]): void {
    this.letters = letters;
    this.store.write(letters);
    this.changed(letters.length);
  }
}

/** The server may not have seen it, or was not able to take it now. */
export function retryable(error: unknown): boolean {
  return error instanceof Fault && (error.lost || error.status === 503 || error.status === 502 || error.status === 504);
}

export function key(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
